//! What the steps of a request cost by themselves: `cargo bench`. Whole requests are measured from outside, see
//! docs/performance.md.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up may as well stop")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use embedgate::config::{Config, Env};
use embedgate::live::fleet::Fleet;
use embedgate::live::gate::Gate;
use embedgate::live::node::NodeLive;
use embedgate::live::token::Token;
use embedgate::model::ids::OrgId;
use embedgate::model::quota::Quota;
use embedgate::model::snapshot::Snapshot;
use embedgate::model::tables::Tables;
use embedgate::model::upstream::{Budget, Node};
use embedgate::model::url::{AllowedHosts, BaseUrl};
use embedgate::net::Peer;
use embedgate::plane::admission::Admission;
use embedgate::plane::bench::{Frames, Way};
use embedgate::plane::decide::{Moment, decide};
use embedgate::plane::route::{Hosts, locate};
use embedgate::secret::Secret;
use embedgate::session::carrier::{CookieNames, find};
use embedgate::session::seal::{KeyRing, Purpose};
use embedgate::session::{MAX_LIFE, Parts, Session};
use embedgate::wire::request::{Head, HeadEnd, Limits};
use embedgate::wire::response;
use std::fmt::Write;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

const LIMITS: Limits = Limits { bytes: 32 * 1024, fields: 100 };

fn ring() -> KeyRing {
    KeyRing::new([("k1".to_owned(), [7; 32])])
}

fn session(org: &str) -> Session {
    let (id, email, user) = ([1; 16], "ada@acme.example", "V1StGXR8_Z5jdHi6B-myT");
    Session::new(Parts { id, issued: 0, expires: MAX_LIFE.as_secs(), org, user, email, app: None }).unwrap()
}

/// The head a browser sends.
fn head(org: &str) -> Vec<u8> {
    let token = ring().seal(Purpose::Session, &session(org)).unwrap().unwrap();
    format!(
        "GET /static/js/main.0a1b2c3d.chunk.js?v=17 HTTP/1.1\r\nHost: app-3--{org}.apps.example.com\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
         Accept: */*\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9\r\nSec-Fetch-Site: same-origin\r\n\
         Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\nReferer: https://app-3--{org}.apps.example.com/\r\n\
         Cookie: theme=dark; __Host-embedgate={token}; _xsrf=2|abc|def\r\nConnection: keep-alive\r\n\r\n"
    )
    .into_bytes()
}

/// So many organisations with five apps each. One is read, and the others are like it.
fn tables(orgs: usize) -> Tables {
    let mut text =
        String::from("[[org]]\nid = \"org\"\n[[org.workspace]]\nid = \"main\"\nurl = \"http://127.0.0.1:1\"\n");
    text += "[[org.principal]]\nid = \"spn\"\nkind = \"bearer\"\ntoken = \"t\"\n";
    for app in 0..5 {
        write!(text, "[[org.app]]\nid = \"app-{app}\"\nurl = \"http://127.0.0.1:{}\"\n", 2 + app).unwrap();
    }
    let policy = AllowedHosts { domains: vec!["127.0.0.1".into()], private: true };
    let vault = embedgate::vault::Vault::default();
    let mut tables =
        embedgate::directory::file::parse(&text, Path::new("bench"), &policy, &Env::new(), &vault).unwrap();
    let one = tables.orgs.remove(0);
    tables.orgs.extend((0..orgs).map(|number| {
        let mut org = one.clone();
        org.id = OrgId::parse(&format!("org-{number}")).unwrap();
        org
    }));
    tables
}

/// The head of an answer, as an app sends it with a page.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: app\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\nCache-Control: no-cache\r\nETag: \"5f-1\"\r\nVary: Accept-Encoding\r\n\
    Set-Cookie: _xsrf=2|abc|def; Path=/; SameSite=Lax\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 1024\r\n\r\n";

fn steps(c: &mut Criterion) {
    let bytes = head("org-7");
    let mut positions = Vec::new();
    c.bench_function("find the end of a head", |b| {
        b.iter(|| HeadEnd::default().find(black_box(&bytes), LIMITS.bytes));
    });
    c.bench_function("parse a head", |b| {
        b.iter(|| Head::parse(black_box(&bytes), &mut positions, LIMITS).map(|head| head.keep_alive));
    });
    c.bench_function("find the end of an answer's head", |b| {
        b.iter(|| HeadEnd::of_answer().find(black_box(ANSWER), LIMITS.bytes));
    });
    c.bench_function("parse an answer's head", |b| {
        b.iter(|| response::Head::parse(black_box(ANSWER), &mut positions, LIMITS, false).map(|head| head.keep_alive));
    });
    let head = Head::parse(&bytes, &mut positions, LIMITS).unwrap();
    let hosts = Hosts { base_domain: Some("apps.example.com".into()), ..Hosts::default() };
    c.bench_function("locate", |b| b.iter(|| locate(black_box(&hosts), &head).is_ok()));
    let (ring, names) = (ring(), CookieNames::new(true));
    c.bench_function("find and open a session", |b| {
        b.iter(|| {
            let open = |token: &[u8]| ring.open(Purpose::Session, token, 1).map(Rc::new);
            find(black_box(head.fields), names, None, open).is_ok()
        });
    });
    let token = ring.seal(Purpose::Session, &session("org-7")).unwrap().unwrap();
    c.bench_function("open a session", |b| {
        b.iter(|| ring.open(Purpose::Session, black_box(token.as_bytes()), 1).is_ok());
    });
}

/// What is written for the other side.
fn heads(c: &mut Criterion) {
    let node = Node::new(BaseUrl::parse("http://127.0.0.1:2").unwrap(), NodeLive::new());
    let token = Token::authorization(&Secret::new("Bearer hush".into()), &[]);
    let session = session("org-7");
    let peer = Peer::new(Ipv4Addr::LOCALHOST.into());
    let way = Way { node: &node, prefix: "/static", token: &token, session: &session, peer: &peer };
    let (bytes, mut positions, mut out) = (head("org-7"), Vec::new(), Vec::new());
    let request = Head::parse(&bytes, &mut positions, LIMITS).unwrap();
    c.bench_function("write a request's head for the upstream", |b| {
        b.iter(|| {
            out.clear();
            way.write_request(black_box(&request), &mut out);
        });
    });
    let mut positions = Vec::new();
    let answer = response::Head::parse(ANSWER, &mut positions, LIMITS, false).unwrap();
    let frames = "frame-ancestors 'self' https://www.example.com";
    c.bench_function("write an answer's head for the client", |b| {
        b.iter(|| {
            out.clear();
            way.write_answer(black_box(&answer), Some(frames), &mut out);
        });
    });
}

/// Messages of WebSockets, whose frames are followed and not copied.
fn websockets(c: &mut Criterion) {
    let small = [&[0x82, 0x80 | 0x64, 0, 0, 0, 0][..], &[0; 100]].concat();
    let mut frames = Frames::default();
    c.bench_function("follow a frame of 100 bytes", |b| b.iter(|| frames.follow(black_box(&small))));
    let mut limited = Frames::new(1 << 20, 1 << 20);
    c.bench_function("follow it where frames are limited", |b| b.iter(|| limited.follow(black_box(&small))));
    let many = small.repeat(150);
    c.bench_function("follow 150 of them that came together", |b| b.iter(|| frames.follow(black_box(&many))));
}

fn directory(c: &mut Criterion) {
    let session = session("org-7");
    let bytes = head("org-7");
    let mut positions = Vec::new();
    let head = Head::parse(&bytes, &mut positions, LIMITS).unwrap();
    let hosts = Hosts { base_domain: Some("apps.example.com".into()), ..Hosts::default() };
    let target = locate(&hosts, &head).unwrap();
    for (orgs, written) in [(10_000, "10,000"), (100_000, "100,000")] {
        let tables = tables(orgs);
        let snapshot = Snapshot::build(tables.clone(), None);
        let mut seed = 1u64;
        c.bench_function(&format!("decide among {written} organisations"), |b| {
            b.iter(|| {
                seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
                decide(black_box(&snapshot), &target, &session, &Moment { now: 1, seed, ..Moment::default() }).is_ok()
            });
        });
        snapshots(c, &tables, &snapshot, written);
    }
}

/// A new snapshot, of all organisations or with one of them in place of its predecessor. To copy the rows and to drop what
/// was built is not in the times of the second.
fn snapshots(c: &mut Criterion, tables: &Tables, snapshot: &Snapshot, written: &str) {
    let mut group = c.benchmark_group("snapshot");
    group.sample_size(10);
    group.bench_function(format!("build {written} organisations on their predecessors"), |b| {
        b.iter(|| Snapshot::build(black_box(tables.clone()), Some(snapshot)).len());
    });
    let one = &tables.orgs[7];
    group.bench_function(format!("replace one of {written} organisations"), |b| {
        let row = || vec![one.clone()];
        b.iter_batched(row, |rows| snapshot.with_orgs(black_box(rows), &[]), BatchSize::SmallInput);
    });
    group.finish();
}

/// What quotas and limits cost a request that is within all of them.
fn admission(c: &mut Criterion) {
    let env = Env::from([("KEY".to_owned(), "5e".repeat(32))]);
    let keys = "session.keys = [{ id = 'k1', env = 'KEY' }]\n";
    let config = Config::parse(keys, Path::new("bench"), &env).unwrap();
    let admission = Admission::new(&config, Arc::new(Fleet::new("bench")), Arc::default());
    let session = session("org-7");
    let none = Budget::default();
    c.bench_function("count a request without quotas", |b| {
        b.iter(|| admission.charge(black_box(&none), &session).is_ok());
    });
    let all = Budget { quota: Quota::of([Some(1_000_000_000); 6]), ..Budget::default() };
    c.bench_function("charge a request to six quotas", |b| {
        b.iter(|| admission.charge(black_box(&all), &session).is_ok());
    });
    let gate = Arc::new(Gate::default());
    c.bench_function("pass a gate and leave", |b| b.iter(|| black_box(&gate).enter(8).is_some()));
}

criterion_group!(benches, steps, heads, websockets, directory, admission);
criterion_main!(benches);
