//! How much is read of what registries and servers send beside the file itself.

use serde_json::json;
use stile::model::digest::Digest;
use stile_tests::{Answer, Folder, Gateway, Seen, SigningKey, Upstream};

use super::{fetches, fetching, version};

/// A registry whose manifest has so many bytes, and its token too: what is added means nothing.
fn registry(manifest_bytes: usize, token_bytes: usize) -> Upstream {
    let long = |text: String, bytes: usize| " ".repeat(bytes.saturating_sub(text.len())) + &text;
    Upstream::answering(move |seen: &Seen| {
        let path = seen.target.split('?').next().unwrap_or_default();
        if path == "/token" {
            return Answer::new(200).body(long(json!({ "token": "a.token" }).to_string(), token_bytes));
        }
        if seen.header("authorization").is_none() {
            let host = seen.header("host").unwrap_or_default();
            return Answer::new(401).header("www-authenticate", &format!("Bearer realm=\"http://{host}/token\""));
        }
        if path.contains("/blobs/") {
            return Answer::new(200).body(version(1));
        }
        let digest = format!("sha256:{}", Digest::of(&version(1)).hex());
        let layer = json!({ "mediaType": "application/wasm", "digest": digest, "size": version(1).len() });
        Answer::new(200).body(long(json!({ "schemaVersion": 2, "layers": [layer] }).to_string(), manifest_bytes))
    })
}

/// What became of fetching from it.
async fn fetched(registry: &Upstream) -> Gateway {
    let image = registry.url().replace("http://", "oci://") + "/team/swap:1";
    fetching(&Upstream::start(), &image, &Folder::new()).try_start().await.expect("it starts all the same")
}

// limit: fetch::registry::MANIFEST_BYTES_MAX
#[tokio::test]
async fn a_manifest_has_so_many_bytes() {
    for (bytes, outcome, over) in [(4 << 20, "fetched 1", 0.0), ((4 << 20) + 1, "bytes 1", 1.0)] {
        let gateway = fetched(&registry(bytes, 0)).await;
        assert_eq!(fetches(&gateway), outcome, "{}", gateway.problems());
        assert_eq!(gateway.metric("stile_plugin_fetches_total", &[("outcome", "bytes")]), over);
    }
}

// limit: fetch::registry::TOKEN_BYTES_MAX
#[tokio::test]
async fn a_token_has_so_many_bytes() {
    for (bytes, outcome, over) in [(64 << 10, "fetched 1", 0.0), ((64 << 10) + 1, "bytes 1", 1.0)] {
        let gateway = fetched(&registry(0, bytes)).await;
        assert_eq!(fetches(&gateway), outcome, "{}", gateway.problems());
        assert_eq!(gateway.metric("stile_plugin_fetches_total", &[("outcome", "bytes")]), over);
    }
}

// limit: fetch::SIGNATURE_BYTES_MAX
#[tokio::test]
async fn a_signature_has_so_many_bytes() {
    let key = SigningKey::new();
    for (bytes, is_good) in [(1_024, true), (1_025, false)] {
        let (upstream, kept) = (Upstream::start(), Folder::new());
        let signature = format!("{:bytes$}", key.sign_base64(version(1)));
        let server = Upstream::answering(move |seen: &Seen| {
            let is_signature = seen.target.ends_with(".sig");
            Answer::new(200).body(if is_signature { signature.clone().into_bytes() } else { version(1) })
        });
        let builder = fetching(&upstream, &format!("{}/swap.wasm", server.url()), &kept);
        let builder = builder.set("/trusted_keys", json!({ "release": key.public() }));
        let gateway = builder.plugin("swap", "signed_by", json!(["release"])).try_start().await.expect("it starts");

        assert_eq!(gateway.get("/swap/").send().await.status(), if is_good { 200 } else { 503 });
        let over = gateway.metric("stile_plugin_fetches_total", &[("outcome", "bytes")]);
        assert_eq!(over, if is_good { 0.0 } else { 1.0 }, "{}", gateway.problems());
    }
}
