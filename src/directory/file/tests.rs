//! The directory file as a whole.

mod balance;
mod engines;
mod limits;
mod probes;
mod starts;

use super::*;
use crate::model::ids::PrincipalId;
use crate::model::principal::{Extras, PrincipalKind, PrincipalRow};
use crate::model::quota::Load;
use crate::secret::Secret;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLE: &str = include_str!("../../../config/directory.toml");

/// An organisation with one workspace, on lines 1 to 5.
const ACME: &str = "[[org]]\nid = 'acme'\n[[org.workspace]]\nid = 'main'\nurl = 'https://w.example.com'\n";

fn policy(private: bool) -> AllowedHosts {
    let domains = ["example.com", "127.0.0.1", "cloud.databricks.com", "aws.databricksapps.com"];
    AllowedHosts { domains: domains.map(str::to_owned).to_vec(), private }
}

fn env() -> Env {
    let variables = [
        ("ACME_SECRET", "hush-example"),
        ("SECRET", "hush-1\r\n"),
        ("EMPTY", "\n"),
        ("TWO_LINES", "hush-2\nhush-3"),
        ("WITH_WORD", "Bearer hush-4"),
    ];
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Opens what was sealed with the one key of these tests.
fn vault() -> Vault {
    Vault::new([("k1".to_owned(), [7; 32])])
}

pub(super) fn read(text: &str, private: bool) -> Result<Tables, Mistakes> {
    let result = parse(text, Path::new("etc/directory.toml"), &policy(private), &env(), &vault());
    if let Err(mistakes) = &result {
        assert!(!mistakes.to_string().contains("hush"), "a secret is shown: {mistakes}");
    }
    result
}

/// The mistakes in an organisation that has one workspace and, from line 6, `text`.
pub(super) fn mistakes(text: &str) -> Vec<String> {
    shown(read(&format!("{ACME}{text}"), false))
}

fn shown(result: Result<Tables, Mistakes>) -> Vec<String> {
    let found = result.unwrap_err().0;
    found.iter().map(|m| format!("{} {}: {}", m.line.unwrap_or(0), m.key, m.message)).collect()
}

fn url(text: &str) -> BaseUrl {
    BaseUrl::parse(text).unwrap()
}

fn workspace() -> WorkspaceId {
    WorkspaceId::parse("main").unwrap()
}

fn upstream(id: &str, url: BaseUrl) -> UpstreamRow {
    UpstreamRow::new(UpstreamId::parse(id).unwrap(), workspace(), url)
}

/// A principal of the only workspace whose secret is `token`.
fn token(token: &str, private: bool) -> Result<Tables, Mistakes> {
    let acme = if private { ACME.replace("https://w.example.com", "http://127.0.0.1:9") } else { ACME.to_owned() };
    read(&format!("{acme}[[org.principal]]\nid = 'p'\nkind = 'bearer'\ntoken = {token}\n"), private)
}

#[test]
fn the_example_loads() {
    let tables = read(EXAMPLE, false).unwrap();
    let org = &tables.orgs[0];
    assert_eq!((org.id.as_str(), org.name.as_str(), org.segment), ("acme", "Acme", Segment::Stable));
    assert_eq!(org.workspaces, [WorkspaceRow { id: workspace(), url: url("https://dbc-1.cloud.databricks.com") }]);
    let kind = PrincipalKind::Databricks {
        client_id: "11111111-2222-3333-4444-555555555555".to_owned(),
        client_secret: Secret::new("hush-example".to_owned()),
        account: None,
    };
    let id = PrincipalId::parse("acme-spn").unwrap();
    assert_eq!(
        org.principals,
        [PrincipalRow {
            id,
            kind,
            extras: Extras::default(),
            workspace: workspace(),
            issuer: None,
            users: Vec::new(),
            control: false
        }]
    );
    assert_eq!(org.apps, [upstream("editor", url("https://code-editor-377.aws.databricksapps.com"))]);
    assert_eq!(org.warehouses, [upstream("a1b2c3d4", url("https://dbc-1.cloud.databricks.com"))]);
}

#[test]
fn nobody_is_fine() {
    assert_eq!(read("", false), Ok(Tables::default()));
    let tables = read("[[org]]\nid = 'empty'\n", false).unwrap();
    let org = &tables.orgs[0];
    assert_eq!((org.name.as_str(), org.segment, org.workspaces.len()), ("empty", Segment::Stable, 0));
}

#[test]
fn rows_go_to_their_organisations() {
    let text = "\
[[org]]
id = 'a'
segment = 'internal'
workspace = [{ id = 'w', url = 'https://w.example.com' }, { id = 'x', url = 'https://x.example.com' }]
principal = [{ id = 'p', kind = 'none', workspace = 'x', users = ['Ann@Example.com', 'ann@example.com'] }]
[[org.app]]
id = 'same'
workspace = 'x'
[[org.app.cluster]]
id = 'blue'
state = 'running'
nodes = ['https://1.example.com:8443', 'https://2.example.com']
[[org.app.cluster]]
id = 'green'
state = 'starting'
role = 'shadow'
nodes = ['https://3.example.com']
[[org]]
id = 'b'
[[org.workspace]]
id = 'w'
url = 'https://b.example.com'
[[org.app]]
id = 'same'
url = 'https://app.example.com'
[[org.warehouse]]
id = 'same'
[[org.warehouse.cluster]]
id = 'blue'
state = 'stopped'
nodes = ['https://4.example.com']
";
    let tables = read(text, false).unwrap();
    let (a, b) = (&tables.orgs[0], &tables.orgs[1]);
    assert_eq!(a.segment, Segment::Internal);
    assert_eq!(a.principals[0].users, ["ann@example.com"]);
    assert_eq!((a.apps[0].workspace.as_str(), &a.apps[0].url), ("x", &url("https://1.example.com:8443")));
    let clusters: Vec<_> = a.apps[0].clusters.iter().map(|c| (c.id.as_str(), c.state, c.role, c.nodes.len())).collect();
    let blue = ("blue", ClusterState::Running, ClusterRole::Primary, 2);
    assert_eq!(clusters, [blue, ("green", ClusterState::Starting, ClusterRole::Shadow, 1)]);
    assert_eq!((b.apps[0].workspace.as_str(), &b.apps[0].url), ("w", &url("https://app.example.com")));
    assert_eq!(b.warehouses[0].url, url("https://b.example.com"));
    assert_eq!(b.warehouses[0].clusters[0].state, ClusterState::Stopped);
}

#[test]
fn apps_say_how_they_want_their_requests() {
    let app = |keys: &str| format!("[[org.app]]\nid = 'a'\nurl = 'https://a.example.com'\n{keys}");
    let good = "host = 'keep'\nstrip_prefix = false\nbase_tag = true\nprotocol = 'http2'\nping_interval = '0s'\nidle_timeout = '1h30m'\n";
    let tables = read(&format!("{ACME}{}", app(good)), false).unwrap();
    let policy = Policy {
        host: HostSeen::Outside,
        strip_prefix: false,
        base_tag: true,
        protocol: Protocol::Http2,
        ping_interval: Some(Duration::ZERO),
        idle_timeout: Some(Duration::from_secs(5400)),
    };
    assert_eq!(tables.orgs[0].apps[0].policy, policy);
    let bad = "host = 'own'\nstrip_prefix = 'no'\nping_interval = 5\nidle_timeout = '0s'\n";
    assert_eq!(
        mistakes(&app(bad)),
        [
            "9 org[acme].app[a].host: \"own\" is not known here; known here: rewrite, keep",
            "10 org[acme].app[a].strip_prefix: expected true or false, without quotes, found a string",
            "11 org[acme].app[a].ping_interval: expected a duration in quotes such as \"30s\" or \"1h30m\", found a whole number",
            "12 org[acme].app[a].idle_timeout: must be longer than 0; write a duration such as \"500ms\" or \"30s\"",
        ]
    );
    let warehouse = "[[org.warehouse]]\nid = 'w'\nhost = 'keep'\n";
    assert_eq!(
        mistakes(warehouse),
        [
            "8 org[acme].warehouse[w].host: unknown key; known here: id, workspace, balance, hash_on, affinity, slow_start, max_concurrent, adaptive, start, health, cluster"
        ]
    );
}

#[test]
fn many_mistakes_at_once() {
    let text = "\
[[org]]
id = 'a b'
segment = 'beta'
colour = 'red'
[[org.workspace]]
id = 'w'
url = 'https://evil.com'
[[org.workspace]]
url = 'https://u:hush@w.example.com'
[[org.app]]
url = 'http://app.example.com'
workspace = 'w'
[[org.app.cluster]]
id = 'blue'
state = 'up'
role = 'main'
nodes = []
[[org.app.cluster]]
id = 'green'
nodes = ['https://127.0.0.1', 'https://a.example.com/x']
";
    assert_eq!(
        shown(read(text, false)),
        [
            "2 org[#1].id: an id is 1 to 63 characters of A-Z, a-z, 0-9, '-' and '_'",
            "3 org[#1].segment: \"beta\" is not known here; known here: internal, preview, stable",
            "4 org[#1].colour: unknown key; known here: id, name, segment, members, frontend_origins, quota, workspace, principal, app, warehouse, engine, api",
            "7 org[#1].workspace[w].url: host evil.com is not in upstreams.allowed_domains; add it there, or write another URL",
            "8 org[#1].workspace[#2].id: is missing; write id = \"...\"",
            "9 org[#1].workspace[#2].url: a URL here must not hold a user name or password, nor any other '@'",
            "10 org[#1].app[#1].id: is missing; write id = \"...\"",
            "11 org[#1].app[#1].url: http://app.example.com is plain http, which needs upstreams.allow_private_addresses = true and is for local work only",
            "15 org[#1].app[#1].cluster[blue].state: \"up\" is not known here; known here: stopped, starting, running, draining",
            "16 org[#1].app[#1].cluster[blue].role: \"main\" is not known here; known here: primary, shadow",
            "17 org[#1].app[#1].cluster[blue].nodes: needs at least one node; write nodes = [\"https://...\"], one URL for each node",
            "18 org[#1].app[#1].cluster[green].state: is missing; write stopped, starting, running or draining",
            "20 org[#1].app[#1].cluster[green].nodes[#1]: host 127.0.0.1 is an address or a local name, which needs upstreams.allow_private_addresses = true and is for local work only",
            "20 org[#1].app[#1].cluster[green].nodes[#2]: \"https://a.example.com/x\" has a path, query or fragment; only scheme, host and port belong here",
        ]
    );
}

#[test]
fn ids_are_unique_among_their_kind() {
    let twice = |table: &str, rest: &str| format!("[[{table}]]\nid = 'x'\n{rest}[[{table}]]\nid = 'x'\n{rest}");
    let text = [
        twice("org.workspace", "url = 'https://x.example.com'\n"),
        twice("org.principal", "kind = 'none'\nworkspace = 'main'\nusers = ['a@b']\n").replacen("a@b", "c@d", 1),
        twice("org.warehouse", "workspace = 'main'\n"),
        twice("org.app", "workspace = 'main'\nurl = 'https://a.example.com'\n"),
        twice("org.app.cluster", "state = 'running'\nnodes = ['https://a.example.com']\n"),
        twice("org", ""),
    ];
    let found = mistakes(&text.concat());
    assert_eq!(
        found,
        [
            "10 org[acme].workspace[x].id: another workspace of the organisation has the id \"x\" already on line 7",
            "18 org[acme].principal[x].id: another principal of the organisation has the id \"x\" already on line 13",
            "26 org[acme].warehouse[x].id: another warehouse of the organisation has the id \"x\" already on line 23",
            "33 org[acme].app[x].id: another app of the organisation has the id \"x\" already on line 29",
            "41 org[acme].app[x].cluster[x].id: another cluster of the app, warehouse or engine has the id \"x\" already on line 37",
            "47 org[x].id: another organisation of the directory has the id \"x\" already on line 45",
        ]
    );
}

#[test]
fn references_lead_to_a_workspace() {
    let app = "[[org.app]]\nid = 'x'\nurl = 'https://a.example.com'\n";
    assert!(read(&format!("{ACME}{app}"), false).is_ok());
    assert_eq!(
        mistakes(&format!("{app}workspace = 'mian'\n")),
        ["9 org[acme].app[x].workspace: the organisation has no workspace \"mian\"; add it, or write one of its own"]
    );
    let second = "[[org.workspace]]\nid = 'other'\nurl = 'https://o.example.com'\n";
    assert_eq!(
        mistakes(&format!("{second}[[org.warehouse]]\nid = 'x'\n")),
        [
            "9 org[acme].warehouse[x]: the organisation has several workspaces; write workspace = \"...\", one of main, other"
        ]
    );
    assert_eq!(
        shown(read(&format!("[[org]]\nid = 'acme'\n{app}"), false)),
        ["3 org[acme].app[x]: needs a workspace, and the organisation has none; add [[org.workspace]]"]
    );
    // A workspace that is itself wrong is reported once, not again by all that refer to it.
    let broken = ACME.replace("https://w.example.com", "w");
    assert_eq!(shown(read(&format!("{broken}{app}workspace = 'main'\n"), false)).len(), 1);
    assert_eq!(shown(read(&format!("{broken}{app}[[org.warehouse]]\nid = 'x'\n"), false)).len(), 1);
}

#[test]
fn front_ends_are_origins_and_not_too_many() {
    let own = |list: &str| read(&ACME.replace("'acme'\n", &format!("'acme'\nfrontend_origins = {list}\n")), false);
    assert_eq!(read(ACME, false).unwrap().orgs[0].frontends, None);
    assert_eq!(own("[]").unwrap().orgs[0].frontends, Some(Vec::new()));
    let frontends = own("['https://Front.example/', 'http://localhost:3000']").unwrap().orgs.remove(0).frontends;
    assert_eq!(frontends, Some(vec![url("https://front.example"), url("http://localhost:3000")]));
    let found = shown(own("['https://a.example/path', 'ftp://a.example', '*']"));
    assert!(found.len() == 3 && found[0].starts_with("3 org[acme].frontend_origins[#1]: "), "{found:?}");
    let many = format!("[{}]", "'https://a.example',".repeat(Frontends::MAX + 1));
    assert_eq!(shown(own(&many)), ["3 org[acme].frontend_origins: has 33 origins; keep 32 at most"]);
}

#[test]
fn apps_have_an_address() {
    assert_eq!(
        mistakes("[[org.app]]\nid = 'x'\n"),
        ["6 org[acme].app[x]: needs an address; write url = \"https://...\" or add [[org.app.cluster]] with nodes"]
    );
    assert_eq!(mistakes("[[org.app]]\nid = 'x'\ncluster = []\n").len(), 1);
    assert_eq!(
        mistakes("[[org.warehouse]]\nid = 'x'\nurl = 'https://a.example.com'\n"),
        [
            "8 org[acme].warehouse[x].url: unknown key; known here: id, workspace, balance, hash_on, affinity, slow_start, max_concurrent, adaptive, start, health, cluster"
        ]
    );
}

#[test]
fn kinds_have_exactly_their_keys() {
    assert_eq!(
        mistakes(
            "[[org.principal]]\nid = 'd'\nkind = 'databricks'\ntoken = { env = 'SECRET' }\n\
             [[org.principal]]\nid = 'b'\nkind = 'bearer'\nclient_id = 'x'\nclient_secret = 'hush'\nusers = ['a@b']\n\
             [[org.principal]]\nid = 'n'\nkind = 'none'\ntoken = 'hush'\nusers = ['c@d']\n\
             [[org.principal]]\nid = 'k'\nkind = 'kerberos'\n\
             [[org.principal]]\nid = 'm'\n\
             [[org.principal]]\nid = 'c'\nkind = 'databricks'\nclient_id = 'a:b'\nclient_secret = { env = 'SECRET' }\nusers = ['e@f']\n"
        ),
        [
            "6 org[acme].principal[d].client_id: is missing; write the OAuth client id of the service principal",
            "6 org[acme].principal[d].client_secret: is missing; write client_secret = { env = \"...\" } or { file = \"...\" }",
            "9 org[acme].principal[d].token: a principal of kind \"databricks\" does not have this key; remove it",
            "10 org[acme].principal[b].token: is missing; write token = { env = \"...\" } or { file = \"...\" }",
            "13 org[acme].principal[b].client_id: a principal of kind \"bearer\" does not have this key; remove it",
            "14 org[acme].principal[b].client_secret: a principal of kind \"bearer\" does not have this key; remove it",
            "19 org[acme].principal[n].token: a principal of kind \"none\" does not have this key; remove it",
            "21 org[acme].principal[k]: principal \"d\" of this workspace is for the whole organisation already; write users = [\"...\"] for one of them",
            "23 org[acme].principal[k].kind: \"kerberos\" is not known here; known here: databricks, oauth2, entra, jwt-bearer, self-signed-jwt, token-exchange, basic, bearer, header, sigv4, mtls, none",
            "24 org[acme].principal[m].kind: is missing; write one of databricks, oauth2, entra, jwt-bearer, self-signed-jwt, token-exchange, basic, bearer, header, sigv4, mtls, none",
            "24 org[acme].principal[m]: principal \"d\" of this workspace is for the whole organisation already; write users = [\"...\"] for one of them",
            "29 org[acme].principal[c].client_id: a client id has no spaces, colons or letters beyond ASCII",
        ]
    );
}

#[test]
fn rules_say_who_may_call_what() {
    assert_eq!(
        mistakes(
            "[[org.api]]\nid = 'a'\nallow = ['GET /api/2.0/x', 'get /api/2.0/x', 'GET /x', 'GET /api/2.0/../x']\n\
             [[org.api]]\nid = 'a'\nwarehouses = ['start', 'delete']\n\
             [[org.api]]\nid = 'b'\nmembers = []\nusers = ['ann']\nallow = []\nroles = ['x']\n\
             [[org.api]]\nid = 'c'\n"
        ),
        [
            "8 org[acme].api[a].allow[#2]: \"get /api/2.0/x\" does not begin with a method; write one such as \"GET /api/2.0/sql/history/queries\"",
            "8 org[acme].api[a].allow[#3]: the path of \"GET /x\" does not begin with /api/ or /sql/",
            "8 org[acme].api[a].allow[#4]: \"GET /api/2.0/../x\" has the segment \"..\"; write letters and digits, *, {warehouse}, or ** as the last one",
            "10 org[acme].api[a].id: another rule of the organisation has the id \"a\" already on line 7",
            "11 org[acme].api[a].warehouses[#2]: \"delete\" is not known here; known here: start, stop, edit",
            "14 org[acme].api[b].members: names nobody; write whom the rule is for, or leave members out",
            "15 org[acme].api[b].users[#1]: \"ann\" is not an e-mail address; write one such as \"ann@example.com\"",
            "17 org[acme].api[b].roles: unknown key; known here: id, members, users, allow, warehouses",
            "18 org[acme].api[c]: allows nothing; write allow = [\"GET /api/...\"] or warehouses = [\"start\", \"stop\"]",
        ]
    );
}

#[test]
fn secrets_come_from_variables_and_files() {
    let of = |tables: Tables| match &tables.orgs[0].principals[0].kind {
        PrincipalKind::Bearer { token } => token.expose().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(token("{ env = 'SECRET' }", false).map(of), Ok("hush-1".to_owned()));
    assert_eq!(token("'hush-clear'", true).map(of), Ok("hush-clear".to_owned()));

    let folder = std::env::temp_dir().join(format!("embedgate-directory-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("token"), "hush-file\n").unwrap();
    let text = format!("{ACME}[[org.principal]]\nid = 'p'\nkind = 'bearer'\ntoken = {{ file = 'token' }}\n");
    let path: PathBuf = folder.join("directory.toml");
    std::fs::write(&path, text).unwrap();
    let loaded = load(&path, &policy(false), &env(), &vault());
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(loaded.map(of), Ok("hush-file".to_owned()));
}

#[test]
fn secrets_elsewhere_or_of_another_form_are_mistakes() {
    let clear = "a secret in clear text is accepted only for loopback workspaces; use { env = .. } or { file = .. }";
    let sealed = "is not a sealed secret; make one with `embedgate secret seal`";
    for (written, key, message) in [
        ("'hush'", "", clear),
        ("{ sealed = 'hush' }", ".sealed", sealed),
        ("{ env = 'UNSET' }", ".env", "the environment variable \"UNSET\" is not set"),
        ("{ env = 'EMPTY' }", "", "the secret is empty"),
        (
            "{ env = 'TWO_LINES' }",
            "",
            "the secret holds spaces or letters that no token has; write the token alone, without the word Bearer",
        ),
        (
            "{ env = 'WITH_WORD' }",
            "",
            "the secret holds spaces or letters that no token has; write the token alone, without the word Bearer",
        ),
        (
            "{ env = 'SECRET', file = 'f' }",
            "",
            "says in more than one way where the secret is; keep one of env, file and sealed",
        ),
        ("{ }", "", "does not say where the secret is; write token = { env = \"...\" } or { file = \"...\" }"),
        ("7", "", "is not a secret; write token = { env = \"...\" } or { file = \"...\" }"),
    ] {
        assert_eq!(
            shown(token(written, false)),
            [format!("9 org[acme].principal[p].token{key}: {message}")],
            "{written}"
        );
    }
    let missing = shown(token("{ file = 'no-such-file' }", false));
    assert!(
        missing[0].starts_with("9 org[acme].principal[p].token.file: cannot read etc/no-such-file: "),
        "{missing:?}"
    );
    assert_eq!(shown(token("''", true)), ["9 org[acme].principal[p].token: the secret is empty"]);
    // Even a line that is no TOML shows nothing of itself.
    assert_eq!(token("hush hush", false).unwrap_err().0.len(), 1);
    assert_eq!(token("\"hush", false).unwrap_err().0.len(), 1);
}

#[test]
fn there_is_one_principal_for_everybody() {
    let principal = |id: &str, users: &str| format!("[[org.principal]]\nid = '{id}'\nkind = 'none'\nusers = {users}\n");
    let found = mistakes(
        &[
            principal("a", "[]"),
            principal("b", "['Ann@example.com', 'bob@example.com']"),
            principal("c", "['ann@example.com']"),
            principal("d", "[]"),
            principal("e", "['eve', 5, 'e v@e']"),
            principal("f", "'eve@example.com'"),
        ]
        .concat(),
    );
    assert_eq!(
        found,
        [
            "17 org[acme].principal[c].users: \"ann@example.com\" is reserved by principal \"b\" of this workspace already; remove it from one of them",
            "21 org[acme].principal[d].users: principal \"a\" of this workspace is for the whole organisation already; write users = [\"...\"] for one of them",
            "25 org[acme].principal[e].users[#1]: \"eve\" is not an e-mail address; write one such as \"ann@example.com\"",
            "25 org[acme].principal[e].users[#2]: expected a string in quotes, found a whole number",
            "25 org[acme].principal[e].users[#3]: \"e v@e\" is not an e-mail address; write one such as \"ann@example.com\"",
            "29 org[acme].principal[f].users: expected an array in [ ], found a string",
        ]
    );
    // Another workspace has its own.
    let other = "[[org.workspace]]\nid = 'other'\nurl = 'https://o.example.com'\n";
    let two =
        format!("{}workspace = 'main'\n{}workspace = 'other'\n", principal("a", "['a@b']"), principal("b", "['a@b']"));
    assert!(read(&format!("{ACME}{other}{two}"), false).is_ok());
}

#[test]
fn what_hangs_on_a_broken_line_is_not_reported() {
    let found =
        mistakes("[[org.app]]\nid = 'x'\nurl = https://a.example.com\nworkspace = 'mian'\n[[org.app]]\nid = 'y z'\n");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("8 : this is not valid TOML: "), "{found:#?}");
    assert!(found[1].starts_with("11 org[acme].app[#2].id: an id is "), "{found:#?}");
    let single = shown(read("[org]\nid = 'a'\n", false));
    assert_eq!(single, ["1 org: expected an array of tables, found a single one; write [[org]]"]);
}

#[test]
fn sealed_secrets_open_for_their_principal_alone() {
    let sealed = |org, principal| vault().seal(org, principal, &Secret::new("hush-sealed".into())).unwrap();
    let tables = token(&format!("{{ sealed = '{}' }}", sealed("acme", "p")), false).unwrap();
    let PrincipalKind::Bearer { token: opened } = &tables.orgs[0].principals[0].kind else { panic!("no bearer") };
    assert_eq!(opened.expose(), "hush-sealed");
    let found = shown(token(&format!("{{ sealed = '{}' }}", sealed("acme", "q")), false));
    assert!(found[0].contains(".sealed: does not open: it was sealed for another"), "{found:?}");
}
