//! Plugins whose file is elsewhere: behind a URL, or in a registry. Nothing is fetched twice, and who is away takes nothing down.

mod accounts;
mod again;
mod inspect;
mod sizes;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use stile::clock::Clock;
use stile::model::digest::Digest;
use stile_tests::{
    Answer, Builder, Folder, Gateway, Registry, Seen, SelfSigned, SigningKey, Upstream, api, guest, plugin,
};

fn version(number: u8) -> Vec<u8> {
    std::fs::read(guest(&format!("swap-{number}"))).expect("it was built")
}

/// A gateway whose API `swap` answers with the version of its plugin, which is there, and that keeps files in this folder.
fn fetching(upstream: &Upstream, file: &str, kept: &Folder) -> Builder {
    let swap = api("swap").upstream(upstream).pre(plugin("swap").function("answer"));
    let cache = kept.path().display().to_string();
    Gateway::with(swap).set("/runtime/cache_dir", cache).plugin("swap", "file", file)
}

async fn reload(gateway: &Gateway) -> Value {
    gateway.manage("POST", "/stile/reload").send().await.json()
}

/// What came of all fetches so far, but for nothing.
fn fetches(gateway: &Gateway) -> String {
    let outcomes = ["fetched", "unchanged", "kept", "away", "status", "denied", "invalid", "time", "bytes", "redirect"];
    let count = |outcome: &str| gateway.metric("stile_plugin_fetches_total", &[("outcome", outcome)]);
    let counts = outcomes.iter().map(|outcome| (outcome, count(outcome))).filter(|(_, count)| *count > 0.0);
    counts.map(|(outcome, count)| format!("{outcome} {count}")).collect::<Vec<_>>().join(", ")
}

/// A server of one file that can be changed, with its signature, and with tags of its versions.
#[derive(Clone, Default)]
struct Files(Arc<Mutex<(Vec<u8>, Vec<u8>)>>);

impl Files {
    fn put(&self, content: Vec<u8>, signature: Vec<u8>) {
        *self.0.lock().expect("nobody panics") = (content, signature);
    }

    fn serve(&self) -> Upstream {
        let files = self.clone();
        Upstream::answering(move |seen| {
            let (content, signature) = files.0.lock().expect("nobody panics").clone();
            let tag = format!("\"{}\"", Digest::of(&content).short());
            match seen.target.as_str() {
                "/swap.wasm.sig" => Answer::new(200).body(signature),
                _ if content.is_empty() => Answer::new(503),
                _ if seen.header("if-none-match") == Some(&tag) => Answer::new(304).header("etag", &tag),
                _ => Answer::new(200).header("etag", &tag).body(content),
            }
        })
    }
}

#[tokio::test]
async fn a_component_of_a_registry_is_fetched_once_for_each_version() {
    let (upstream, kept, mut registry) = (Upstream::start(), Folder::new(), Registry::start());
    registry.push("team/swap", "live", &version(1), json!({})).await;
    let gateway = fetching(&upstream, &registry.names("team/swap:live"), &kept).start().await;
    assert_eq!(gateway.get("/swap/").send().await.text(), "1");

    assert_eq!(reload(&gateway).await["outcome"], "unchanged");
    assert_eq!(fetches(&gateway), "fetched 1, unchanged 1");
    registry.push("team/swap", "live", &version(2), json!({})).await;
    assert_eq!(reload(&gateway).await["outcome"], "changed");
    assert_eq!(gateway.get("/swap/").send().await.text(), "2");
    assert_eq!(fetches(&gateway), "fetched 2, unchanged 1");

    registry.kill();
    let reloaded = reload(&gateway).await;
    assert_eq!(reloaded["plugins"]["swap"]["outcome"], "kept", "{reloaded:#}");
    let reason = reloaded["plugins"]["swap"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("cannot fetch `oci://") && reason.contains("does not accept a connection"), "{reason}");
    assert_eq!(gateway.get("/swap/").send().await.text(), "2");
    assert_eq!(gateway.control("/ready").send().await.status(), 200);

    // After a restart, too.
    let again = fetching(&upstream, &registry.names("team/swap:live"), &kept).try_start().await.expect("it starts");
    assert_eq!(again.get("/swap/").send().await.text(), "2");
    assert!(again.problems().contains("does not accept a connection"), "{}", again.problems());
}

#[tokio::test]
async fn what_is_pinned_and_kept_needs_no_registry() {
    let (upstream, kept, mut registry) = (Upstream::start(), Folder::new(), Registry::start());
    let manifest = registry.push("swap", "1", &version(1), json!({})).await;
    let image = registry.names(&format!("swap@sha256:{manifest}"));
    let start = || fetching(&upstream, &image, &kept).set("/plugins_require", "pinned").start();
    assert_eq!(start().await.get("/swap/").send().await.text(), "1");

    registry.kill();
    let gateway = start().await;
    assert_eq!(gateway.get("/swap/").send().await.text(), "1");
    assert_eq!(fetches(&gateway), "kept 1");

    let pin = Digest::of(&version(1)).hex();
    let gateway = fetching(&upstream, &registry.names("other:1"), &kept).plugin("swap", "sha256", pin).start().await;
    assert_eq!(fetches(&gateway), "kept 1");
}

#[tokio::test]
async fn a_registry_has_the_signature_as_an_annotation() {
    let (upstream, registry, key) = (Upstream::start(), Registry::start(), SigningKey::new());
    // In base64, as `openssl base64` writes it.
    let signature = key.sign_base64(version(1));
    for (annotations, problem) in [
        (json!({ "stile.signature.ed25519": signature }), ""),
        (json!({ "stile.signature.ed25519": "bm9uZQ==" }), "neither the 64 bytes"),
        (json!({}), "none came with it"),
    ] {
        let kept = Folder::new();
        registry.push("swap", "1", &version(1), annotations).await;
        let builder = fetching(&upstream, &registry.names("swap:1"), &kept);
        let builder = builder.set("/trusted_keys", json!({ "release": key.public() }));
        let builder = builder.plugin("swap", "signed_by", json!(["release"]));
        let gateway = builder.try_start().await.expect("it starts all the same");
        let problems = gateway.problems();
        assert!(problems.contains(problem) && problems.is_empty() == problem.is_empty(), "{problem}: {problems}");
    }
}

#[tokio::test]
async fn of_an_index_the_manifest_for_components_is_taken() {
    let (upstream, registry) = (Upstream::start(), Registry::start());
    let first = registry.push("swap", "1", &version(1), json!({})).await;
    let second = registry.push("swap", "2", &version(2), json!({})).await;
    let platform = |os: &str, architecture: &str| json!({ "os": os, "architecture": architecture });
    let alone = [(&*first, Value::Null)];
    let of_wasm = [(&*first, platform("linux", "amd64")), (&*second, platform("wasip2", "wasm"))];
    let kept = Folder::new();
    for (kind, manifests, expected) in [
        ("application/vnd.oci.image.index.v1+json", &alone[..], "1"),
        ("application/vnd.oci.image.index.v1+json", &of_wasm, "2"),
        ("application/vnd.docker.distribution.manifest.list.v2+json", &of_wasm, "2"),
    ] {
        let digest = registry.push_index("swap", "all", kind, manifests).await;
        for image in ["swap:all".to_owned(), format!("swap@sha256:{digest}")] {
            let gateway = fetching(&upstream, &registry.names(&image), &kept).start().await;
            assert_eq!(gateway.get("/swap/").send().await.text(), expected, "{kind} {image}");
        }
    }

    let unclear = [(&*first, platform("linux", "amd64")), (&*second, platform("linux", "arm64"))];
    registry.push_index("swap", "unclear", "application/vnd.oci.image.index.v1+json", &unclear).await;
    let gateway = fetching(&upstream, &registry.names("swap:unclear"), &kept).try_start().await.expect("it starts");
    let listed = format!("sha256:{first} (linux/amd64), sha256:{second} (linux/arm64)");
    assert!(gateway.problems().contains(&listed), "{}", gateway.problems());
    assert_eq!(fetches(&gateway), "invalid 1");
}

#[tokio::test]
async fn a_file_behind_a_url_is_fetched_again_when_its_tag_is_another_one() {
    let (upstream, kept, files, key) = (Upstream::start(), Folder::new(), Files::default(), SigningKey::new());
    files.put(version(1), key.sign(version(1)));
    let server = files.serve();
    let builder = fetching(&upstream, &format!("{}/swap.wasm", server.url()), &kept);
    let builder = builder.set("/trusted_keys", json!({ "release": key.public() }));
    let gateway = builder.plugin("swap", "signed_by", json!(["release"])).start().await;
    assert_eq!(gateway.get("/swap/").send().await.text(), "1");

    reload(&gateway).await;
    assert_eq!(fetches(&gateway), "fetched 1, unchanged 1");
    // Signed by somebody else.
    files.put(version(2), SigningKey::new().sign(version(2)));
    let reason = reload(&gateway).await["plugins"]["swap"]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("by none of `release`"), "{reason}");
    assert_eq!(gateway.get("/swap/").send().await.text(), "1");

    files.put(version(2), key.sign(version(2)));
    assert_eq!(reload(&gateway).await["plugins"]["swap"]["outcome"], "changed");
    assert_eq!(gateway.get("/swap/").send().await.text(), "2");
    files.put(Vec::new(), Vec::new());
    let reason = reload(&gateway).await["plugins"]["swap"]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("answers with status 503"), "{reason}");
    assert_eq!(gateway.get("/swap/").send().await.text(), "2");
}

#[tokio::test]
async fn a_kept_file_that_somebody_changed_is_fetched_again() {
    let (upstream, kept, files) = (Upstream::start(), Folder::new(), Files::default());
    files.put(version(1), Vec::new());
    let server = files.serve();
    let start = || fetching(&upstream, &format!("{}/swap.wasm", server.url()), &kept).start();
    start().await;
    let file = kept.path().join("fetched").join(format!("sha256-{}", Digest::of(&version(1)).hex()));
    std::fs::write(&file, version(2)).expect("it is there");

    let gateway = start().await;
    assert_eq!(gateway.get("/swap/").send().await.text(), "1");
    assert_eq!(fetches(&gateway), "fetched 1");
    assert_eq!(std::fs::read(&file).expect("it is there"), version(1));
}

#[tokio::test]
async fn a_server_is_known_by_its_certificate() {
    let (upstream, kept, tls) = (Upstream::start(), Folder::new(), SelfSigned::new());
    let registry = Registry::with_tls(&tls);
    registry.push("swap", "1", &version(1), json!({})).await;
    tls.write(kept.path());
    let builder = || fetching(&upstream, &registry.blob("swap", &version(1)), &kept);

    let gateway = builder().try_start().await.expect("it starts all the same");
    assert_eq!(fetches(&gateway), "away 1", "{}", gateway.problems());
    let ca_file = kept.path().join("cert.pem").display().to_string();
    let gateway = builder().set("/fetch/ca_file", ca_file).start().await;
    assert_eq!(gateway.get("/swap/").send().await.text(), "1");
}

/// A registry that wants a token and has its layers on another server, as large ones do.
#[tokio::test]
async fn a_token_is_fetched_and_told_to_nobody_else() {
    let (upstream, kept) = (Upstream::start(), Folder::new());
    let layers = Upstream::answering(|_| Answer::new(200).body(version(1)));
    let elsewhere = layers.url();
    let registry = Upstream::answering(move |seen: &Seen| {
        let host = seen.header("host").unwrap_or_default();
        let path = seen.target.split('?').next().unwrap_or_default();
        if path == "/token" {
            assert_eq!(seen.target, "/token?scope=repository%3Ateam%2Fswap%3Apull&service=the%20registry");
            return Answer::new(200).body(json!({ "token": "a.token" }).to_string());
        }
        if seen.header("authorization") != Some("Bearer a.token") {
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"the registry\"");
            return Answer::new(401).header("www-authenticate", &challenge);
        }
        if path.contains("/blobs/") {
            return Answer::new(307).header("location", &format!("{elsewhere}/layer"));
        }
        let digest = format!("sha256:{}", Digest::of(&version(1)).hex());
        let layer = json!({ "mediaType": "application/wasm", "digest": digest, "size": version(1).len() });
        Answer::new(200).body(json!({ "schemaVersion": 2, "layers": [layer] }).to_string())
    });
    let image = registry.url().replace("http://", "oci://") + "/team/swap:1";
    let gateway = fetching(&upstream, &image, &kept).start().await;

    assert_eq!(gateway.get("/swap/").send().await.text(), "1");
    assert_eq!((layers.calls(), layers.last().header("authorization")), (1, None));
    let asked: Vec<String> = registry.seen().iter().map(|seen| seen.target.clone()).collect();
    assert_eq!(asked.len(), 4, "manifest, token, manifest, layer: {asked:?}");
}

#[tokio::test]
async fn a_registry_that_sends_something_else_is_not_believed() {
    let (upstream, kept) = (Upstream::start(), Folder::new());
    let registry = Upstream::answering(|seen: &Seen| match seen.target.contains("/blobs/") {
        true => Answer::new(200).body(version(2)),
        false => {
            let digest = format!("sha256:{}", Digest::of(&version(1)).hex());
            let layer = json!({ "mediaType": "application/wasm", "digest": digest, "size": version(1).len() });
            Answer::new(200).body(json!({ "layers": [layer] }).to_string())
        }
    });
    let host = registry.url().replace("http://", "oci://");
    for (image, reason) in [
        ("/swap:1".to_owned(), "its layer is not what the manifest says"),
        (format!("/swap@sha256:{}", "ab".repeat(32)), "its manifest is not the one that was asked for"),
    ] {
        let gateway = fetching(&upstream, &(host.clone() + &image), &kept).try_start().await.expect("it starts");
        assert!(gateway.problems().contains(reason), "{}", gateway.problems());
        assert_eq!((gateway.get("/swap/").send().await.status(), fetches(&gateway)), (503, "invalid 1".to_owned()));
    }
}

// limit: fetch.redirects_max
#[tokio::test]
async fn redirects_are_followed_so_far_and_to_the_same_scheme() {
    let upstream = Upstream::start();
    let server = Upstream::answering(|seen: &Seen| match seen.target.as_str() {
        "/0" => Answer::new(200).body(version(1)),
        "/tls" => Answer::new(302).header("location", "https://localhost:1/"),
        path => {
            let left: u32 = path[1..].parse().expect("a number");
            Answer::new(302).header("location", &format!("/{}", left - 1))
        }
    });
    for (path, problem) in
        [("3", None), ("4", Some("`fetch.redirects_max`")), ("tls", Some("from one scheme to another"))]
    {
        let kept = Folder::new();
        let builder = fetching(&upstream, &format!("{}/{path}", server.url()), &kept).set("/fetch/redirects_max", 3);
        let gateway = builder.try_start().await.expect("it starts all the same");
        match problem {
            None => assert_eq!((gateway.problems(), fetches(&gateway)), (String::new(), "fetched 1".to_owned())),
            Some(problem) => {
                assert!(gateway.problems().contains(problem), "{}", gateway.problems());
                assert!((gateway.metric("stile_plugin_fetches_total", &[("outcome", "redirect")]) - 1.0).abs() < 0.1);
            }
        }
    }
}

// limit: fetch.time_max_ms
#[tokio::test]
async fn a_server_that_takes_too_long_is_given_up() {
    let (upstream, kept) = (Upstream::start(), Folder::new());
    let server = Upstream::answering(|seen: &Seen| {
        let late = if seen.target == "/late" { Duration::from_secs(600) } else { Duration::ZERO };
        Answer::new(200).body(version(1)).after(late)
    });
    for (path, time_max_ms, outcome) in [("soon", 60_000, "fetched 1"), ("late", 100, "time 1")] {
        let builder = fetching(&upstream, &format!("{}/{path}", server.url()), &kept);
        let gateway = builder.set("/fetch/time_max_ms", time_max_ms).try_start().await.expect("it starts");
        assert_eq!(gateway.problems().contains("longer than `fetch.time_max_ms` (100)"), path == "late");
        // As `stile_plugin_fetches_total` tells.
        assert_eq!(fetches(&gateway), outcome);
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_waited_for_once() {
    let (upstream, kept) = (Upstream::start(), Folder::new());
    let server = Upstream::answering(|_| Answer::new(200).after(Duration::from_secs(600)));
    let file = |name: &str| format!("{}/{name}", server.url());
    let builder = fetching(&upstream, &file("one"), &kept).set("/fetch/time_max_ms", 100);
    let builder = builder.and(api("two").upstream(&upstream).pre("two")).plugin("two", "file", file("two"));

    let gateway = builder.try_start().await.expect("it starts all the same");
    assert_eq!((server.calls(), fetches(&gateway)), (1, "time 2".to_owned()));
    let problems = gateway.problems();
    assert_eq!(problems.matches("longer than `fetch.time_max_ms`").count(), 4, "plugins and their APIs");
    assert_eq!(problems.matches("not asked, as its server was not heard").count(), 2, "of one of them: {problems}");
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_read_to_its_end() {
    let (upstream, bytes) = (Upstream::start(), version(1).len());
    let server = Upstream::answering(|_| Answer::new(200).body(version(1)));
    for (bytes_max, outcome) in [(bytes, "fetched 1"), (bytes - 1, "bytes 1")] {
        let kept = Folder::new();
        let builder = fetching(&upstream, &format!("{}/swap.wasm", server.url()), &kept);
        let builder = builder.limits("swap", json!({ "file_bytes_max": bytes_max }));
        let gateway = builder.try_start().await.expect("it starts all the same");
        assert_eq!(fetches(&gateway), outcome);
    }
}

/// What is kept of three files that were fetched one after the other.
struct Three {
    files: usize,
    /// With the notes of what each source had.
    bytes: usize,
    /// How many had to go, by the limit.
    evicted: [f64; 2],
}

async fn fetch_three(settings: Value, clock: &Clock, pause: Duration) -> Three {
    let (upstream, kept) = (Upstream::start(), Folder::new());
    let server = Upstream::answering(|seen: &Seen| {
        let mark = seen.target.bytes().last().unwrap_or(0);
        // A section that means nothing makes another file of it.
        Answer::new(200).body(version(1).into_iter().chain([0, 3, 1, b'n', mark]).collect::<Vec<u8>>())
    });
    let builder = fetching(&upstream, &format!("{}/1", server.url()), &kept).set("/fetch", settings);
    let gateway = builder.set("/reload/watch", false).clock(clock).start().await;
    for file in ["2", "3"] {
        clock.advance(pause);
        let mut definition = gateway.definition();
        definition["plugins"]["swap"]["file"] = format!("{}/{file}", server.url()).into();
        gateway.define(&definition);
        assert_eq!(reload(&gateway).await["plugins"]["swap"]["outcome"], "changed");
    }
    let names =
        std::fs::read_dir(kept.path().join("fetched")).expect("a folder").map(|entry| entry.expect("one").file_name());
    let files = names.filter(|name| name.to_string_lossy().starts_with("sha256-")).count();
    let evicted = |limit| gateway.metric("stile_fetch_cache_evicted_total", &[("limit", limit)]);
    let bytes = gateway.count("stile_fetch_cache_bytes", &[]).try_into().expect("a few");
    Three { files, bytes, evicted: ["cache_bytes_max", "cache_age_max_ms"].map(evicted) }
}

// limit: fetch.cache_bytes_max
#[tokio::test]
async fn what_was_used_longest_ago_goes_for_want_of_room() {
    let (clock, pause) = (Clock::manual(1_700_000_000_000), Duration::from_secs(60));
    let all = fetch_three(json!({}), &clock, pause).await;
    assert!(all.files == 3 && all.bytes > 3 * version(1).len(), "{} bytes", all.bytes);
    let three = fetch_three(json!({ "cache_bytes_max": all.bytes }), &clock, pause).await;
    assert_eq!((three.files, three.bytes, three.evicted), (3, all.bytes, [0.0, 0.0]));
    // The note of the first is older than the file.
    let less = fetch_three(json!({ "cache_bytes_max": all.bytes - 1 }), &clock, pause).await;
    assert!(less.bytes < all.bytes, "{} bytes", less.bytes);
    assert_eq!(less.evicted, [1.0, 0.0]);
    let two = fetch_three(json!({ "cache_bytes_max": 3 * version(1).len() }), &clock, pause).await;
    assert_eq!(two.files, 2);
}

// limit: fetch.cache_age_max_ms
#[tokio::test]
async fn what_nobody_used_for_long_goes() {
    let (clock, pause) = (Clock::manual(1_700_000_000_000), Duration::from_secs(60));
    let three = fetch_three(json!({ "cache_age_max_ms": 120_000 }), &clock, pause).await;
    assert_eq!((three.files, three.evicted), (3, [0.0, 0.0]));
    let two = fetch_three(json!({ "cache_age_max_ms": 119_999 }), &clock, pause).await;
    assert_eq!((two.files, two.evicted), (2, [0.0, 2.0]), "with its note");
}
