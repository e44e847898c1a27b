//! The stub servers over real sockets.

use super::*;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

const FORM: &str = "grant_type=client_credentials&scope=all-apis";
/// `acme-spn:acme-secret` and `globex-spn:globex-secret`.
const ACME: &str = "Basic YWNtZS1zcG46YWNtZS1zZWNyZXQ=";
const GLOBEX: &str = "Basic Z2xvYmV4LXNwbjpnbG9iZXgtc2VjcmV0";

fn orgs() -> Vec<DemoOrg> {
    let org = |id: &str, name: &str| DemoOrg {
        id: id.to_owned(),
        name: name.to_owned(),
        client_id: format!("{id}-spn"),
        client_secret: Secret::new(format!("{id}-secret")),
        accent: "#0f766e".to_owned(),
    };
    vec![org("acme", "Acme"), org("globex", "Globex")]
}

async fn demo() -> Demo {
    start(&orgs()).await.expect("loopback ports")
}

async fn send(to: SocketAddr, method: Method, path: &str, auth: &str, body: impl Into<Bytes>) -> Response<Incoming> {
    let stream = TcpStream::connect(to).await.expect("it listens");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(header::HOST, "demo.test");
    let request = if auth.is_empty() { request } else { request.header(header::AUTHORIZATION, auth) };
    let request = request.header(header::COOKIE, "__Host-embedgate=~1.x").header("x-forwarded-email", "ada@acme.test");
    let request = request.header(header::CONTENT_TYPE, "text/x-test").body(Full::new(body.into())).expect("valid");
    sender.send_request(request).await.expect("an answer")
}

async fn call(to: SocketAddr, method: Method, path: &str, auth: &str, body: &str) -> (StatusCode, Value) {
    let answer = send(to, method, path, auth, body.to_owned()).await;
    let status = answer.status();
    let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn get(to: SocketAddr, path: &str, auth: &str) -> (StatusCode, Value) {
    call(to, Method::GET, path, auth, "").await
}

async fn post(to: SocketAddr, path: &str, auth: &str, body: &str) -> (StatusCode, Value) {
    call(to, Method::POST, path, auth, body).await
}

/// The header value with a fresh token.
async fn bearer(demo: &Demo, client: &str) -> String {
    let (status, answer) = post(demo.workspace, "/oidc/v1/token", client, FORM).await;
    assert_eq!(status, 200);
    format!("Bearer {}", answer["access_token"].as_str().expect("a token"))
}

async fn run(demo: &Demo, auth: &str, statement: &str) -> Value {
    let body = json!({ "statement": statement, "warehouse_id": WAREHOUSE_ID }).to_string();
    let (status, answer) = post(demo.workspace, "/api/2.0/sql/statements", auth, &body).await;
    assert_eq!(status, 200);
    answer
}

#[tokio::test]
async fn tokens_are_issued_and_counted() {
    let demo = demo().await;
    let (status, answer) = post(demo.workspace, "/oidc/v1/token", ACME, FORM).await;
    assert_eq!(status, 200);
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(3600)));
    assert_ne!(bearer(&demo, ACME).await, bearer(&demo, GLOBEX).await);
    let counts = get(demo.workspace, "/oidc/v1/mints", "").await.1;
    assert_eq!(counts, json!({ "acme-spn": 2, "globex-spn": 1 }));
    assert_eq!((demo.mints("acme-spn"), demo.mints("nobody")), (2, 0));
}

#[tokio::test]
async fn token_requests_are_refused() {
    let demo = demo().await;
    let post = async |auth: &'static str, body: &str| post(demo.workspace, "/oidc/v1/token", auth, body).await;
    // A wrong secret, then an unknown client, then none at all.
    let wrong = post("Basic YWNtZS1zcG46d3Jvbmc=", FORM).await;
    assert_eq!((wrong.0, &wrong.1["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_client")));
    assert_eq!(post("Basic bm9ib2R5Ong=", FORM).await, wrong);
    assert_eq!(post("", FORM).await, wrong);
    assert_eq!(post(ACME, "grant_type=password&scope=all-apis").await.0, 400);
    assert_eq!(post(ACME, "grant_type=client_credentials").await.0, 400);
    assert_eq!(post(ACME, &"x".repeat(65 * 1024)).await.0, 413);
    assert_eq!(get(demo.workspace, "/oidc/v1/token", ACME).await.0, 405);
    assert_eq!(demo.mints("acme-spn"), 0);
}

#[tokio::test]
async fn expired_and_revoked_tokens_are_refused() {
    let demo = start_with_token_life(&orgs(), Duration::ZERO).await.expect("loopback ports");
    let expired = bearer(&demo, ACME).await;
    let (status, answer) = get(demo.workspace, "/api/2.0/sql/warehouses", &expired).await;
    assert_eq!((status, &answer["error_code"]), (StatusCode::UNAUTHORIZED, &json!("UNAUTHENTICATED")));
    assert_eq!(get(demo.app, "/", &expired).await.0, 401);

    let demo = self::demo().await;
    let token = bearer(&demo, ACME).await;
    assert_eq!(get(demo.workspace, "/api/2.0/sql/warehouses", &token).await.0, 200);
    demo.revoke_tokens();
    assert_eq!(get(demo.workspace, "/api/2.0/sql/warehouses", &token).await.0, 401);
}

#[tokio::test]
async fn statements_succeed_and_fail() {
    let demo = demo().await;
    let acme = bearer(&demo, ACME).await;
    let answer = run(&demo, &acme, "SELECT current_user()").await;
    assert_eq!(answer["status"]["state"], "SUCCEEDED");
    assert_eq!(answer["manifest"]["schema"]["columns"][0]["type_name"], "STRING");
    assert_eq!(answer["result"]["data_array"], json!([["acme-spn"]]));

    let path = format!("/api/2.0/sql/statements/{}", answer["statement_id"].as_str().expect("an id"));
    assert_eq!(get(demo.workspace, &path, &acme).await.1, answer);
    let chunk = get(demo.workspace, &format!("{path}/result/chunks/0"), &acme).await.1;
    assert_eq!(chunk, answer["result"]);
    assert_eq!(get(demo.workspace, &format!("{path}/result/chunks/1"), &acme).await.0, 404);
    assert_eq!(post(demo.workspace, &format!("{path}/cancel"), &acme, "").await, (StatusCode::OK, json!({})));

    let failed = run(&demo, &acme, "DROP TABLE sales").await;
    assert_eq!(failed["status"]["state"], "FAILED");
    assert!(failed["status"]["error"]["message"].as_str().is_some_and(|text| text.contains("DROP TABLE")));
}

#[tokio::test]
async fn statements_belong_to_their_organisation() {
    let demo = demo().await;
    let (acme, globex) = (bearer(&demo, ACME).await, bearer(&demo, GLOBEX).await);
    let ours = run(&demo, &acme, "SELECT * FROM sales").await;
    let theirs = run(&demo, &globex, "SELECT * FROM sales").await;
    assert_ne!(ours["result"], theirs["result"]);
    let path = format!("/api/2.0/sql/statements/{}", ours["statement_id"].as_str().expect("an id"));
    for path in [path.clone(), format!("{path}/result/chunks/0"), "/api/2.0/sql/statements/0".to_owned()] {
        let (status, answer) = get(demo.workspace, &path, &globex).await;
        assert_eq!((status, &answer["error_code"]), (StatusCode::NOT_FOUND, &json!("RESOURCE_DOES_NOT_EXIST")));
    }
    assert_eq!(post(demo.workspace, &format!("{path}/cancel"), &globex, "").await.0, 404);
}

#[tokio::test]
async fn warehouses_and_wrong_requests() {
    let demo = demo().await;
    let acme = bearer(&demo, ACME).await;
    let list = get(demo.workspace, "/api/2.0/sql/warehouses", &acme).await.1;
    let one = get(demo.workspace, "/api/2.0/sql/warehouses/demo-warehouse", &acme).await.1;
    assert_eq!((&list["warehouses"][0], &one["state"]), (&one, &json!("RUNNING")));
    assert_eq!(get(demo.workspace, "/api/2.0/sql/warehouses/other", &acme).await.0, 404);
    assert_eq!(get(demo.workspace, "/api/2.0/clusters/list", &acme).await.1["error_code"], "ENDPOINT_NOT_FOUND");

    let submit = async |body: Value| post(demo.workspace, "/api/2.0/sql/statements", &acme, &body.to_string()).await;
    assert_eq!(submit(json!([])).await.0, 400);
    assert_eq!(submit(json!({ "warehouse_id": WAREHOUSE_ID })).await.0, 400);
    assert_eq!(submit(json!({ "statement": "SELECT 1", "warehouse_id": "other" })).await.0, 404);
    let external = json!({ "statement": "SELECT 1", "warehouse_id": WAREHOUSE_ID, "disposition": "EXTERNAL_LINKS" });
    assert_eq!(submit(external).await.0, 400);
    let asynchronous = json!({ "statement": "SELECT 1", "warehouse_id": WAREHOUSE_ID, "wait_timeout": "0s" });
    assert_eq!(submit(asynchronous).await.1["status"]["state"], "PENDING");
}

#[tokio::test]
async fn the_app_wants_a_bearer_and_shows_what_it_was_told() {
    let demo = demo().await;
    for path in ["/", "/api/me", "/api/sales", "/clock", "/ws", "/nowhere"] {
        assert_eq!(get(demo.app, path, "").await.0, 401);
        assert_eq!(get(demo.app, path, "Bearer demo-0").await.0, 401);
    }
    let acme = bearer(&demo, ACME).await;
    let me = get(demo.app, "/api/me", &acme).await.1;
    assert_eq!((&me["email"], &me["user"]), (&json!("ada@acme.test"), &Value::Null));
    assert_eq!((&me["principal"], &me["host"]), (&json!("acme-spn"), &json!("demo.test")));
    assert_eq!(me["session_cookie_seen"], true);
    assert!(!me.to_string().contains(&acme[7..]));
    assert_eq!(get(demo.app, "/api/sales", &acme).await.1["organisation"], "acme");
    assert_eq!(get(demo.app, "/", &acme).await.0, 200);
    assert_eq!(get(demo.app, "/nowhere", &acme).await.0, 404);

    let upload = vec![b'x'; 300_000];
    let echo = send(demo.app, Method::POST, "/api/echo", &acme, upload.clone()).await;
    assert_eq!(echo.headers()[header::CONTENT_TYPE], "text/x-test");
    assert_eq!(echo.into_body().collect().await.expect("a body").to_bytes(), upload);
}

#[tokio::test]
async fn the_clock_ticks_at_once() {
    let demo = demo().await;
    let acme = bearer(&demo, ACME).await;
    let mut answer = send(demo.app, Method::GET, "/clock", &acme, "").await;
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
    let event = answer.body_mut().frame().await.expect("a frame").expect("no error").into_data().expect("data");
    let event = std::str::from_utf8(&event).expect("text");
    let data = event.strip_prefix("id: 1\ndata: ").and_then(|rest| rest.strip_suffix("\n\n")).expect("an event");
    let data: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(data["count"], 1);
    assert!(data["time"].as_str().is_some_and(|time| time.ends_with('Z')));
}

async fn open(demo: &Demo, auth: &str, offer: &'static str) -> (WebSocketStream<TcpStream>, Option<String>) {
    let mut request = format!("ws://{}/ws", demo.app).into_client_request().expect("a URL");
    request.headers_mut().insert(header::AUTHORIZATION, auth.parse().expect("a header"));
    if !offer.is_empty() {
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, offer.parse().expect("a header"));
    }
    let stream = TcpStream::connect(demo.app).await.expect("it listens");
    let (socket, answer) = client_async(request, stream).await.expect("a WebSocket");
    let protocol = answer.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
    (socket, protocol.map(|value| value.to_str().expect("text").to_owned()))
}

#[tokio::test]
async fn the_websocket_echoes_and_closes() {
    let demo = demo().await;
    let acme = bearer(&demo, ACME).await;
    let (mut socket, protocol) = open(&demo, &acme, "chat, echo.v1").await;
    assert_eq!(protocol.as_deref(), Some("echo.v1"));
    for message in [Message::text("grüß dich"), Message::binary(vec![0, 255, 7]), Message::text("")] {
        socket.send(message.clone()).await.expect("sent");
        assert_eq!(socket.next().await.expect("open").expect("no error"), message);
    }
    socket.close(None).await.expect("sent");
    while let Some(message) = socket.next().await {
        assert!(matches!(message, Ok(Message::Close(_))));
    }

    let (mut socket, protocol) = open(&demo, &acme, "").await;
    assert_eq!(protocol, None);
    socket.send(Message::binary(vec![0; 1024 * 1024 + 1])).await.expect("sent");
    let answer = socket.next().await.expect("open").expect("no error");
    assert!(matches!(answer, Message::Close(Some(frame)) if frame.code == CloseCode::Size));
    assert_eq!(get(demo.app, "/ws", &acme).await.0, 426);
}

#[tokio::test]
async fn stopping_ends_everything() {
    let demo = demo().await;
    let acme = bearer(&demo, ACME).await;
    let (app, workspace) = (demo.app, demo.workspace);
    let (mut socket, _) = open(&demo, &acme, "").await;
    let mut clock = send(app, Method::GET, "/clock", &acme, "").await;
    let (goodbye, ()) = tokio::join!(socket.next(), demo.stop());
    assert!(matches!(goodbye, Some(Ok(Message::Close(Some(frame)))) if frame.code == CloseCode::Away));
    while let Some(Ok(_)) = clock.body_mut().frame().await {}
    for address in [app, workspace] {
        assert!(TcpStream::connect(address).await.is_err());
    }
}

#[tokio::test]
async fn organisations_must_not_share_a_principal() {
    let twice = [orgs().remove(0), orgs().remove(0)];
    assert_eq!(start(&twice).await.expect_err("refused").kind(), io::ErrorKind::InvalidInput);
}
