//! The configuration file as a whole.

mod listeners;
mod overload;

use super::parse::keys;
use super::tree::{Table, Value, parse_file};
use super::*;
use crate::model::url::Scheme;

const EXAMPLE: &str = include_str!("../../config/embedgate.toml");
const MINIMAL: &str = "session.keys = [{ id = 'k1', env = 'EMBEDGATE_SESSION_KEY' }]\n";

/// An environment with the example's keys and further variables.
fn env(more: &[(&str, &str)]) -> Env {
    let own = [("EMBEDGATE_SESSION_KEY", "00"), ("ENCRYPTION_KEY", "11")];
    own.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn parse(text: &str, more: &[(&str, &str)]) -> Result<Config, Mistakes> {
    Config::parse(text, Path::new("etc/embedgate.toml"), &env(more))
}

/// A configuration that has the key it must have, besides `text`.
fn accepted(text: &str) -> Config {
    parse(&format!("{MINIMAL}{text}"), &[]).unwrap()
}

/// The mistakes in `text`, as `line key: message`, with the key it must have on line 1.
fn mistakes(text: &str, more: &[(&str, &str)]) -> Vec<String> {
    shown(parse(&format!("{MINIMAL}{text}"), more))
}

fn shown(result: Result<Config, Mistakes>) -> Vec<String> {
    let line = |m: &Mistake| m.line.map_or_else(|| "-".to_owned(), |line| line.to_string());
    result.unwrap_err().0.iter().map(|m| format!("{} {}: {}", line(m), m.key, m.message)).collect()
}

fn pair(cert: &str, key: &str) -> Certificate {
    Certificate { cert: cert.into(), key: key.into() }
}

/// One certificate and nothing else.
fn tls(cert: &str, key: &str) -> Tls {
    Tls { default: pair(cert, key), certificates: Vec::new(), strict_sni: false, ticket_keys: Vec::new() }
}

/// The example with everything in it that is switched off.
fn example_in_full() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest.to_owned(),
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(on).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_shows_the_defaults() {
    assert_eq!(parse(EXAMPLE, &[]), parse(MINIMAL, &[]));
    let config = parse(EXAMPLE, &[]).unwrap();
    assert_eq!(config.server.listen, "0.0.0.0:8080".parse().unwrap());
    assert_eq!(config.directory, DirectorySource::File { path: "etc/directory.toml".into() });
    assert_eq!(config.upstreams.first_byte_timeout, Duration::from_secs(180));
    assert_eq!(config.credentials.refresh_idle, Duration::from_secs(43_200));
    assert_eq!((config.firefly_v1, config.session.jwt, config.server.tls), (None, None, None));
}

#[test]
fn sessions_in_addresses_are_switched_on_and_short() {
    assert_eq!(accepted("").embedding.cookieless, None);
    assert_eq!(accepted("embedding.cookieless_ttl = '5m'").embedding.cookieless, None);
    let usual = accepted("embedding.cookieless = true").embedding.cookieless;
    assert_eq!(usual, Some(Duration::from_secs(600)));
    let short = accepted("embedding = { cookieless = true, cookieless_ttl = '5m' }").embedding.cookieless;
    assert_eq!(short, Some(Duration::from_secs(300)));
    assert_eq!(
        mistakes("embedding.cookieless_ttl = '31d'", &[]),
        ["2 embedding.cookieless_ttl: must be at most 30d; revocations are remembered for that long"]
    );
}

#[test]
fn the_example_is_valid_with_everything_switched_on() {
    let config = parse(&example_in_full(), &[]).unwrap();
    assert_eq!(config.server.tls, Some(tls("etc/tls.crt", "etc/tls.key")));
    assert_eq!(config.routing.base_domain.as_deref(), Some("apps.example.com"));
    assert_eq!(config.upstreams.ca_file, Some("etc/extra-ca.pem".into()));
    assert_eq!(config.upstreams.client, Some(pair("etc/client.crt", "etc/client.key")));
    let firefly = FireflyV1 { key: KeySource::Env("ENCRYPTION_KEY".into()), domain_suffix: "com".into() };
    assert_eq!(config.firefly_v1, Some(firefly));
    // The algorithms shown are those that hold when the key is left out.
    let jwt = config.session.jwt.unwrap();
    let without = example_in_full().replace("algorithms = ", "#algorithms = ");
    assert_eq!(parse(&without, &[]).unwrap().session.jwt.unwrap(), jwt);
}

#[test]
fn the_example_shows_every_key() {
    let mut report = mistake::Report::new(Path::new("f"));
    let root = parse_file(&example_in_full(), &mut report);
    let Value::Table(root) = &root.value else { unreachable!() };
    let within = |name: &str| -> &Table {
        name.split('.').fold(root, |table, part| match &table[part].node.value {
            Value::Table(table) => table,
            _ => panic!("{name}"),
        })
    };
    for (name, known) in [
        ("server", keys::SERVER),
        ("server.tls", keys::TLS),
        ("admin", keys::ADMIN),
        ("fleet", keys::FLEET),
        ("directory", keys::DIRECTORY),
        ("directory.postgres", keys::POSTGRES),
        ("session", keys::SESSION),
        ("session.jwt", keys::JWT),
        ("embedding", keys::EMBEDDING),
        ("routing", keys::ROUTING),
        ("upstreams", keys::UPSTREAMS),
        ("limits", keys::LIMITS),
        ("credentials", keys::CREDENTIALS),
        ("log", keys::LOG),
        ("firefly", keys::FIREFLY),
    ] {
        let missing: Vec<_> =
            known.iter().filter(|key| !within(name).contains_key(**key) && !is_other_place(key)).collect();
        assert!(missing.is_empty(), "[{name}] lacks {missing:?}");
    }
    assert!(keys::ROOT.iter().all(|key| root.contains_key(*key)));
}

/// Whether the key is another way to write one that is shown.
fn is_other_place(key: &str) -> bool {
    ["url_file", "url_env", "listen_url_file", "listen_url_env"].contains(&key)
}

#[test]
fn every_mistake_is_reported_with_its_line() {
    let text = "\
[server]
listen = 'localhost:80'
wrokers = 4
public_url = 'https://a.b/c'
trusted_proxies = ['10.0.0.0/8', '10.0.0.0/40']
drain_timeout = '0s'
[server.tls]
cert = ''
[session]
ttl = 3600
idle_timeout = '500ms'
[session.jwt]
issuer = 'https://app.example.com'
algorithms = ['EdDSA', 'none', 'HS256', 'ES257']
jwks_url = 'http://app.example.com/jwks'
[limits]
header_bytes = 1
[log]
format = 'jsn'
access = 'yes'
[metrics]
";
    assert_eq!(
        shown(parse(text, &[])),
        [
            "2 server.listen: \"localhost:80\" is not an address with a port; write one such as \"0.0.0.0:8080\" or \"[::1]:8080\"",
            "3 server.wrokers: unknown key; did you mean \"workers\"?",
            "4 server.public_url: \"https://a.b/c\" has a path, query or fragment; only scheme, host and port belong here",
            "5 server.trusted_proxies[#2]: \"10.0.0.0/40\" is not a range of addresses; write one such as \"10.0.0.0/8\", \"fd00::/8\" or a single address",
            "6 server.drain_timeout: must be longer than 0; write a duration such as \"500ms\" or \"30s\"",
            "7 server.tls.key: is missing; write key = \"tls.key\", the PEM file with the private key",
            "8 server.tls.cert: must not be empty",
            "9 session.keys: is missing; write keys = [{ id = \"k1\", file = \"session.key\" }] with a key made by `embedgate key generate`",
            "10 session.ttl: expected a duration in quotes such as \"30s\" or \"1h30m\", found a whole number",
            "11 session.idle_timeout: must be at least 1s; write a duration such as \"30m\"",
            "12 session.jwt.audience: is missing; write the aud that the front end puts into its JWTs",
            "14 session.jwt.algorithms[#2]: \"none\" does not prove who signed; known here: EdDSA, ES256, ES384, RS256, RS384, RS512, PS256, PS384, PS512",
            "14 session.jwt.algorithms[#3]: \"HS256\" does not prove who signed; known here: EdDSA, ES256, ES384, RS256, RS384, RS512, PS256, PS384, PS512",
            "14 session.jwt.algorithms[#4]: \"ES257\" is not known here; did you mean \"ES256\"?",
            "15 session.jwt.jwks_url: plain http lets anybody on the way sign sessions; use https, or a loopback address for local work",
            "17 limits.header_bytes: out of range; write a number from 4096 to 1048576",
            "19 log.format: \"jsn\" is not known here; did you mean \"json\"?",
            "20 log.access: expected true or false, without quotes, found a string",
            "21 metrics: unknown key; known here: server, admin, directory, session, embedding, routing, upstreams, limits, quotas, queue, sql, autostart, fleet, credentials, log, firefly",
        ]
    );
}

#[test]
fn errors_of_syntax_stand_beside_other_mistakes() {
    let text = "[server]\nlisten = 0.0.0.0:80\nworkers = 'x'\n[log]\nlevel = \"info\nformat = 'x'\n";
    let found = shown(parse(text, &[]));
    let starts = [
        "2 : this is not valid TOML: ",
        "3 server.workers: expected",
        "5 : this is not valid TOML: ",
        "6 log.format: ",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    assert!(found.iter().zip(starts).all(|(found, start)| found.starts_with(start)), "{found:#?}");
    let shown = parse(text, &[]).unwrap_err().to_string();
    assert!(shown.starts_with("etc/embedgate.toml:2: this is not valid TOML: "), "{shown}");
    // After a broken header it is unclear where keys belong; after an array left open, whether they are keys at all.
    assert_eq!(shown_lines("[server\nlisten = 1\nx = 1\n"), [Some(1)]);
    assert_eq!(shown_lines("[server]\nworkers = 'x'\ntrusted_proxies = [\n[log]\nlevel = 1\n").first(), Some(&Some(2)));
    assert_eq!(shown_lines("[log]\nlevel = 'info'\nlevel = 'warn'\n"), [Some(3)]);
}

fn shown_lines(text: &str) -> Vec<Option<usize>> {
    parse(text, &[]).unwrap_err().0.iter().map(|mistake| mistake.line).collect()
}

#[test]
fn variables_override_the_file() {
    let more = [
        ("EMBEDGATE__SERVER__LISTEN", "[::1]:1"),
        ("EMBEDGATE__SERVER__WORKERS", "3"),
        ("EMBEDGATE__LOG__FORMAT", "text"),
        ("EMBEDGATE__LOG__ACCESS", "false"),
        ("EMBEDGATE__ROUTING__PUBLIC_HOSTS", "['A.example.com']"),
        ("EMBEDGATE__SERVER__TLS__CERT", "/abs/c"),
        ("EMBEDGATE__SERVER__TLS__KEY", "k"),
        ("EMBEDGATE__SESSION__KEYS", "[{ id = 'k2', file = 'two' }]"),
        ("EMBEDGATE_CONFIG", "x"),
    ];
    let config = parse(&format!("{MINIMAL}[server]\nlisten = 'broken'\n"), &more).unwrap();
    assert_eq!(config.server.listen, "[::1]:1".parse().unwrap());
    assert_eq!((config.server.workers, config.log.format, config.log.access), (3, LogFormat::Text, false));
    assert_eq!(config.routing.public_hosts, ["a.example.com"]);
    assert_eq!(config.server.tls, Some(tls("/abs/c", "etc/k")));
    assert_eq!(
        config.session.keys,
        [KeyRef { id: "k2".into(), source: KeySource::File("etc/two".into()), derived: false }]
    );
}

#[test]
fn mistakes_in_variables_name_the_variable() {
    let more = [
        ("EMBEDGATE__SERVER__WORKERS", "many"),
        ("EMBEDGATE__SERVER__LISTNE", "x"),
        ("EMBEDGATE__SEVER__LISTEN", "x"),
        ("EMBEDGATE__SERVER__TLS__CERT", "c"),
        ("EMBEDGATE__ROUTING__PUBLIC_HOSTS", "a.b"),
        ("EMBEDGATE__SERVER__LISTEN__PORT", "1"),
    ];
    assert_eq!(
        mistakes("[server]\nlisten = '0.0.0.0:80'\n", &more),
        [
            "- server.listen: in EMBEDGATE__SERVER__LISTEN__PORT: is not a section; set it as a whole with a TOML value, such as [\"a\", \"b\"]",
            "- sever: in EMBEDGATE__SEVER__LISTEN: unknown key; did you mean \"server\"?",
            "- server.listne: in EMBEDGATE__SERVER__LISTNE: unknown key; did you mean \"listen\"?",
            "- server.workers: in EMBEDGATE__SERVER__WORKERS: expected a whole number, found a string",
            "- server.tls.key: in EMBEDGATE__SERVER__TLS__CERT: is missing; write key = \"tls.key\", the PEM file with the private key",
            "- routing.public_hosts: in EMBEDGATE__ROUTING__PUBLIC_HOSTS: expected an array in [ ], found a string",
        ]
    );
}

#[test]
fn session_keys_have_one_place_and_a_short_id_of_their_own() {
    let text = "[session]\nkeys = [\n{ id = 'a', file = 'f', env = 'E' },\n{ id = 'a' },\n{ file = 'f' },\n\
                { id = 'seventeen-letters', file = 'f' },\n{ id = 'b', env = 'UNSET' },\n{ id = 'ok', file = 'f' },\n\
                { id = 'ok', file = 'g' }, 'k1']\n";
    assert_eq!(
        shown(parse(text, &[])),
        [
            "3 session.keys[a].env: has both a file and an env; keep one of them",
            "4 session.keys[a]: does not say where the key is; write file = \"...\" or env = \"...\"",
            "4 session.keys[a].id: another key has the id \"a\" already; give every key its own",
            "5 session.keys[#3].id: is missing; write id = \"k1\", a short name that is new for every new key",
            "6 session.keys[seventeen-letters].id: a key id is 1 to 16 characters of A-Z, a-z, 0-9, '-' and '_'",
            "7 session.keys[b].env: the environment variable \"UNSET\" is not set or empty",
            "9 session.keys[#8]: expected a table, found a string",
            "9 session.keys[ok].id: another key has the id \"ok\" already; give every key its own",
        ]
    );
    let empty = shown(parse("session.keys = []", &[]));
    assert!(empty[0].starts_with("1 session.keys: needs at least one key; write"), "{empty:?}");
    let nothing = shown(parse("", &[]));
    assert!(nothing[0].starts_with("- session.keys: is missing; write"), "{nothing:?}");
}

#[test]
fn the_example_shows_the_defaults_of_postgres() {
    let shown = parse(&example_in_full(), &[]).unwrap();
    let url =
        |host: &str| UrlSource::Text(Secret::new(format!("postgres://embedgate_serve@{host}.example.com/embedgate")));
    let least = accepted("directory.postgres = { url = 'postgres://embedgate_serve@db.example.com/embedgate' }");
    let expected = Postgres { listen_url: Some(url("db-primary")), ..least.postgres.unwrap() };
    assert_eq!((&expected.url, shown.postgres), (&url("db"), Some(expected.clone())));
    assert!(matches!(shown.directory, DirectorySource::File { .. }));
}

#[test]
fn the_url_of_postgres_stands_in_one_place() {
    let from =
        |text: &str| accepted(&format!("[directory]\nsource = 'postgres'\n[directory.postgres]\n{text}")).directory;
    let DirectorySource::Postgres(postgres) = from("url_file = 'f'\npool_size = 2\n") else { panic!("a file") };
    assert_eq!((postgres.url, postgres.pool_size), (UrlSource::File("etc/f".into()), 2));
    let DirectorySource::Postgres(postgres) = from("url = 'postgres://h'\nreplicas = ['postgres://u:hush@r/d']\n")
    else {
        panic!("replicas")
    };
    assert_eq!(postgres.replicas, [UrlSource::Text(Secret::new("postgres://u:hush@r/d".to_owned()))]);
    let more = [("DB", "postgres://u:hush@h/d"), ("BAD", "hush")];
    let all = "[directory]\nsource = 'postgres'\n[directory.postgres]\n";
    for (text, expected) in [
        (
            "",
            "4 directory.postgres: does not say where the database is; write url = \"postgres://user@host/database\", or url_file or url_env for one with a password",
        ),
        (
            "url = 'hush@h/d'",
            "5 directory.postgres.url: is not a Postgres URL; write one such as \"postgres://user@host:5432/database\"",
        ),
        ("url_env = 'BAD'", "5 directory.postgres.url_env: the environment variable \"BAD\" holds no Postgres URL"),
        ("url_env = 'NONE'", "5 directory.postgres.url_env: the environment variable \"NONE\" is not set"),
        (
            "url_env = 'DB'\nurl = 'postgres://h'",
            "5 directory.postgres.url_env: the URL stands in more than one place; keep one of url, url_file and url_env",
        ),
        (
            "url_env = 'DB'\nreplicas = ['postgres://h', 'x']",
            "6 directory.postgres.replicas[#2]: is not a Postgres URL; write one such as \"postgres://user@host:5432/database\"",
        ),
        (
            "url_env = 'DB'\nreplicas = ['postgres://h', 'postgres://h', 'postgres://h', 'postgres://h', 'postgres://h', 'postgres://h', 'postgres://h', 'postgres://h', 'postgres://h']",
            "6 directory.postgres.replicas: 9 replicas are more than the 8 that are possible; remove some",
        ),
        (
            "url_env = 'DB'\nmax_replica_lag = '0s'",
            "6 directory.postgres.max_replica_lag: must be longer than 0; write a duration such as \"500ms\" or \"30s\"",
        ),
        (
            "url_env = 'DB'\nresync_interval = '1ms'",
            "6 directory.postgres.resync_interval: compares more often than once a second; write 1s or more",
        ),
    ] {
        assert_eq!(mistakes(&format!("{all}{text}"), &more), [expected], "{text}");
    }
    let none = mistakes("[directory]\nsource = 'postgres'\n", &[]);
    assert_eq!(
        none,
        ["2 directory: source = \"postgres\" needs a section [directory.postgres] with url = \"postgres://...\""]
    );
}

#[test]
fn domains_are_hosts() {
    let config = accepted("[routing]\nbase_domain = 'Apps.Example.com'\n[upstreams]\nallowed_domains = ['A.com']\n");
    assert_eq!(config.routing.base_domain.as_deref(), Some("apps.example.com"));
    assert_eq!(config.upstreams.allowed, AllowedHosts { domains: vec!["a.com".into()], private: false });

    let private = "allow_private_addresses = true\nallowed_domains = ['127.0.0.1', '::1', 'localhost']\n";
    assert_eq!(
        accepted(&format!("[upstreams]\n{private}")).upstreams.allowed.domains,
        ["127.0.0.1", "::1", "localhost"]
    );

    let found = mistakes(
        "[routing]\nbase_domain = '.a.com'\npublic_hosts = ['a.com:80', '']\n[upstreams]\n\
         allowed_domains = ['*.a.com', 'https://a.com', '127.0.0.1', 'x.localhost', '[::1]']\n",
        &[],
    );
    let not_host = |text: &str, advice: &str| {
        format!("{text:?} is not a host name, without scheme, port, dot or star around it; write {advice:?}")
    };
    let local = "addresses and localhost need allow_private_addresses = true, which is for local work only";
    assert_eq!(
        found,
        [
            format!("3 routing.base_domain: {}", not_host(".a.com", "a.com")),
            format!("4 routing.public_hosts[#1]: {}", not_host("a.com:80", "apps.example.com")),
            "4 routing.public_hosts[#2]: must not be empty".to_owned(),
            format!("6 upstreams.allowed_domains[#1]: {}", not_host("*.a.com", "a.com")),
            format!("6 upstreams.allowed_domains[#2]: {}", not_host("https://a.com", "apps.example.com")),
            format!("6 upstreams.allowed_domains[#3]: {local}"),
            format!("6 upstreams.allowed_domains[#4]: {local}"),
            format!("6 upstreams.allowed_domains[#5]: {}", not_host("[::1]", "::1")),
        ]
    );
    assert_eq!(mistakes("routing.base_domain = '10.0.0.1'", &[]).len(), 1);
}

#[test]
fn upgrades_that_carry_requests_are_refused() {
    for (share, thousandths) in [("0", 0), ("0.0", 0), ("0.2", 200), ("1", 1000), ("1e-1", 100)] {
        assert_eq!(
            accepted(&format!("upstreams.retry_budget = {share}")).upstreams.retry_budget,
            thousandths,
            "{share}"
        );
    }
    for bad in ["1.1", "-0.1", "2", "nan", "inf", "'0.2'", "true"] {
        let expected = "2 upstreams.retry_budget: must be a share from 0 to 1, such as 0.2";
        assert_eq!(mistakes(&format!("upstreams.retry_budget = {bad}"), &[]), [expected], "{bad}");
    }
    assert_eq!(accepted("upstreams.upgrades = ['WebSocket']").upstreams.upgrades, ["websocket"]);
    assert!(accepted("upstreams.upgrades = []").upstreams.upgrades.is_empty());
    let found = mistakes("upstreams.upgrades = ['H2C', 'tls/1.2', 'web socket', 'ok']", &[]);
    assert_eq!(
        found,
        [
            "2 upstreams.upgrades[#1]: \"h2c\" would carry requests that nobody checks; remove it",
            "2 upstreams.upgrades[#2]: \"tls/1.2\" would carry requests that nobody checks; remove it",
            "2 upstreams.upgrades[#3]: is not the name of a protocol; write one such as \"websocket\"",
        ]
    );
}

#[test]
fn the_listeners_do_not_share_a_port() {
    for (data, admin, fine) in [
        ("127.0.0.1:80", "127.0.0.1:80", false),
        ("0.0.0.0:80", "127.0.0.1:80", false),
        ("127.0.0.1:80", "[::]:80", false),
        ("0.0.0.0:80", "[::1]:80", true),
        ("127.0.0.1:80", "127.0.0.2:80", true),
        ("127.0.0.1:0", "127.0.0.1:0", true),
    ] {
        let result = parse(&format!("{MINIMAL}server.listen = '{data}'\nadmin.listen = '{admin}'"), &[]);
        assert_eq!(result.is_ok(), fine, "{data} {admin}");
    }
    let found = mistakes("server.listen = '0.0.0.0:9900'", &[]);
    assert!(found[0].starts_with("- admin: 127.0.0.1:9900 is taken by server.listen"), "{found:?}");
}

#[test]
fn the_public_url_follows_the_port() {
    let url = accepted("server.listen = '127.0.0.1:8501'").server.public_url;
    assert_eq!((url.scheme(), url.authority()), (Scheme::Http, "localhost:8501"));
    // The public host may be the domain that the apps stand below.
    accepted("server.public_url = 'https://apps.example.com'\nrouting.base_domain = 'apps.example.com'");
}

#[test]
fn firefly_needs_a_key_when_on() {
    assert_eq!(accepted("firefly.v1 = false\nfirefly.encryption_key = { env = 'ENCRYPTION_KEY' }").firefly_v1, None);
    let config = accepted("firefly = { v1 = true, encryption_key = { file = 'k' }, domain_suffix = 'CO.uk' }");
    let expected = FireflyV1 { key: KeySource::File("etc/k".into()), domain_suffix: "co.uk".into() };
    assert_eq!(config.firefly_v1, Some(expected));
    let found = mistakes("[firefly]\nv1 = true\n", &[]);
    assert!(found[0].starts_with("2 firefly.encryption_key: is missing; v1 = true needs it"), "{found:?}");
    let found = mistakes("[firefly]\nv1 = true\nencryption_key = '00'\n", &[]);
    assert_eq!(found, ["4 firefly.encryption_key: expected a table, found a string"]);
}

#[test]
fn levels_and_jwks_urls() {
    for level in ["off", "trace", "info,embedgate=debug", "embedgate::plane=trace"] {
        assert_eq!(accepted(&format!("log.level = '{level}'")).log.level, level);
    }
    for level in ["loud", "info,", "embedgate=loud", "=info", "a b=info"] {
        assert_eq!(mistakes(&format!("log.level = '{level}'"), &[]).len(), 1, "{level}");
    }
    let jwt = |url: &str| format!("session.jwt = {{ issuer = 'i', audience = 'a', jwks_url = '{url}' }}");
    for url in ["https://a.b/jwks?x=1", "https://a.b/", "http://127.0.0.1:3000/jwks"] {
        assert_eq!(accepted(&jwt(url)).session.jwt.unwrap().jwks_url.to_string(), url);
        assert_eq!(accepted(&jwt(url.trim_end_matches('/'))).session.jwt.unwrap().jwks_url.to_string(), url);
    }
    for url in
        ["a.b/jwks", "ftp://a.b/", "https://", "https://a b/", "https://a.b/#x", "https://u:p@a.b/", "http://a.b/"]
    {
        assert_eq!(mistakes(&jwt(url), &[]).len(), 1, "{url}");
    }
    accepted(&format!("upstreams.allow_private_addresses = true\n{}", jwt("http://jwks:8000/")));
}

#[test]
fn the_pace_of_key_fetches_and_single_use_have_defaults() {
    let read = |more: &str| {
        let jwt =
            accepted(&format!("session.jwt = {{ issuer = 'i', audience = 'a', jwks_url = 'https://a.b'{more} }}"));
        let jwt = jwt.session.jwt.unwrap();
        (jwt.refresh_interval.as_secs(), jwt.unknown_kid_interval.as_secs(), jwt.single_use)
    };
    assert_eq!(read(""), (300, 30, false));
    assert_eq!(read(", refresh_interval = '1h', unknown_kid_interval = '5s', single_use = true"), (3600, 5, true));
}

#[test]
fn a_file_that_is_not_there_is_a_mistake() {
    let mistakes = Config::load(Path::new("no/such/file.toml"), &Env::new()).unwrap_err();
    assert_eq!(mistakes.0.len(), 1);
    assert!(mistakes.to_string().starts_with("no/such/file.toml: cannot read the file: "), "{mistakes}");
}

#[test]
fn proxy_headers_are_taken_from_somebody() {
    assert!(accepted("server.proxy_protocol = true\nserver.trusted_proxies = ['10.0.0.0/8']").server.proxy_protocol);
    let advice = "needs trusted_proxies, the addresses of the load balancers that send PROXY headers";
    assert_eq!(mistakes("server.proxy_protocol = true", &[]), [format!("2 server.proxy_protocol: {advice}")]);
    assert!(!accepted("server.proxy_protocol = false").server.proxy_protocol);
}
