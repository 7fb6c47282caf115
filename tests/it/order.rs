//! The order in which plugins meet a request.

use serde_json::json;
use stile_tests::{Api, Gateway, Upstream, Use, api, plugin};

fn trace(tag: &str) -> Use {
    plugin("trace").function("trace").config(json!({ "tag": tag }))
}

#[tokio::test]
async fn one_plugin_sets_a_header() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream).pre("hello")).start().await;

    let reply = gateway.get("/orders/1").send().await;

    assert_eq!(reply.status(), 200);
    assert_eq!(upstream.last().header("x-hello"), Some("world"));
}
