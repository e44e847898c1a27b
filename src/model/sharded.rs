//! An immutable map in shards: a changed copy shares every shard but those that the change touches.

use foldhash::fast::FixedState;
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

const SHARDS: usize = 1024;

type Shard<K, V> = HashMap<K, V, FixedState>;

/// An immutable map. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Sharded<K, V> {
    shards: Arc<[Arc<Shard<K, V>>]>,
    len: usize,
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        let empty = Arc::new(Shard::default());
        Self { shards: vec![empty; SHARDS].into(), len: 0 }
    }
}

impl<K: Hash + Eq, V> Sharded<K, V> {
    /// The value under this key.
    #[must_use]
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        // Most gateways have nothing in most of their maps: then nothing is hashed.
        if self.len == 0 { None } else { self.shards[shard_of(key)].get(key) }
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Sharded<K, V> {
    /// The same with these entries put in place, added or, where there is no value, removed. Each shard is copied once at
    /// most.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = (K, Option<V>)>) -> Self {
        let mut touched: BTreeMap<usize, Shard<K, V>> = BTreeMap::new();
        let mut len = self.len;
        for (key, value) in changes {
            let at = shard_of(&key);
            let shard = touched.entry(at).or_insert_with(|| Shard::clone(&self.shards[at]));
            len -= shard.len();
            match value {
                Some(value) => drop(shard.insert(key, value)),
                None => drop(shard.remove(&key)),
            }
            len += shard.len();
        }
        if touched.is_empty() {
            return self.clone();
        }
        let mut shards = self.shards.to_vec();
        for (at, shard) in touched {
            shards[at] = Arc::new(shard);
        }
        Self { shards: shards.into(), len }
    }
}

impl<K: Hash + Eq, V: PartialEq> PartialEq for Sharded<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

impl<K: Hash + Eq, V: Eq> Eq for Sharded<K, V> {}

impl<K: Hash + Eq, V> FromIterator<(K, V)> for Sharded<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(entries: T) -> Self {
        let mut shards: Vec<Shard<K, V>> = (0..SHARDS).map(|_| Shard::default()).collect();
        for (key, value) in entries {
            shards[shard_of(&key)].insert(key, value);
        }
        let len = shards.iter().map(Shard::len).sum();
        if len == 0 { Self::default() } else { Self { shards: shards.into_iter().map(Arc::new).collect(), len } }
    }
}

fn shard_of<Q: Hash + ?Sized>(key: &Q) -> usize {
    // The seed is fixed: a shard's number must mean the same in every copy. Keys come from the operator, not from clients.
    FixedState::with_seed(0).hash_one(key) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_copy_leaves_the_original_alone() {
        let one: Sharded<String, u32> = (0..5000).map(|n| (n.to_string(), n)).collect();
        let two =
            one.with([("7".into(), Some(70)), ("8".into(), None), ("new".into(), Some(1)), ("none".into(), None)]);
        assert_eq!((one.len(), one.get("7"), one.get("8"), one.get("new")), (5000, Some(&7), Some(&8), None));
        assert_eq!((two.len(), two.get("7"), two.get("8"), two.get("new")), (5000, Some(&70), None, Some(&1)));
        let shared = one.shards.iter().zip(two.shards.iter()).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert!(shared >= SHARDS - 4, "{shared}");
        assert_eq!(two.iter().count(), two.len());
    }

    #[test]
    fn an_empty_map_has_nothing() {
        let empty = Sharded::<String, ()>::default();
        assert!(empty.is_empty() && empty.get("x").is_none() && empty.with([]).is_empty());
        let gone = empty.with([("x".to_owned(), Some(()))]).with([("x".to_owned(), None)]);
        assert!(gone.is_empty());
    }
}
