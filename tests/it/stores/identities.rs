//! The plugin is asked once for each ID, however many requests and gateways there are.

use futures_util::future::join_all;
use serde_json::json;
use stile_tests::{Gateway, Raw, Redis, Upstream};

use super::{LONG, extracted};

/// Sends requests one after the other on one connection, each with another ID of the first so many.
async fn send(gateway: &Gateway, line: usize, requests: usize, ids: usize) {
    let mut connection: Raw = gateway.raw().await;
    for number in 0..requests {
        // Each line in an order of its own, so that new IDs are asked for at once.
        let id = (number * 7 + line) % ids;
        connection.write(format!("GET /orders/1 HTTP/1.1\r\nhost: a\r\nauthorization: id-{id}\r\n\r\n")).await;
        let head = connection.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        connection.until("upstream").await;
    }
}

#[tokio::test]
async fn ten_thousand_requests_of_a_hundred_ids_ask_the_plugin_a_hundred_times() {
    let upstream = Upstream::start();
    let api = extracted("orders", &upstream.url(), json!({ "id_extractor_deadline": LONG }));
    let gateway = Gateway::with(api).embedded().set("/workers", 2).start().await;

    join_all((0..20).map(|line| send(&gateway, line, 500, 100))).await;

    assert_eq!(upstream.calls(), 10_000);
    gateway.metric_becomes("stile_plugin_calls_total", &[], 100.0).await;
    assert_eq!(gateway.store().list_sessions(None, 1_000).await.expect("it is there").items.len(), 100);
}

#[tokio::test]
async fn gateways_that_share_a_store_ask_for_an_id_once_each_at_most() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let start = async || {
        let api = extracted("orders", &upstream.url(), json!({ "id_extractor_deadline": LONG }));
        Gateway::with(api).redis(&redis).start().await
    };
    let gateways = [start().await, start().await];

    let lines = gateways.iter().cycle().take(10).enumerate();
    join_all(lines.map(|(line, gateway)| send(gateway, line, 100, 50))).await;

    assert_eq!(upstream.calls(), 1_000);
    let calls = gateways.each_ref().map(|gateway| gateway.metric("stile_plugin_calls_total", &[]));
    assert!(calls.iter().sum::<f64>() >= 50.0 && calls.iter().all(|calls| *calls <= 50.0), "{calls:?}");

    // One that comes later finds them all.
    let late = start().await;
    send(&late, 0, 50, 50).await;
    late.metric_becomes("stile_plugin_calls_total", &[], 0.0).await;
}

#[tokio::test]
async fn an_id_is_shown_and_revoked_by_its_text() {
    let upstream = Upstream::start();
    let api = extracted("orders", &upstream.url(), json!({ "id_extractor_deadline": LONG, "alias": "somebody" }));
    let gateway = Gateway::with(api).start().await;
    send(&gateway, 0, 2, 1).await;
    gateway.metric_becomes("stile_plugin_calls_total", &[], 1.0).await;

    let path = "/tyk/keys/id-0?api_id=orders";
    assert_eq!(gateway.manage("GET", "/tyk/keys/id-0").send().await.status(), 404, "of which API?");
    let shown = gateway.manage("GET", path).send().await;
    assert_eq!((shown.status(), &shown.json()["alias"]), (200, &json!("somebody")));
    assert_eq!(gateway.manage("DELETE", path).send().await.status(), 200);

    send(&gateway, 0, 1, 1).await;
    gateway.metric_becomes("stile_plugin_calls_total", &[], 2.0).await;
}
