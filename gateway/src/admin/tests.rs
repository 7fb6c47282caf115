//! What a request does to the store and to the audit log.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use super::control::{self, Control};
use super::secret::Secret;
use super::{Admin, AdminState, HEADER_TIMEOUT, Readiness};
use crate::clock::Clock;
use crate::model::key::KeyHash;
use crate::model::limit::QuotaLimit;
use crate::model::policy::{Policy, PolicyId};
use crate::model::session::{Quota, Session};
use crate::store::{Life, Owner, PolicyCache, QuotaUse, Store, Take};

fn control() -> Control {
    let clock = Clock::manual(1_000_000_000_000);
    let store = Store::in_memory(clock.clone());
    Control {
        policies: PolicyCache::new(&store, Vec::new()),
        store,
        clock,
        secret: Secret::new("secret"),
        allow_master_keys: false,
        body_bytes_max: 10_000,
        organisation: Arc::new(|_| None),
        identity: Arc::new(|_, _| None),
        connections_max: 64,
        loaded: None,
        numbers: Arc::default(),
    }
}

async fn send(control: &Control, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
    // A test beside this one may have been the first to log here, and nobody listens there.
    tracing::callsite::rebuild_interest_cache();
    let request = Request::builder().method(method).uri(path).header("x-tyk-authorization", "secret");
    let request = request.body(Full::new(Bytes::from(body.to_string()))).expect("a request");
    let rest = path.split('?').next().unwrap_or_default().to_owned();
    let answer = control::answer(control, ([127, 0, 0, 1], 9).into(), request, &rest).await;
    let status = answer.status();
    let bytes = answer.into_body().collect().await.expect("a whole body").to_bytes();
    (status, serde_json::from_slice(&bytes).expect("every body parses"))
}

/// A key with a quota of its own and one for an API.
fn key() -> Value {
    let quota = json!({ "quota_max": 10, "quota_renewal_rate": 60 });
    let rights = json!({ "a": { "limit": quota }, "b": { "limit": quota, "allowance_scope": "s" } });
    json!({ "quota_max": 10, "quota_renewal_rate": 60, "quota_remaining": 3, "access_rights": rights })
}

async fn use_one(control: &Control, owner: &Owner) {
    let limit = QuotaLimit::of(&Quota { max: 10, renewal_rate: 60, ..Quota::default() }).expect("a quota");
    let take = Take { quota: Some(QuotaUse { owner: owner.clone(), limit }), ..Take::default() };
    control.store.take(&take).await.expect("memory is there");
}

/// What is left: of the key, of its right to `a`, of its right to `b`.
async fn left(control: &Control) -> [Value; 3] {
    let (_, shown) = send(control, "GET", "/tyk/keys/abc", &Value::Null).await;
    let rights = &shown["access_rights"];
    [&shown, &rights["a"]["limit"], &rights["b"]["limit"]].map(|of| of["quota_remaining"].clone())
}

#[tokio::test]
async fn a_change_resets_the_quota_unless_told_not_to() {
    let control = control();
    let hash = KeyHash::of("abc");
    let owners = [None, Some("a"), Some("s")].map(|scope| Owner::session(&hash, scope));
    let use_some = async || {
        for owner in &owners {
            use_one(&control, owner).await;
        }
        assert_eq!(left(&control).await, [json!(9), json!(9), json!(9)]);
    };
    send(&control, "POST", "/tyk/keys/abc", &key()).await;
    assert_eq!(left(&control).await, [json!(10), json!(10), json!(10)], "what the body says of it does not count");

    use_some().await;
    for method in ["POST", "PUT"] {
        send(&control, method, "/tyk/keys/abc?suppress_reset=1", &key()).await;
        assert_eq!(left(&control).await, [json!(9), json!(9), json!(9)], "{method}");
        send(&control, method, "/tyk/keys/abc", &key()).await;
        assert_eq!(left(&control).await, [json!(10), json!(10), json!(10)], "{method}");
        use_some().await;
    }
}

#[tokio::test]
async fn a_key_that_tyk_hashed_is_found_and_not_hidden() {
    let control = control();
    let hash = KeyHash::tyk_of("defaultk-x");
    let session = Session { alias: "old".to_owned(), organisation: "default".to_owned(), ..Session::default() };
    control.store.create_session(&hash, &session, Life::Forever).await.expect("memory is there");
    let rights = json!({ "org_id": "default", "access_rights": { "a": {} } });

    assert_eq!(send(&control, "GET", "/tyk/keys/defaultk-x", &Value::Null).await.1["alias"], "old");
    for (name, status) in [("k-x", 409), ("k-aa", 409), ("k-other", 200)] {
        let (found, body) = send(&control, "POST", &format!("/tyk/keys/{name}"), &rights).await;
        assert_eq!(found.as_u16(), status, "{name}: {body}");
    }
    assert_eq!(send(&control, "PUT", "/tyk/keys/k-x", &rights).await.0, 200);
    assert_eq!(send(&control, "DELETE", "/tyk/keys/k-x?org_id=default", &Value::Null).await.0, 200);
    assert_eq!(control.store.session(&hash).await, Ok(None));
}

/// A log in memory.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn every_change_is_audited_and_no_token_is() {
    let (control, lines) = (control(), Lines::default());
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
    // Where there is one subscriber alone, a line that a test on another thread comes to first is switched off for all.
    let second = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(log);
    let good = json!({ "access_rights": { "a": {} } });
    let (_, made) = send(&control, "POST", "/tyk/keys/create", &good).await;
    let token = made["key"].as_str().expect("a token").to_owned();
    send(&control, "PUT", &format!("/tyk/keys/{token}"), &good).await;
    send(&control, "PUT", &format!("/tyk/keys/{token}"), &json!({})).await;
    send(&control, "GET", &format!("/tyk/keys/{token}"), &Value::Null).await;
    send(&control, "DELETE", &format!("/tyk/keys/{token}"), &Value::Null).await;
    send(&control, "POST", "/tyk/policies", &json!({ "id": "gold\u{202e}" })).await;
    send(&control, "DELETE", "/tyk/policies/none", &Value::Null).await;
    drop((guard, second));

    let text = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let hash = KeyHash::of(&token);
    let told: Vec<_> = (lines.iter())
        .map(|line| (line["action"].clone(), line["status"].clone(), line["key_hash"].clone(), line["policy"].clone()))
        .collect();
    let (hash, null) = (json!(hash.as_str()), Value::Null);
    let expected = [
        ("key.create", 200, &hash, &null),
        ("key.update", 200, &hash, &null),
        ("key.update", 400, &hash, &null),
        ("key.delete", 200, &hash, &null),
        ("policy.create", 200, &null, &json!("gold\\u{202e}")),
        ("policy.delete", 404, &null, &json!("none")),
    ]
    .map(|(action, status, key, policy)| (json!(action), json!(status), key.clone(), policy.clone()));
    assert_eq!(told, expected, "{text}");
    assert!(lines.iter().all(|line| line["target"] == "stile::audit" && line["remote"] == "127.0.0.1:9"), "{text}");
    assert!(!text.contains(&token));
}

#[test]
fn stopping_does_not_wait_for_callers_that_hold_all_places() {
    use std::io::Read as _;
    let readiness = || Readiness { is_ready: true, is_draining: false, details: Vec::new() };
    let state = AdminState { readiness: Arc::new(readiness), metrics: Arc::new(String::new), control: self::control() };
    let admin = Admin::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let handle = admin.serve(state).expect("a thread");
    let hold = |_| {
        let mut stream = std::net::TcpStream::connect(handle.address).expect("it listens");
        stream.write_all(b"GET /live HTTP/1.1\r\nhost: a\r\n\r\n").expect("it reads");
        // An answer shows that the place is taken.
        stream.read_exact(&mut [0; 12]).expect("it answers");
        stream
    };
    let _held: Vec<std::net::TcpStream> = (0..64).map(hold).collect();
    let (ended, has_ended) = mpsc::channel();

    std::thread::spawn(move || {
        drop(handle);
        ended.send(()).expect("somebody waits");
    });

    // Sooner than the places come free by themselves.
    has_ended.recv_timeout(HEADER_TIMEOUT / 2).expect("it ended");
}

#[tokio::test]
async fn a_policy_of_a_file_is_shown_and_not_changed() {
    let gold = PolicyId::parse("gold").expect("an id");
    let mut control = control();
    control.policies = PolicyCache::new(&control.store, vec![Policy::new(gold)]);

    assert_eq!(send(&control, "GET", "/tyk/policies", &Value::Null).await.1[0]["id"], "gold");
    assert_eq!(send(&control, "GET", "/tyk/policies/gold", &Value::Null).await.0, StatusCode::OK);
    for (method, path) in [("PUT", "/tyk/policies/gold"), ("DELETE", "/tyk/policies/gold"), ("POST", "/tyk/policies")] {
        let (status, body) = send(&control, method, path, &json!({ "id": "gold" })).await;
        assert_eq!((status, &body["status"]), (StatusCode::CONFLICT, &json!("error")), "{method} {path}");
    }
}
