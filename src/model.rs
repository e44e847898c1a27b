//! What the gateway knows: the rows a directory source delivers and the immutable, indexed snapshot built from them.

pub mod access;
pub mod api;
pub mod autostart;
pub mod balance;
pub mod engine;
pub mod frontends;
pub mod ids;
pub mod policy;
pub mod principal;
pub mod probe;
pub mod quota;
pub mod reject;
pub mod sharded;
pub mod snapshot;
pub mod tables;
pub mod upstream;
pub mod url;

/// A map that requests look things up in, with a hash that is quick and has a seed of its own.
pub type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
