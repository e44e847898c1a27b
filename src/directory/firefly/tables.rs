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
}

/// What there is of FireFly's tables, and of ours that add to them.
#[derive(Debug, Default)]
pub struct Tables {
    found: BTreeMap<String, Found>,
}

/// `spn_auth` is where old versions kept "userSpns".
const LOOK: &str = "select n.nspname::text, c.relname::text, c.oid,
      coalesce(array_agg(a.attname::text) filter (where has_column_privilege(c.oid, a.attnum, 'select')), '{}')
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
            let columns = row.try_get::<_, Vec<String>>(3)?.into_iter().collect();
            // `public` comes before `spn_auth`, and counts.
            found.entry(name).or_insert(Found { oid: row.try_get(2)?, place, columns });
        }
        Ok(Self { found })
    }

    /// An error unless everything is there that no directory can be without.
    ///
    /// # Errors
    /// [`Error::Firefly`] names what is lacking.
    pub fn check(&self) -> Result<(), Error> {
        for table in TABLES.iter().filter(|table| table.is_required) {
            let found = self.found.get(table.name);
            if found.is_none_or(|found| !table.columns[..2].iter().all(|column| found.columns.contains(*column))) {
                return Err(Error::Firefly(format!(
                    "FireFly's table public.\"{}\" is not in the database, or this role may not read it",
                    table.name
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
        self.found.iter().map(of).collect::<Vec<_>>().join(" union all ")
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
