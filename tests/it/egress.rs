//! Requests that plugins send: where they may go, what they may carry, and what they may cost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use stile_tests::{Answer, Api, Builder, Folder, Gateway, Seen, SelfSigned, Upstream, api, plugin};

const TABLE: &str = include_str!("../data/egress.txt");

/// A line of the table.
struct Expected {
    /// `None` where the call fails; `*` for anything.
    told: Option<String>,
    outcomes: BTreeSet<&'static str>,
    failure: Option<&'static str>,
}

fn table() -> BTreeMap<&'static str, Expected> {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    rows.map(|line| {
        let [attack, told, outcomes, failure] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("`{line}` has not four columns");
        };
        let some = |text: &'static str| Some(text).filter(|text| *text != "-");
        let told = some(told).map(|told| told.replace('_', " "));
        let outcomes = some(outcomes).into_iter().flat_map(|outcomes| outcomes.split(',')).collect();
        (attack, Expected { told, outcomes, failure: some(failure) })
    })
    .collect()
}

const SECRET: &str = "s3cr3t-w0rds";

/// The server that a plugin may ask.
fn server(forbidden: &Upstream) -> Upstream {
    let location = format!("{}/inside", forbidden.url());
    Upstream::answering(move |seen| match seen.target.trim_end_matches('/') {
        "/redirect" => Answer::new(302).header("location", &location),
        "/large" => Answer::new(200).pieces([LARGE; 5], None),
        "/declared" => Answer::new(200).body(LARGE.repeat(5)),
        "/head" => Answer::new(200).header("x-large", &"x".repeat(20_000)),
        "/drip" => Answer::new(200).pieces(["a"; 20], None).pausing(Duration::from_millis(100)),
        "/slow" => Answer::new(200).after(SLOW),
        "/echo" => {
            let secret = seen.header("x-secret").unwrap_or_default();
            Answer::new(200).header("x-secret", secret).body(format!("secret={secret}"))
        }
        _ => Answer::new(200),
    })
}

/// Five of them are over the limit of the test.
const LARGE: &str = {
    const BYTES: &[u8] = &[b'x'; 60_000];
    match std::str::from_utf8(BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};
/// Beyond all limits of the test.
const SLOW: Duration = Duration::from_millis(1_500);

fn address(server: &Upstream) -> String {
    server.url().replace("http://", "")
}

fn port(server: &Upstream) -> String {
    server.url().rsplit(':').next().expect("a port").to_owned()
}

/// A gateway whose plugin `egress` tries this.
fn attacking(attack: &str, allowed: &Upstream, forbidden: &Upstream) -> Builder {
    let config = json!({
        "attack": attack,
        "allowed": format!("allowed.test:{}", port(allowed)),
        "forbidden": address(forbidden),
    });
    let (allowed, forbidden) = (port(allowed), port(forbidden));
    let definition = api("orders").pre(plugin("egress").config(config)).upstream_url("http://127.0.0.1:1");
    let allow = json!([
        { "url": format!("http://allowed.test:{allowed}"), "private": true },
        format!("http://private.test:{forbidden}"),
        format!("http://metadata.test:{forbidden}"),
        format!("http://mixed.test:{forbidden}"),
    ]);
    let allow = match attack {
        "secret_elsewhere" => with(&allow, json!(format!("http://127.0.0.1:{forbidden}"))),
        _ => allow,
    };
    let limits = json!({
        "deadline_ms": if attack == "deadline" { 300 } else { 10_000 },
        "outgoing_time_max_ms": if matches!(attack, "slow_answer" | "drip" | "at_once") { 300 } else { 5_000 },
        "outgoing_request_bytes_max": 200_000,
        "outgoing_response_bytes_max": 200_000,
        "outgoing_concurrency_max": if attack == "at_once" { 2 } else { 64 },
        "outgoing_wait_ms": 20,
        "fuel": 1_000_000_000_000_u64,
    });
    let secret = json!({ "token": { "file": "secret", "hosts": [format!("http://allowed.test:{allowed}")] } });
    Gateway::with(definition)
        .grant("egress", ["outgoing-http", "secrets"])
        .file("secret", format!("{SECRET}\n"))
        .plugin("egress", "outgoing_http", json!({ "allow": allow }))
        .plugin("egress", "secrets", secret)
        .limits("egress", limits)
        // What it leaves behind is in an instance that goes on.
        .plugin("egress", "isolation", if attack == "leave_behind" { "reuse" } else { "request" })
        .resolving(names)
}

fn with(list: &Value, entry: Value) -> Value {
    let mut list = list.as_array().expect("a list").clone();
    list.push(entry);
    Value::Array(list)
}

fn names(host: &str) -> Vec<IpAddr> {
    let addresses: &[&str] = match host {
        "allowed.test" | "private.test" => &["127.0.0.1"],
        "metadata.test" => &["169.254.169.254"],
        "mixed.test" => &["203.0.114.1", "127.0.0.1"],
        _ => &[],
    };
    addresses.iter().map(|address| address.parse().expect("an address")).collect()
}

async fn check(attack: &str) {
    let table = table();
    let expected = table.get(attack).unwrap_or_else(|| panic!("`{attack}` is not in the table"));
    let forbidden = Upstream::start();
    let allowed = server(&forbidden);
    let gateway = attacking(attack, &allowed, &forbidden).start().await;

    let reply = gateway.get("/orders/1").send().await;

    let text = reply.text();
    match &expected.told {
        None => assert_eq!(reply.status(), 500, "{attack}: {text}"),
        Some(told) => {
            assert_eq!(reply.status(), 200, "{attack}: {text}");
            assert!(told == "*" || *told == text, "{attack}: `{text}`");
        }
    }
    for outcome in &expected.outcomes {
        let counted = |gateway: &Gateway| gateway.metric(OUTGOING, &[("plugin", "egress"), ("outcome", outcome)]);
        let begun = std::time::Instant::now();
        while counted(&gateway) == 0.0 {
            assert!(begun.elapsed() < Duration::from_secs(5), "{attack}: {}", gateway.page().counted(OUTGOING));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let all: BTreeSet<String> = OUTCOMES
        .iter()
        .filter(|outcome| gateway.metric(OUTGOING, &[("outcome", outcome)]) > 0.0)
        .map(|outcome| (*outcome).to_owned())
        .collect();
    let known: BTreeSet<String> = expected.outcomes.iter().map(|outcome| (*outcome).to_owned()).collect();
    assert_eq!(all, known, "{attack}");
    for kind in ["trap", "deadline", "host_call", "plugin_error"] {
        let counted = gateway.metric("stile_plugin_call_failures_total", &[("kind", kind)]);
        assert_eq!(counted, f64::from(u8::from(expected.failure == Some(kind))), "{attack}: {kind}");
    }
    assert_eq!(forbidden.calls(), 0, "{attack}: {:?}", forbidden.seen());
    for seen in allowed.seen() {
        check_seen(attack, &seen);
    }
}

/// What the server that may be asked has heard.
fn check_seen(attack: &str, seen: &Seen) {
    assert_eq!(seen.header("x-smuggled"), None, "{attack}");
    assert!(!format!("{seen:?}").contains(SECRET) || attack == "secret_echo", "{attack}: {seen:?}");
    assert!(seen.header("host").is_some_and(|host| host.starts_with("allowed.test:")), "{attack}: {seen:?}");
    if attack == "secret_echo" {
        assert_eq!(seen.header("x-secret"), Some(SECRET));
    }
    if attack.ends_with("_body") && attack != "secret_body" {
        assert!(!matches!(attack, "short_body" | "long_body" | "large_body"), "{attack}: a whole request came");
    }
}

const OUTGOING: &str = "stile_plugin_outgoing_requests_total";
const OUTCOMES: [&str; 21] = [
    "ok",
    "hook",
    "calls",
    "host",
    "not_allowed",
    "address",
    "method",
    "field",
    "secret",
    "busy",
    "time",
    "request_bytes",
    "response_bytes",
    "header_bytes",
    "request_broken",
    "resolve",
    "connect",
    "tls",
    "closed",
    "protocol",
    "aborted",
];

macro_rules! attacks {
    ($($(#[$meta:meta])* $name:ident: $attack:literal;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                check($attack).await;
            }
        )*

        #[test]
        fn every_attack_of_the_table_is_a_test() {
            let tested = BTreeSet::from([$($attack),*]);
            assert_eq!(table().keys().copied().collect::<BTreeSet<_>>(), tested);
        }
    };
}

attacks! {
    a_plugin_reaches_a_host_that_is_listed: "none";
    a_host_in_capitals_is_the_same_host: "capitals";
    a_host_that_is_not_listed_is_not_asked: "other_host";
    a_port_that_is_not_listed_is_not_asked: "other_port";
    a_scheme_that_is_not_listed_is_not_spoken: "other_scheme";
    an_address_as_one_number_is_no_host: "decimal";
    an_address_with_hexadecimal_numbers_is_no_host: "hexadecimal";
    an_address_with_octal_numbers_is_no_host: "octal";
    an_address_with_two_numbers_is_no_host: "short";
    an_address_inside_another_is_not_listed: "mapped";
    an_escaped_address_is_no_host: "escaped";
    a_full_stop_does_not_make_another_host: "full_stop";
    a_user_before_the_host_is_refused: "credentials";
    a_name_with_a_private_address_is_not_connected_to: "private_name";
    a_name_with_the_address_of_a_metadata_service_is_not_connected_to: "metadata_name";
    a_name_with_one_private_address_among_others_is_not_connected_to: "mixed_name";
    a_redirect_is_not_followed_and_leads_nowhere_new: "redirect";
    a_line_break_in_a_header_does_not_leave: "crlf";
    the_host_field_is_the_gateway_s: "host";
    the_connection_field_is_the_gateway_s: "connection";
    the_framing_is_the_gateway_s: "transfer_encoding";
    a_field_for_proxies_does_not_leave: "proxy";
    a_line_break_in_a_path_does_not_leave: "path_crlf";
    the_method_connect_does_not_leave: "connect";
    the_method_trace_does_not_leave: "trace";
    a_body_shorter_than_declared_is_broken_off: "short_body";
    a_body_longer_than_declared_is_broken_off: "long_body";
    a_body_over_its_limit_is_broken_off: "large_body";
    an_answer_over_its_limit_is_broken_off: "large_answer";
    an_answer_that_declares_to_be_over_its_limit_is_not_read: "declared_answer";
    header_fields_over_their_limit_do_not_come_in: "large_head";
    an_answer_that_comes_drop_by_drop_is_waited_for_so_long: "drip";
    an_answer_that_does_not_come_is_waited_for_so_long: "slow_answer";
    a_call_ends_at_its_deadline_while_it_waits_for_an_answer: "deadline";
    a_call_that_sends_too_often_is_ended: "calls";
    a_plugin_sends_so_many_requests_at_a_time: "at_once";
    what_a_call_leaves_behind_ends_with_it: "leave_behind";
    a_plugin_that_takes_all_handles_is_ended: "hoard";
    a_placeholder_says_nothing_of_the_secret: "secret_text";
    a_server_that_repeats_the_secret_does_not_tell_the_plugin: "secret_echo";
    a_secret_is_not_put_into_urls: "secret_url";
    a_secret_is_not_put_into_bodies: "secret_body";
    a_secret_goes_to_its_hosts_only: "secret_elsewhere";
    a_secret_that_the_plugin_was_not_given_is_not_there: "secret_other";
    there_is_no_network_in_init: "init";
}

/// An API with the plugin of another library, which posts to this URL.
fn asking(url: &str) -> Builder {
    let definition =
        api("orders").pre(plugin("with-waki").config(json!({ "url": url }))).upstream_url("http://127.0.0.1:1");
    let builder = Gateway::with(definition).grant("with-waki", ["outgoing-http"]);
    builder.plugin("with-waki", "outgoing_http", json!({ "allow": [url.trim_end_matches("/asked")] }))
}

#[tokio::test]
async fn a_library_for_wasi_http_works_and_its_connection_is_used_again() {
    let server = Upstream::answering(|_| Answer::new(201).pieces(["an ", "answer"], None));
    let gateway = asking(&format!("{}/asked", server.url())).start().await;

    for _ in 0..5 {
        let reply = gateway.get("/orders/1").send().await;
        assert_eq!((reply.status(), reply.text()), (201, "an answer"));
    }

    let seen = server.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/asked"));
    assert_eq!((seen.header("x-from"), &seen.body[..]), (Some("waki"), &b"hello"[..]));
    assert_eq!(gateway.metric(OUTGOING, &[("outcome", "ok"), ("api", "orders"), ("plugin", "with-waki")]), 5.0);
    assert_eq!(gateway.metric("stile_upstream_connections_opened_total", &[]), 1.0);
    assert_eq!(gateway.metric("stile_upstream_connections_reused_total", &[]), 4.0);
}

#[tokio::test]
async fn a_certificate_is_checked_with_the_operator_s_authorities() {
    let (upstream, certificate) = (Upstream::start(), SelfSigned::new());
    let server = Gateway::with(api("inner").upstream(&upstream)).tls(&certificate).start().await;
    let port = server.address.port();
    // The certificate is for `localhost`.
    let folder = Folder::new();
    SelfSigned::new().write(folder.path());
    let (ours, others) = (server.folder(), folder.path());
    for (host, authorities, status) in [("localhost", ours, 200), ("other.test", ours, 500), ("localhost", others, 500)]
    {
        let url = format!("https://{host}:{port}/inner/asked");
        let allow = json!([{ "url": format!("https://{host}:{port}"), "private": true }]);
        let outgoing = json!({ "allow": allow, "ca_file": authorities.join("cert.pem") });
        let gateway = asking(&url).plugin("with-waki", "outgoing_http", outgoing);
        let gateway = gateway.resolving(|_| vec![IpAddr::from([127, 0, 0, 1])]).start().await;

        let reply = gateway.get("/orders/1").send().await;

        assert_eq!(reply.status(), status, "{host} {authorities:?}: {}", reply.text());
        let outcome = if status == 200 { "ok" } else { "tls" };
        assert_eq!(gateway.metric(OUTGOING, &[("outcome", outcome)]), 1.0, "{host} {authorities:?}");
    }
}

#[tokio::test]
async fn the_address_that_was_looked_at_is_the_one_that_is_connected_to() {
    let server = Upstream::start();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    // A name that is good whenever it is looked at for the first time, and this machine from then on.
    let names = move |_: &str| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => vec![IpAddr::from([203, 0, 114, 1])],
        _ => vec![IpAddr::from([127, 0, 0, 1])],
    };
    let url = format!("http://rebind.test:{}/asked", port(&server));
    let limits = json!({ "outgoing_time_max_ms": 200 });
    let gateway = asking(&url).limits("with-waki", limits).resolving(names).start().await;

    assert_eq!(gateway.get("/orders/1").send().await.status(), 500);

    assert_eq!(asked.load(Ordering::SeqCst), 1, "the name is asked once for a connection");
    assert_eq!(server.calls(), 0);
    assert_eq!(gateway.metric(OUTGOING, &[("outcome", "address")]), 0.0);
    let unreached = ["time", "connect"].map(|outcome| gateway.metric(OUTGOING, &[("outcome", outcome)]));
    assert_eq!(unreached.iter().sum::<f64>(), 1.0, "{}", gateway.page().counted(OUTGOING));
}

#[tokio::test]
async fn a_caller_that_leaves_takes_the_plugin_s_request_along() {
    let forbidden = Upstream::start();
    let allowed = server(&forbidden);
    let gateway = attacking("deadline", &allowed, &forbidden);
    let gateway = gateway.limits("egress", json!({ "deadline_ms": 10_000 })).start().await;

    let call = tokio::spawn(gateway.get("/orders/1").send());
    while allowed.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    call.abort();

    gateway.metric_becomes(OUTGOING, &[("outcome", "aborted")], 1.0).await;
    gateway.metric_becomes("stile_upstream_connections_open", &[], 0.0).await;
}

#[tokio::test]
async fn there_is_no_network_in_analytics() {
    let forbidden = Upstream::start();
    let allowed = server(&forbidden);
    let config = json!({ "attack": "none", "allowed": "allowed.test:1", "forbidden": "x:1" });
    let definition = api("orders").upstream(&forbidden).recorded().analytics(plugin("egress").config(config));
    let gateway = Gateway::with(definition).recording().grant("egress", ["outgoing-http", "secrets"]);
    let gateway = gateway.plugin("egress", "outgoing_http", json!({ "allow": [allowed.url()] }));
    let gateway = gateway.file("secret", SECRET).plugin("egress", "secrets", json!({ "token": { "file": "secret" } }));
    let gateway = gateway.start().await;

    gateway.get("/orders/1").send().await;

    assert_eq!(gateway.records(1).await[0]["tags"], json!(["the request is not allowed"]));
    assert_eq!((allowed.calls(), gateway.metric(OUTGOING, &[("outcome", "hook")])), (0, 1.0));
}

#[tokio::test]
async fn a_grant_that_is_missing_is_named_with_the_line_to_add() {
    let upstream = Upstream::start();
    let used = plugin("with-waki").config(json!({ "url": "http://a.test" }));
    let definition = api("orders").upstream(&upstream).pre(used);
    let gateway = Gateway::with(definition).try_start().await.expect("it starts without that API");
    let problems = gateway.problems();
    for text in [
        "`with-waki`: imports `wasi:http/",
        "add `outgoing-http` to `plugins.with-waki.grants` and where it may go to its `outgoing_http.allow`",
    ] {
        assert!(problems.contains(text), "{text}: {problems}");
    }
}

/// A token server that knows one token, and one client with its secret.
fn token_server() -> Upstream {
    Upstream::answering(|seen| {
        // base64 of `gateway:` and the secret
        let is_client = seen.header("authorization") == Some("Basic Z2F0ZXdheTpzM2NyM3QtdzByZHM=");
        let is_token = seen.body.starts_with(b"token=good&");
        match (is_client, is_token) {
            (false, _) => Answer::new(401),
            (true, true) => Answer::new(200).body(r#"{"active":true,"sub":"ana","scope":"read"}"#),
            (true, false) => Answer::new(200).body(r#"{"active":false}"#),
        }
    })
}

fn introspecting(upstream: &Upstream, server: &Upstream) -> Api {
    let config = json!({ "url": format!("{}/introspect", server.url()), "client": "gateway" });
    let auth = json!({ "plugin": "introspect", "config": config, "id_extractor": { "from": "header" } });
    api("orders").upstream(upstream).recorded().auth(plugin("introspect")).set("/auth", auth)
}

#[tokio::test]
async fn introspect_asks_once_for_a_token_with_a_secret_that_it_never_sees() {
    let (upstream, server) = (Upstream::start(), token_server());
    let gateway = Gateway::with(introspecting(&upstream, &server)).grant("introspect", ["outgoing-http", "secrets"]);
    let gateway = gateway.plugin("introspect", "outgoing_http", json!({ "allow": [server.url()] }));
    let gateway =
        gateway.file("secret", SECRET).plugin("introspect", "secrets", json!({ "client": { "file": "secret" } }));
    let gateway = gateway.recording().start().await;

    for _ in 0..100 {
        let reply = gateway.get("/orders/1").header("authorization", "Bearer good").send().await;
        assert_eq!(reply.status(), 200, "{}", reply.text());
    }

    assert_eq!(server.calls(), 1);
    assert_eq!(server.last().target, "/introspect");
    assert_eq!((upstream.calls(), gateway.metric("stile_plugin_calls_total", &[])), (100, 1.0));
    assert_eq!(gateway.records(100).await[99]["alias"], "ana");
    for _ in 0..3 {
        let reply = gateway.get("/orders/1").header("authorization", "Bearer bad").send().await;
        assert_eq!(reply.status(), 403, "{}", reply.text());
    }
    assert_eq!((server.calls(), upstream.calls()), (2, 100), "a refusal is remembered too");
    assert_eq!(gateway.metric(OUTGOING, &[("plugin", "introspect"), ("outcome", "ok")]), 2.0);
}
