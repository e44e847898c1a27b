//! From the rows of FireFly's tables to those of the directory. A row that cannot be used harms itself alone, and never
//! makes somebody act as another principal.

mod draft;

use super::tables::Tables;
use crate::clock::UnixSeconds;
use crate::directory::postgres::Error;
use crate::directory::postgres::bars::{REVOCATIONS, bars_of};
use crate::directory::postgres::rows::{Read, each};
use crate::model::access::Bar;
use crate::model::url::AllowedHosts;
use crate::secret::Secret;
use draft::Draft;
use std::collections::HashMap;
use tokio_postgres::{GenericClient, Row};

/// What is needed to judge rows.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Where workspaces and apps may be.
    pub policy: &'a AllowedHosts,
    /// Where apps may be.
    pub apps: &'a AllowedHosts,
}

/// A service principal as a table has it.
#[derive(Debug, Clone)]
struct Spn {
    /// Which table, and the row's id.
    id: (&'static str, String),
    client_id: Option<String>,
    client_secret: Option<Secret>,
    /// Its own workspace, where the row names one.
    workspace: Option<String>,
}

/// Who acts for the holder of an address that is a guest's.
#[derive(Debug, Clone)]
enum Guest {
    Expired,
    /// The id of the principal in "guestSpns", and of the guest's workspace.
    Spn(Option<String>, Option<String>),
}

/// What was read and belongs to no organisation, or to several.
#[derive(Debug, Default)]
struct Shared {
    /// By address in lower case: the oldest.
    users: HashMap<String, Spn>,
    /// By address in lower case: those that are not expired first, then the oldest.
    guests: HashMap<String, Guest>,
    /// By id.
    guest_spns: HashMap<String, Spn>,
    /// URLs by id.
    guest_workspaces: HashMap<String, String>,
    /// URLs by the principal that they belong to: the oldest.
    byod_workspaces: HashMap<String, String>,
}

/// Reads one organisation, or all; within one transaction whose snapshot is fixed. Gives the number of secrets in clear
/// text too.
///
/// # Errors
/// [`Error::Firefly`] when the tables are not FireFly's; [`Error::Sql`].
pub async fn read(
    client: &impl GenericClient,
    orgs: Option<&[&str]>,
    context: Context<'_>,
) -> Result<(Read, usize), Error> {
    let tables = Tables::look(client).await?;
    tables.check()?;
    let reader = Reader { client, tables: &tables, orgs };
    let mut drafts = reader.organisations().await?;
    reader.members(&mut drafts).await?;
    reader.apps(&mut drafts).await?;
    let mut secrets = reader.byod(&mut drafts).await?;
    let shared = reader.shared().await?;
    secrets += shared.users.len() + shared.guest_spns.len();
    let mut read = Read::default();
    for draft in drafts.into_values() {
        read.orgs.extend(draft.finish(&shared, context, &mut read.faults));
    }
    if orgs.is_none() {
        read.bars = bars(client, &tables, None).await?;
    }
    Ok((read, secrets))
}

/// Reads these bars, or all: users whom the front end has banned, and sessions that were ended here.
///
/// # Errors
/// [`Error::Sql`].
pub async fn bars(
    client: &impl GenericClient,
    tables: &Tables,
    which: Option<&[Bar]>,
) -> Result<Vec<(Bar, UnixSeconds)>, Error> {
    let mut sql = Vec::new();
    if tables.has_revocations() {
        sql.push(REVOCATIONS.to_owned());
    }
    if let Some(user) = tables.place("user") {
        let (id, banned) = (tables.column("user", "id"), tables.column("user", "banned"));
        sql.push(format!(
            "select 'ban', {id}, 0::bigint from {user} t where {banned} = 'true'
             and ($1::text[] is null or ('ban', {id}) in (select * from unnest($1::text[], $2::text[])))"
        ));
    }
    bars_of(client, &sql.join(" union all "), which).await
}

/// Reads tables, for all organisations or one.
struct Reader<'a, C> {
    client: &'a C,
    tables: &'a Tables,
    orgs: Option<&'a [&'a str]>,
}

type Drafts = HashMap<String, Draft>;
type Taken = Result<(), tokio_postgres::Error>;

impl<C: GenericClient> Reader<'_, C> {
    /// Gives the rows of a table, if it is there: these columns as texts, of rows for which `rest` holds.
    async fn each(
        &self,
        table: &str,
        columns: &[&str],
        rest: &str,
        take: impl FnMut(&Row) -> Taken,
    ) -> Result<(), Error> {
        let Some(place) = self.tables.place(table) else { return Ok(()) };
        let columns: Vec<_> = columns.iter().map(|column| self.tables.column(table, column)).collect();
        let sql = format!("select {} from {place} t {rest}", columns.join(", "));
        each(self.client, &sql, self.orgs, take).await
    }

    async fn organisations(&self) -> Result<Drafts, Error> {
        let mut drafts = Drafts::new();
        let rest = "where $1::text[] is null or t.\"id\"::text = any ($1)";
        let take = |row: &Row| {
            let id: String = row.try_get(0)?;
            drafts.insert(id.clone(), Draft::new(id, text(row, 1)?.unwrap_or_default(), text(row, 2)?));
            Ok(())
        };
        self.each("organization", &["id", "name", "workspaceUrl"], rest, take).await?;
        Ok(drafts)
    }

    async fn members(&self, drafts: &mut Drafts) -> Result<(), Error> {
        // A membership of a user who is gone admits nobody.
        let sql = "select t.\"organizationId\"::text, t.\"userId\"::text, u.\"email\"::text
            from public.\"member\" t join public.\"user\" u on u.\"id\" = t.\"userId\"
            where $1::text[] is null or t.\"organizationId\"::text = any ($1)";
        let take = |row: &Row| {
            if let Some(draft) = text(row, 0)?.and_then(|org| drafts.get_mut(&org)) {
                draft.member(row.try_get(1)?, text(row, 2)?);
            }
            Ok(())
        };
        each(self.client, sql, self.orgs, take).await
    }

    async fn apps(&self, drafts: &mut Drafts) -> Result<(), Error> {
        let table = "authoringTool";
        let (deleted, status) = (self.tables.column(table, "deletedAt"), self.tables.column(table, "status"));
        let rest = format!(
            "where {deleted} is null and {status} is distinct from 'DELETING' and coalesce({}, '') <> ''
             and ($1::text[] is null or t.\"organizationId\"::text = any ($1)) order by t.\"id\"",
            self.tables.column(table, "appUrl")
        );
        let take = |row: &Row| {
            if let Some(draft) = text(row, 1)?.and_then(|org| drafts.get_mut(&org)) {
                let failed = text(row, 3)?.is_some_and(|status| status == "ERROR");
                draft.app(row.try_get(0)?, row.try_get(2)?, failed);
            }
            Ok(())
        };
        self.each(table, &["id", "organizationId", "appUrl", "status"], &rest, take).await
    }

    /// The organisations' own principals, of which the oldest counts.
    async fn byod(&self, drafts: &mut Drafts) -> Result<usize, Error> {
        let table = "byodDatabricksSpns";
        let age = self.tables.age(table);
        let rest = format!("where $1::text[] is null or t.\"organizationId\"::text = any ($1) order by {age}");
        let mut count = 0;
        let take = |row: &Row| {
            count += 1;
            if let Some(draft) = text(row, 3)?.and_then(|org| drafts.get_mut(&org)) {
                let spn = spn("byod", row, None)?;
                draft.byod.get_or_insert(spn);
            }
            Ok(())
        };
        self.each(table, &["id", "clientId", "clientSecret", "organizationId"], &rest, take).await?;
        Ok(count)
    }

    async fn shared(&self) -> Result<Shared, Error> {
        let mut shared = Shared::default();
        let rest = format!("{ADDRESSES} order by {}", self.tables.age("userSpns"));
        let take = |row: &Row| {
            let spn = spn("spn", row, text(row, 4)?)?;
            if let Some(address) = text(row, 3)? {
                shared.users.entry(address.to_ascii_lowercase()).or_insert(spn);
            }
            Ok(())
        };
        self.each("userSpns", &["id", "clientId", "clientSecret", "email", "workspaceUrl"], &rest, take).await?;
        self.guests(&mut shared).await?;
        let rest = format!("{ANY} order by {}", self.tables.age("byodDatabricksWorkspaces"));
        let take = |row: &Row| pair(row, &mut shared.byod_workspaces);
        self.each("byodDatabricksWorkspaces", &["spnId", "workspaceUrl"], &rest, take).await?;
        Ok(shared)
    }

    async fn guests(&self, shared: &mut Shared) -> Result<(), Error> {
        let expired = self.tables.column("guestUser", "isExpired");
        let age = self.tables.age("guestUser");
        let rest = format!("{ANY} order by coalesce({expired}, 'false'), {age}");
        let take = |row: &Row| {
            let is_expired = text(row, 1)?.is_some_and(|expired| expired == "true");
            let guest = if is_expired { Guest::Expired } else { Guest::Spn(text(row, 2)?, text(row, 3)?) };
            if let Some(address) = text(row, 0)? {
                shared.guests.entry(address.to_ascii_lowercase()).or_insert(guest);
            }
            Ok(())
        };
        self.each("guestUser", &["generatedEmail", "isExpired", "spnId", "workspaceId"], &rest, take).await?;
        let take = |row: &Row| {
            let spn = spn("guest", row, text(row, 3)?)?;
            shared.guest_spns.insert(spn.id.1.clone(), spn);
            Ok(())
        };
        // Until it is looked up, the workspace is the id of one.
        self.each("guestSpns", &["id", "clientId", "clientSecret", "guestWorkspaceId"], ANY, take).await?;
        let take = |row: &Row| pair(row, &mut shared.guest_workspaces);
        self.each("guestWorkspaces", &["id", "workspaceUrl"], ANY, take).await
    }
}

/// Takes the parameter, and all rows.
const ANY: &str = "where $1::text[] is null or true";
/// All rows, or those of the addresses of an organisation's members.
const ADDRESSES: &str = "where $1::text[] is null or lower(t.\"email\") in (select lower(u.\"email\")
    from public.\"member\" m join public.\"user\" u on u.\"id\" = m.\"userId\" where m.\"organizationId\"::text = any ($1))";

/// A text that may be null; an empty one is as good as none.
fn text(row: &Row, at: usize) -> Result<Option<String>, tokio_postgres::Error> {
    Ok(row.try_get::<_, Option<String>>(at)?.filter(|text| !text.trim().is_empty()))
}

fn pair(row: &Row, into: &mut HashMap<String, String>) -> Taken {
    if let (Some(key), Some(value)) = (text(row, 0)?, text(row, 1)?) {
        into.entry(key).or_insert(value);
    }
    Ok(())
}

/// A principal whose first columns are its id, client id and secret.
fn spn(table: &'static str, row: &Row, workspace: Option<String>) -> Result<Spn, tokio_postgres::Error> {
    let client_secret = text(row, 2)?.map(Secret::new);
    Ok(Spn { id: (table, row.try_get(0)?), client_id: text(row, 1)?, client_secret, workspace })
}
