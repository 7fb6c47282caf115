//! What operators do with a gateway: end it, watch it, give it another certificate.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use stile::app::Drained;
use stile_tests::{Gateway, Raw, RawUpstream, SelfSigned, Upstream, api, compiler};
use tokio::net::TcpStream;

#[tokio::test]
async fn requests_in_flight_are_finished_when_the_gateway_ends() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::with(api("orders").recorded().upstream_url(&upstream.url())).recording().start().await;
    let address = gateway.address;
    let mut idle = gateway.raw().await;
    idle.write("GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n").await;
    idle.head().await;
    let mut inside = Vec::new();
    for _ in 0..10 {
        let caller = tokio::spawn(gateway.get("/orders/1").send());
        let mut sent = upstream.accept().await;
        sent.head().await;
        inside.push((caller, sent));
    }

    let draining = tokio::spawn(gateway.drain());
    // The idle connection is closed at once: that is how a test knows that the drain has begun.
    idle.rest().await;
    for (_, sent) in &mut inside {
        sent.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nd").await;
    }
    for (_, sent) in &mut inside {
        sent.write("one").await;
        sent.write("").await;
    }

    for (caller, _) in inside {
        let reply = caller.await.expect("no panic");
        assert_eq!((reply.status(), reply.text()), (200, "done"));
    }
    assert_eq!(draining.await.expect("no panic"), Drained::default());
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn requests_that_take_too_long_are_cut_off_and_counted() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::with(api("orders").upstream_url(&upstream.url())).set("/limits/drain_timeout_ms", 50);
    let gateway = gateway.start().await;
    let mut caller = gateway.raw().await;
    caller.write("GET /orders/1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut sent = upstream.accept().await;
    sent.head().await;

    let begun = Instant::now();
    let drained = gateway.drain().await;

    assert_eq!(drained.connections_aborted, 1);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(caller.rest().await, "");
}

#[tokio::test]
async fn the_metrics_page_is_text_for_prometheus() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream).pre("hello")).start().await;
    for _ in 0..3 {
        gateway.get("/orders/1").send().await;
    }

    let reply = gateway.control("/metrics").send().await;

    let kind = reply.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(reply.text().ends_with("# EOF\n"));
    let lines: Vec<&str> = reply.text().lines().collect();
    assert!(lines.contains(&"stile_requests_total{api=\"orders\",status=\"200\"} 3"), "{}", reply.text());
    assert!(
        lines.contains(&"stile_plugin_calls_total{api=\"orders\",hook=\"pre\",plugin=\"hello\"} 3"),
        "{}",
        reply.text()
    );
    assert!(lines.contains(&"stile_requests_in_flight{api=\"orders\"} 0"), "{}", reply.text());
    let doubled: Vec<_> = lines.iter().filter(|line| line.contains("stile_stile_")).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
}

#[tokio::test]
async fn health_is_told_on_the_control_port_alone() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).start().await;

    let live = gateway.control("/live").send().await;
    assert_eq!((live.status(), &live.json()["status"]), (200, &"alive".into()));
    let ready = gateway.control("/ready").send().await;
    assert_eq!((ready.status(), &ready.json()["status"]), (200, &"ready".into()));
    assert_eq!(gateway.control("/").send().await.status(), 404);
    for path in ["/live", "/ready", "/metrics"] {
        assert_eq!(gateway.get(path).send().await.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn the_control_port_names_its_paths_and_has_them() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).start().await;
    let nothing = gateway.control("/").send().await;
    assert_eq!(nothing.status(), 404);
    for path in stile::admin::PATHS.split(", ") {
        assert_eq!(gateway.manage("GET", path).send().await.status(), 200, "{path}");
        assert!(nothing.text().contains(path), "{path}: {}", nothing.text());
    }
    for kind in ["/tyk/keys", "/stile/reload", "/stile/plugins", "/stile/apis"] {
        assert!(stile::admin::PATHS.contains(kind), "{kind}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_without_a_restart() {
    let upstream = Upstream::start();
    let (old, new) = (SelfSigned::new(), SelfSigned::new());
    let gateway = Gateway::with(api("orders").upstream(&upstream)).tls(&old).start().await;
    assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
    let connects = async |certificate: &SelfSigned| {
        let stream = TcpStream::connect(gateway.address).await.expect("it listens");
        certificate.try_connect(stream, false).await.is_ok()
    };
    assert!(!connects(&new).await);

    new.write(gateway.folder());

    let begun = Instant::now();
    while !connects(&new).await {
        assert!(begun.elapsed() < Duration::from_secs(30), "the new certificate is not taken up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!connects(&old).await);
}

#[tokio::test]
async fn a_broken_certificate_leaves_the_old_one_in_place() {
    let upstream = Upstream::start();
    let certificate = SelfSigned::new();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).tls(&certificate).start().await;

    std::fs::write(gateway.folder().join("cert.pem"), "not a certificate").expect("a file");

    assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).start().await;
    let mut caller: Raw = gateway.raw().await;
    for _ in 0..5 {
        caller.write("GET /orders/1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(caller.head().await.starts_with("HTTP/1.1 200 "));
        assert_eq!(caller.until("upstream").await, "upstream");
    }
    assert_eq!(upstream.calls(), 5);
}

#[tokio::test]
async fn requests_are_recorded_without_plugins_too() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").recorded().upstream(&upstream)).recording().start().await;

    gateway.get("/orders/1?a=b").header("user-agent", "test").send().await;

    let record = &gateway.records(1).await[0];
    for (field, expected) in [("path", "/orders/1"), ("query", "a=b"), ("user_agent", "test"), ("api_id", "orders")] {
        assert_eq!(record[field], expected, "{field}");
    }
    assert_eq!(record["bytes_out"], 8);
}

#[test]
fn a_gateway_that_is_told_to_end_while_it_starts_does_not_wait_for_plugins() {
    let upstream = Upstream::start();
    // Asked three times, it would have three minutes.
    let limits = json!({ "fuel": 1_000_000_000_000_u64, "deadline_ms": 60_000 });
    let mut builder = Gateway::with(api("orders").upstream(&upstream).pre("describe-spin"));
    builder = builder.limits("describe-spin", limits).set("/log/format", "text");
    for signal in ["-TERM", "-INT"] {
        let mut process = Command::new(compiler().expect("cargo builds it with the tests"))
            .args(["serve", "--config"])
            .arg(builder.write())
            .env_remove("STILE_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(process.stderr.take().expect("it is piped")).lines();
        let mut next = || lines.next().map(|line| line.expect("it is text"));
        // Then it loads plugins.
        while next().expect("it goes on").find("plugins are compiled").is_none() {}
        let begun = Instant::now();
        let told = Command::new("kill").args([signal, &process.id().to_string()]).status();
        assert!(told.expect("kill runs").success());

        let rest: Vec<String> = std::iter::from_fn(next).collect();
        let status = process.wait().expect("it ends");
        assert!(status.success(), "{signal}: {status}: {rest:?}");
        assert!(rest.iter().any(|line| line.contains("ended before anything was served")), "{rest:?}");
        assert!(!rest.iter().any(|line| line.contains("listening")), "{rest:?}");
        assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    }
}
