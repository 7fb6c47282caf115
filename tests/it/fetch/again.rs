//! What could not be fetched is asked for again, without anybody telling.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;

/// A gateway that asks again this soon, and waits this long at most.
fn asking_again(upstream: &Upstream, file: &str, kept: &Folder, (min_ms, max_ms): (u64, u64)) -> Builder {
    let pauses = json!({ "retry_pause_min_ms": min_ms, "retry_pause_max_ms": max_ms });
    fetching(upstream, file, kept).set("/fetch", pauses)
}

fn retries(gateway: &Gateway) -> f64 {
    gateway.metric("stile_plugin_fetch_retries_total", &[])
}

/// Waits for something that comes about by itself.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_registry_that_was_away_at_the_start_is_asked_until_it_is_there() {
    let (upstream, kept, mut registry) = (Upstream::start(), Folder::new(), Registry::start());
    registry.push("swap", "1", &version(1), json!({})).await;
    registry.kill();
    let builder = asking_again(&upstream, &registry.names("swap:1"), &kept, (5, 20));
    let gateway = builder.try_start().await.expect("it starts all the same");
    assert_eq!(gateway.get("/swap/").send().await.status(), 503);
    assert_eq!(gateway.control("/ready").send().await.status(), 503);
    until("it is asked again", || retries(&gateway) > 1.0).await;
    assert_eq!(gateway.get("/swap/").send().await.status(), 503);

    assert!(registry.run());
    gateway.answers("/swap/", 200, "1").await;

    assert_eq!(gateway.problems(), "");
    assert_eq!(gateway.control("/ready").send().await.status(), 200);
    gateway.metric_becomes("stile_reloads_total", &[("result", "changed")], 1.0).await;
    assert!((gateway.metric("stile_plugin_fetches_total", &[("outcome", "fetched")]) - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn an_api_that_came_while_its_registry_was_away_is_served_later_and_nothing_else_is_touched() {
    let (upstream, kept, mut registry) = (Upstream::start(), Folder::new(), Registry::start());
    registry.push("swap", "1", &version(1), json!({})).await;
    registry.kill();
    let well = api("well").upstream(&upstream).pre(plugin("here").function("answer"));
    let builder = Gateway::with(well).file("here.wasm", version(1)).plugin("here", "file", "here.wasm");
    let builder = builder.set("/runtime/cache_dir", kept.path().display().to_string()).set("/reload/watch", false);
    let gateway = builder.set("/fetch", json!({ "retry_pause_min_ms": 5, "retry_pause_max_ms": 20 })).start().await;
    let mut definition = gateway.definition();
    definition["plugins"]["swap"] = json!({ "file": registry.names("swap:1") });
    let swap = json!({
        "id": "swap", "listen": { "path": "/swap/" }, "upstream": { "url": upstream.url() },
        "hooks": { "pre": [{ "plugin": "swap", "function": "answer" }] },
    });
    definition["apis"].as_array_mut().expect("a list").push(swap);
    gateway.define(&definition);
    assert_eq!(reload(&gateway).await["apis"]["swap"]["outcome"], "refused");
    // Files are not watched, so this one waits for a reload.
    gateway.rename_over("here.wasm", version(2));

    assert!(registry.run());
    gateway.answers("/swap/", 200, "1").await;

    assert_eq!((gateway.get("/well/").send().await.text(), &*gateway.problems()), ("1", ""));
    reload(&gateway).await;
    assert_eq!(gateway.get("/well/").send().await.text(), "2");
}

#[tokio::test]
async fn a_server_that_was_not_heard_at_a_reload_is_asked_again_while_the_last_version_goes_on() {
    let (upstream, kept, files) = (Upstream::start(), Folder::new(), Files::default());
    files.put(version(1), Vec::new());
    let server = files.serve();
    let gateway = asking_again(&upstream, &format!("{}/swap.wasm", server.url()), &kept, (5, 20)).start().await;
    files.put(Vec::new(), Vec::new());
    assert_eq!(reload(&gateway).await["plugins"]["swap"]["outcome"], "kept");
    until("it is asked again", || retries(&gateway) > 1.0).await;
    assert_eq!(gateway.get("/swap/").send().await.text(), "1");
    // Nothing new came of it, so nothing was built.
    assert!((gateway.metric("stile_reloads_total", &[("result", "kept")]) - 1.0).abs() < 0.1);

    files.put(version(2), Vec::new());
    gateway.answers("/swap/", 200, "2").await;
    assert_eq!(gateway.problems(), "");
}

#[tokio::test]
async fn the_reason_is_that_of_the_last_time_and_what_no_time_mends_is_not_asked_again() {
    let (upstream, kept, is_there) = (Upstream::start(), Folder::new(), Arc::new(AtomicBool::new(false)));
    let of_server = is_there.clone();
    let server = Upstream::answering(move |_| match of_server.load(Ordering::SeqCst) {
        false => Answer::new(503),
        true => Answer::new(302).header("location", "ftp://elsewhere"),
    });
    let builder = asking_again(&upstream, &format!("{}/swap.wasm", server.url()), &kept, (5, 20));
    let gateway = builder.try_start().await.expect("it starts all the same");
    assert!(gateway.problems().contains("answers with status 503"), "{}", gateway.problems());

    is_there.store(true, Ordering::SeqCst);
    until("the reason is another one", || gateway.problems().contains("leads to where no plugin")).await;

    // As long as another one takes for twenty times.
    let calls = server.calls();
    let other = Upstream::answering(|_| Answer::new(503));
    let mut definition = gateway.definition();
    definition["plugins"]["other"] = json!({ "file": format!("{}/other.wasm", other.url()) });
    gateway.define(&definition);
    until("another one is asked again", || other.calls() > 20).await;
    assert_eq!(server.calls(), calls);
}

#[tokio::test]
async fn what_is_declared_no_more_is_not_asked_for() {
    let (upstream, kept) = (Upstream::start(), Folder::new());
    let (old, new) = (Upstream::answering(|_| Answer::new(503)), Upstream::answering(|_| Answer::new(503)));
    let builder = asking_again(&upstream, &format!("{}/swap.wasm", old.url()), &kept, (5, 20));
    let gateway = builder.try_start().await.expect("it starts all the same");
    until("it is asked again", || old.calls() > 2).await;

    let mut definition = gateway.definition();
    definition["plugins"]["swap"]["file"] = format!("{}/swap.wasm", new.url()).into();
    gateway.define(&definition);
    until("the new one is asked", || new.calls() > 1).await;

    let calls = old.calls();
    until("the new one is asked again and again", || new.calls() > 20).await;
    // The one question that may have been on its way.
    assert!(old.calls() <= calls + 1, "{} and then {}", calls, old.calls());
}

#[tokio::test]
async fn a_reload_does_not_wait_for_a_server_that_is_asked_again_and_silent() {
    let (upstream, kept) = (Upstream::start(), Folder::new());
    let is_silent = Arc::new(AtomicBool::new(false));
    let of_server = is_silent.clone();
    let server = Upstream::answering(move |_| {
        // It answers once.
        let late = if of_server.swap(true, Ordering::SeqCst) { Duration::from_secs(600) } else { Duration::ZERO };
        Answer::new(503).after(late)
    });
    let builder = asking_again(&upstream, &format!("{}/swap.wasm", server.url()), &kept, (5, 20));
    let builder = builder.and(api("well").upstream(&upstream).pre(plugin("here").function("answer")));
    let builder = builder.file("here.wasm", version(1)).plugin("here", "file", "here.wasm");
    let gateway = builder.try_start().await.expect("it starts all the same");
    until("it is asked again", || server.calls() == 2).await;

    gateway.rename_over("here.wasm", version(2));
    gateway.answers("/well/", 200, "2").await;
    assert_eq!(server.calls(), 2);
}

// limit: fetch.retry_pause_min_ms
// limit: fetch.retry_pause_max_ms
#[tokio::test]
async fn pauses_are_as_short_and_as_long_as_they_may_be() {
    let (upstream, server) = (Upstream::start(), Upstream::answering(|_| Answer::new(503)));
    let hour = 3_600_000;
    let (often, seldom, rarely) = (Folder::new(), Folder::new(), Folder::new());
    let start = async |kept: &Folder, pauses| {
        let builder = asking_again(&upstream, &format!("{}/swap.wasm", server.url()), kept, pauses);
        builder.try_start().await.expect("it starts all the same")
    };
    let rarely = start(&rarely, (hour, hour)).await;
    let seldom = start(&seldom, (1, hour)).await;
    let often = start(&often, (1, 1)).await;

    // Pauses that double take longer than this test for the fortieth.
    until("it is asked often", || retries(&often) >= 40.0).await;
    until("it is asked a few times", || retries(&seldom) >= 2.0).await;
    assert!(retries(&seldom) < 40.0, "{}", retries(&seldom));
    assert!(retries(&rarely).abs() < 0.1, "{}", retries(&rarely));
}
