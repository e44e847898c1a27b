//! Which of FireFly's tables and columns there are. Its schema has grown over time: what is absent is as good as empty.

use crate::directory::postgres::Error;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;

/// A table of the front end, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Its name, in schema `public`.
    pub name: &'static str,
    /// The columns that are read.
    columns: &'static [&'static str],
    /// Whether there is no directory without it.
    is_required: bool,
    /// How its trigger finds out which organisations a change concerns.
    pub(super) concerns: &'static str,
}

const fn known(name: &'static str, concerns: &'static str, columns: &'static [&'static str]) -> Known {
    Known { name, columns, is_required: false, concerns }
}

const fn required(name: &'static str, concerns: &'static str, columns: &'static [&'static str]) -> Known {
    Known { name, columns, is_required: true, concerns }
}

/// All of them.
pub const TABLES: [Known; 10] = [
    required("organization", "'organisation'", &["id", "name", "workspaceUrl"]),
    required("member", "'owned'", &["organizationId", "userId"]),
    required("user", "'user'", &["id", "email", "banned"]),
    required("authoringTool", "'owned'", &["id", "organizationId", "appUrl", "status", "deletedAt"]),
    known("userSpns", "'address', 'email'", &["id", "email", "clientId", "clientSecret", "workspaceUrl", "createdAt"]),
    known("guestUser", "'anything'", &["id", "generatedEmail", "spnId", "workspaceId", "isExpired", "createdAt"]),
    known("guestSpns", "'anything'", &["id", "clientId", "clientSecret", "guestWorkspaceId"]),
    known("guestWorkspaces", "'anything'", &["id", "workspaceUrl"]),
    known("byodDatabricksSpns", "'owned'", &["id", "organizationId", "clientId", "clientSecret", "createdAt"]),
    known("byodDatabricksWorkspaces", "'owned'", &["id", "organizationId", "workspaceUrl", "spnId", "createdAt"]),
];

/// Ours, where it is there: sessions that were ended.
const REVOCATION: &str = "revocation";

/// A table that is there.
#[derive(Debug, Clone)]
struct Found {
    oid: u32,
    /// Schema and name, quoted.
    place: String,
    /// What may be read of it.
    columns: BTreeSet<String>,
    /// What may not.
    hidden: BTreeSet<String>,
}

impl Found {
    /// Whether there is such a column, readable or not.
    fn knows(&self, column: &str) -> bool {
        self.columns.contains(column) || self.hidden.contains(column)
    }
}

/// What there is of FireFly's tables, and of ours that add to them.
#[derive(Debug, Default)]
pub struct Tables {
    found: BTreeMap<String, Found>,
}

/// `spn_auth` is where old versions kept "userSpns".
const LOOK: &str = "select n.nspname::text, c.relname::text, c.oid,
      coalesce(array_agg(a.attname::text) filter (where has_column_privilege(c.oid, a.attnum, 'select')), '{}'),
      coalesce(array_agg(a.attname::text) filter (where not has_column_privilege(c.oid, a.attnum, 'select')), '{}')
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
      left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and has_schema_privilege(n.oid, 'usage')
      and ((n.nspname = 'public' and c.relname = any($1::text[]))
        or (n.nspname = 'spn_auth' and c.relname = 'userSpns')
        or (n.nspname = 'embedgate' and c.relname = 'revocation'))
    group by 1, 2, 3 order by n.nspname::text";

impl Tables {
    /// Looks what there is.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub async fn look(client: &impl GenericClient) -> Result<Self, Error> {
        let names: Vec<_> = TABLES.iter().map(|table| table.name).collect();
        let mut found = BTreeMap::new();
        for row in client.query_typed(LOOK, &[(&names, Type::TEXT_ARRAY)]).await? {
            let (schema, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let place = format!("{schema}.\"{name}\"");
            let names = |at| row.try_get::<_, Vec<String>>(at).map(|names| names.into_iter().collect());
            let (oid, columns, hidden) = (row.try_get(2)?, names(3)?, names(4)?);
            // `public` comes before `spn_auth`, and counts.
            found.entry(name).or_insert(Found { oid, place, columns, hidden });
        }
        Ok(Self { found })
    }

    /// An error unless everything is there that no directory can be without, and all that is there may be read: what is
    /// kept from us is not empty, and somebody could be let in, or act as another, for not being seen.
    ///
    /// # Errors
    /// [`Error::Firefly`] names what is lacking.
    pub fn check(&self) -> Result<(), Error> {
        for table in &TABLES {
            let found = self.found.get(table.name);
            let lacks = found.is_none_or(|found| table.columns[..2].iter().any(|column| !found.knows(column)));
            if table.is_required && lacks {
                let name = table.name;
                return Err(Error::Firefly(format!("FireFly's table public.\"{name}\" is not in the database")));
            }
            let hidden = |found: &&Found| table.columns.iter().any(|column| found.hidden.contains(*column));
            if let Some(found) = found.filter(hidden) {
                let columns = table.columns.iter().filter(|column| found.knows(column));
                let columns = columns.map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ");
                let place = &found.place;
                return Err(Error::Firefly(format!(
                    "this role may not read {place}; it needs `select ({columns})` on it"
                )));
            }
        }
        Ok(())
    }

    /// Where a table is, quoted for a statement; none when it is not there.
    #[must_use]
    pub fn place(&self, table: &str) -> Option<&str> {
        self.found.get(table).map(|found| found.place.as_str())
    }

    /// Whether ended sessions are noted.
    #[must_use]
    pub fn has_revocations(&self) -> bool {
        self.found.get(REVOCATION).is_some_and(|found| found.columns.contains("not_before"))
    }

    fn has(&self, table: &str, column: &str) -> bool {
        self.found.get(table).is_some_and(|found| found.columns.contains(column))
    }

    /// A column of the table that a statement calls `t`, as text; null when it is not there.
    #[must_use]
    pub fn column(&self, table: &str, column: &str) -> String {
        if self.has(table, column) { format!("t.\"{column}\"::text") } else { "null::text".to_owned() }
    }

    /// The order in which rows came into being.
    #[must_use]
    pub fn age(&self, table: &str) -> &'static str {
        if self.has(table, "createdAt") { "t.\"createdAt\", t.\"id\"" } else { "t.\"id\"" }
    }

    /// The statement that tells whether anything in the tables is another than before, of whatever is read of them: for
    /// each the number of rows and a sum that does not depend on their order.
    #[must_use]
    pub fn checksums(&self) -> String {
        let read = |name: &str| match TABLES.iter().find(|table| table.name == name) {
            Some(table) => table.columns,
            None => &["kind", "id", "not_before"],
        };
        let of = |(name, found): (&String, &Found)| {
            let columns = read(name).iter().filter(|column| found.columns.contains(**column));
            let columns: Vec<_> = columns.map(|column| format!("t.\"{column}\"")).collect();
            format!(
                "select '{name} {}', count(*), coalesce(sum(hashtextextended(row({})::text, 0)::numeric), 0)::text from {} t",
                columns.len(),
                columns.join(", "),
                found.place
            )
        };
        self.found.iter().filter(|(_, found)| !found.columns.is_empty()).map(of).collect::<Vec<_>>().join(" union all ")
    }

    /// The tables of the front end that are there.
    pub(super) fn theirs(&self) -> impl Iterator<Item = u32> {
        TABLES.iter().filter_map(|table| self.found.get(table.name)).map(|found| found.oid)
    }

    /// The number by which the database knows a table.
    pub(super) fn oid(&self, table: &str) -> Option<u32> {
        self.found.get(table).map(|found| found.oid)
    }
}
