//! Changed plugin files and definitions are taken up while requests are answered; a bad change leaves what is served as it was.

use std::time::Duration;

use serde_json::{Value, json};
use stile::model::gateway::{AccessLog, Log, LogFormat};
use stile_tests::{Answer, Builder, Gateway, Redis, Seen, Upstream, api, guest, log_of, plugin};

fn version(number: u8) -> Vec<u8> {
    std::fs::read(guest(&format!("swap-{number}"))).expect("it was built")
}

fn broken() -> Vec<u8> {
    let mut half = version(1);
    half.truncate(half.len() / 2);
    half
}

/// A gateway whose API `swap` answers with the version of its plugin.
fn swapping(upstream: &Upstream) -> Builder {
    let swap = api("swap").upstream(upstream).pre(plugin("swap").function("answer"));
    Gateway::with(swap).file("swap.wasm", version(1)).plugin("swap", "file", "swap.wasm")
}

async fn reload(gateway: &Gateway) -> (u16, Value) {
    let reply = gateway.manage("POST", "/stile/reload").send().await;
    (reply.status(), reply.json())
}

#[tokio::test]
async fn a_file_renamed_over_a_plugin_is_taken_up_without_being_told() {
    let upstream = Upstream::start();
    let gateway = swapping(&upstream).start().await;
    assert_eq!(gateway.get("/swap/").send().await.text(), "1");

    gateway.rename_over("swap.wasm", version(2));
    gateway.answers("/swap/", 200, "2").await;

    // Written over in place, too.
    std::fs::write(gateway.folder().join("swap.wasm"), version(1)).expect("it is written");
    gateway.answers("/swap/", 200, "1").await;
    assert_eq!(gateway.problems(), "");
}

#[tokio::test]
async fn a_bad_version_keeps_the_last_good_one_and_says_why() {
    let upstream = Upstream::start();
    let gateway = swapping(&upstream).start().await;

    gateway.rename_over("swap.wasm", broken());
    gateway.metric_becomes("stile_reloads_total", &[("result", "kept")], 1.0).await;

    assert_eq!(gateway.get("/swap/").send().await.text(), "1");
    let ready = gateway.control("/ready").send().await;
    assert_eq!(ready.status(), 200);
    let reason = ready.json()["details"]["plugins.swap"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("does not compile") && reason.contains("what was there before is used"), "{reason}");
    let plugins = gateway.manage("GET", "/stile/plugins").send().await.json();
    assert_eq!((&plugins[0]["name"], &plugins[0]["state"]), (&json!("swap"), &json!("kept")));

    gateway.rename_over("swap.wasm", version(2));
    gateway.answers("/swap/", 200, "2").await;
    assert_eq!(gateway.problems(), "");
    assert_eq!(gateway.manage("GET", "/stile/plugins").send().await.json()[0]["state"], "loaded");
}

#[tokio::test]
async fn a_pipe_in_the_place_of_a_file_keeps_the_last_good_version_and_holds_nothing_up() {
    let upstream = Upstream::start();
    let more =
        json!({ "apis": [{ "id": "more", "listen": { "path": "/more/" }, "upstream": { "url": upstream.url() } }] });
    let builder = swapping(&upstream).file("more.yaml", more.to_string()).set("/include", json!(["more.yaml"]));
    let gateway = builder.start().await;
    let says = async |name: &str| {
        let details = gateway.control("/ready").send().await.json()["details"].clone();
        let reasons = details.as_object().cloned().unwrap_or_default();
        let reason = reasons.iter().find(|(place, _)| place.contains(name)).map(|(_, reason)| reason.to_string());
        assert!(reason.as_ref().is_some_and(|reason| reason.contains("is not a file")), "{name}: {details}");
    };

    pipe_over(&gateway, "swap.wasm");
    gateway.metric_becomes("stile_reloads_total", &[("result", "kept")], 1.0).await;
    says("plugins.swap").await;
    assert_eq!(gateway.get("/swap/").send().await.text(), "1");
    assert_eq!(reload(&gateway).await.0, 422);
    gateway.rename_over("swap.wasm", version(2));
    gateway.answers("/swap/", 200, "2").await;
    gateway.metric_becomes("stile_problems", &[], 0.0).await;

    pipe_over(&gateway, "more.yaml");
    gateway.metric_becomes("stile_problems", &[], 1.0).await;
    says("more.yaml").await;
    assert_eq!(gateway.get("/more/").send().await.status(), 200);
    gateway.rename_over("more.yaml", more.to_string());
    gateway.metric_becomes("stile_problems", &[], 0.0).await;
}

/// Puts a pipe that nobody writes to in the place of a file of the gateway.
fn pipe_over(gateway: &Gateway, name: &str) {
    let (pipe, file) = (gateway.folder().join("pipe"), gateway.folder().join(name));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("it runs");
    assert!(made.success());
    std::fs::rename(pipe, file).expect("it is renamed");
}

#[tokio::test]
async fn an_api_that_never_had_a_good_version_is_served_with_the_first() {
    let upstream = Upstream::start();
    let builder = swapping(&upstream).file("swap.wasm", broken()).and(api("well").upstream(&upstream));
    let gateway = builder.try_start().await.expect("it starts all the same");
    assert_eq!(gateway.get("/swap/").send().await.status(), 503);
    assert_eq!(gateway.control("/ready").send().await.status(), 503);

    gateway.rename_over("swap.wasm", version(1));
    gateway.answers("/swap/", 200, "1").await;

    assert_eq!(gateway.control("/ready").send().await.status(), 200);
    assert_eq!(gateway.get("/well/").send().await.status(), 200);
}

#[tokio::test]
async fn apis_come_change_and_go_with_their_definitions() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("old").upstream(&upstream)).and(api("stays").upstream(&upstream)).start().await;
    let mut definition = gateway.definition();

    definition["apis"][0] = json!({
        "id": "new", "listen": { "path": "/new/" }, "upstream": { "url": upstream.url() },
        "hooks": { "pre": [{ "plugin": "swap", "function": "answer" }] },
    });
    definition["plugins"] = json!({ "swap": { "file": guest("swap-2") } });
    gateway.define(&definition);

    gateway.answers("/new/", 200, "2").await;
    assert_eq!(gateway.get("/old/").send().await.status(), 404);
    assert_eq!(gateway.get("/stays/").send().await.status(), 200);

    definition["apis"][0]["listen"]["path"] = json!("/moved/");
    gateway.define(&definition);
    gateway.answers("/moved/", 200, "2").await;
    assert_eq!(gateway.get("/new/").send().await.status(), 404);
}

#[tokio::test]
async fn all_that_is_wrong_with_the_plugins_of_an_api_is_told_at_once() {
    let upstream = Upstream::start();
    let gateway = swapping(&upstream).start().await;
    let mut definition = gateway.definition();
    let unknown = json!([{ "plugin": "swap", "function": "none" }]);
    definition["apis"][0]["hooks"] = json!({ "pre": unknown, "post": unknown, "response": unknown });
    gateway.define(&definition);
    gateway.metric_becomes("stile_reloads_total", &[("result", "kept")], 1.0).await;

    let details = gateway.control("/ready").send().await.json()["details"].clone();
    for (hook, expected) in
        [("pre", "no function `none`"), ("post", "not implement the hook `post`"), ("response", "no function `none`")]
    {
        let reason = details[format!("apis.swap.hooks.{hook}[0]")].as_str().unwrap_or_default();
        assert!(reason.contains(expected), "{hook}: {details}");
    }
    assert_eq!(gateway.get("/swap/").send().await.text(), "1", "what was there before is used");
}

#[tokio::test]
async fn definitions_that_cannot_be_used_change_nothing() {
    let upstream = Upstream::start();
    let gateway = swapping(&upstream).start().await;
    let good = gateway.definition();
    let mut bad = good.clone();
    bad["apis"][0]["listen"]["pth"] = json!("/other/");
    bad["plugins"]["swap"]["limits"]["fuel"] = json!(-1);

    gateway.define(&bad);
    gateway.metric_becomes("stile_reloads_total", &[("result", "refused")], 1.0).await;
    let (status, body) = reload(&gateway).await;

    assert_eq!(status, 422);
    assert_eq!(body["outcome"], "refused");
    let problems = body["problems"].to_string();
    assert!(problems.contains("pth") && problems.contains("plugins.swap.limits.fuel"), "all at once: {problems}");
    assert_eq!(gateway.get("/swap/").send().await.text(), "1");
    let ready = gateway.control("/ready").send().await;
    assert_eq!(ready.status(), 200);
    assert!(ready.text().contains("pth"), "{}", ready.text());
    // A plugin's file is taken up meanwhile.
    gateway.rename_over("swap.wasm", version(2));
    gateway.answers("/swap/", 200, "2").await;

    gateway.define(&good);
    gateway.metric_becomes("stile_problems", &[], 0.0).await;
}

#[tokio::test]
async fn what_plugins_may_be_granted_is_taken_up_and_other_settings_of_the_runtime_wait() {
    let upstream = Upstream::start();
    let gateway = swapping(&upstream).grant("swap", ["log"]).start().await;
    let mut definition = gateway.definition();

    definition["runtime"]["grants_max"] = json!(["kv"]);
    gateway.define(&definition);
    let (status, body) = reload(&gateway).await;
    assert_eq!(status, 422);
    assert!(body["problems"].to_string().contains("`log` is not in `runtime.grants_max`"), "{body}");

    definition["runtime"]["grants_max"] = json!(["kv", "log"]);
    gateway.define(&definition);
    let (status, body) = reload(&gateway).await;
    assert_eq!((status, &body["needs_restart"]), (200, &json!([])), "{body}");

    definition["runtime"]["instances_max"] = json!(9);
    gateway.define(&definition);
    assert_eq!(reload(&gateway).await.1["needs_restart"], json!(["runtime"]));
}

#[tokio::test]
async fn a_definition_file_that_holds_nothing_changes_nothing() {
    let upstream = Upstream::start();
    let more = "apis:\n- { id: more, listen: { path: /more/ }, upstream: { url: \"http://127.0.0.1:1\" } }\n";
    let builder = swapping(&upstream).file("more.yaml", more).set("/include", json!(["more.yaml"]));
    let gateway = builder.start().await;

    for nothing in ["", "\n  \n", "# apis:\n", "---\n"] {
        std::fs::write(gateway.folder().join("more.yaml"), nothing).expect("it is written");
        let (status, body) = reload(&gateway).await;
        assert_eq!((status, &body["outcome"]), (422, &json!("refused")), "{nothing:?}: {body}");
        let problems = body["problems"].to_string();
        assert!(problems.contains("more.yaml: holds nothing") && problems.contains("apis: []"), "{problems}");
        assert_eq!(gateway.get("/more/").send().await.status(), 502, "it is still there");
    }
    gateway.rename_over("more.yaml", "apis: []\n");
    assert_eq!(reload(&gateway).await.0, 200);
    assert_eq!(gateway.get("/more/").send().await.status(), 404);
    assert_eq!(gateway.problems(), "");
}

#[test]
fn what_a_reload_removes_is_told_as_a_warning() {
    let log = log_of("reload::child");
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let removed = |kind: &str, name: &str| {
        lines.iter().any(|line| line["level"] == "WARN" && line[kind] == name && line["outcome"] == "removed")
    };
    assert!(removed("api", "swap") && removed("plugin", "swap"), "{log}");
    assert!(!removed("api", "stays"), "{log}");
}

/// A process of its own, because its log is the process's.
#[tokio::test]
#[ignore = "a test above runs it"]
async fn child() {
    let log = Log { format: LogFormat::Json, filter: "warn".to_owned(), access: AccessLog::Off };
    stile::telemetry::log::init(&log).expect("the filter is good");
    let upstream = Upstream::start();
    let gateway = swapping(&upstream).and(api("stays").upstream(&upstream)).start().await;
    let mut definition = gateway.definition();
    definition["apis"] = json!([definition["apis"][1]]);
    definition["plugins"] = json!({});
    gateway.define(&definition);
    assert_eq!(reload(&gateway).await.0, 200);
}

#[tokio::test]
async fn a_new_configuration_that_the_plugin_refuses_leaves_the_api_as_it_was() {
    let upstream = Upstream::start();
    let gateway = swapping(&upstream).start().await;
    let mut definition = gateway.definition();
    definition["apis"][0]["hooks"]["pre"][0]["function"] = json!("nothing");

    gateway.define(&definition);
    gateway.metric_becomes("stile_reloads_total", &[("result", "kept")], 1.0).await;

    assert_eq!(gateway.get("/swap/").send().await.text(), "1");
    assert!(gateway.problems().contains("apis.swap.hooks.pre[0]"), "{}", gateway.problems());
    assert!(gateway.problems().contains("there is no function `nothing`"), "{}", gateway.problems());
}

#[tokio::test]
async fn a_request_in_flight_finishes_on_the_version_that_it_began_with() {
    let (arrived, mut has_arrived) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let may_go_on = std::sync::Mutex::new(may_go_on);
    let upstream = Upstream::answering(move |_| {
        arrived.send(()).expect("the test waits");
        let waited = may_go_on.lock().expect("nobody panics").recv_timeout(Duration::from_secs(10));
        waited.expect("the test goes on");
        Answer::new(200).body("late")
    });
    let marked = api("mark").upstream(&upstream);
    let marked = marked.pre(plugin("swap").function("mark")).response("swap");
    let gateway = Gateway::with(marked).file("swap.wasm", version(1)).plugin("swap", "file", "swap.wasm").start().await;
    let versions = || gateway.metric("stile_plugin_generations", &[]);
    assert!((versions() - 1.0).abs() < f64::EPSILON);

    let in_flight = tokio::spawn(gateway.get("/mark/").send());
    has_arrived.recv().await.expect("it is at the upstream");
    gateway.rename_over("swap.wasm", version(2));
    gateway.metric_becomes("stile_reloads_total", &[("result", "changed")], 1.0).await;
    assert!((versions() - 2.0).abs() < f64::EPSILON, "the old version is still in use");
    go_on.send(()).expect("the upstream waits");
    let reply = in_flight.await.expect("it ends");

    assert_eq!((upstream.last().header("x-version-in"), reply.header("x-version-out")), (Some("1"), Some("1")));
    gateway.metric_becomes("stile_plugin_generations", &[], 1.0).await;
    go_on.send(()).expect("the upstream waits");
    let reply = gateway.get("/mark/").send().await;
    assert_eq!((upstream.last().header("x-version-in"), reply.header("x-version-out")), (Some("2"), Some("2")));
}

#[tokio::test]
async fn what_did_not_change_keeps_its_instances() {
    let upstream = Upstream::start();
    let builder = swapping(&upstream).and(api("kept").upstream(&upstream).pre("hello"));
    let gateway = builder.plugin("hello", "isolation", "reuse").start().await;
    for _ in 0..2 {
        assert_eq!(gateway.get("/kept/").send().await.status(), 200);
    }
    let made = gateway.metric("stile_plugin_instances_made_total", &[]);
    let reused = gateway.metric("stile_plugin_instances_reused_total", &[]);

    gateway.rename_over("swap.wasm", version(2));
    gateway.answers("/swap/", 200, "2").await;
    let swapped = gateway.metric("stile_plugin_instances_made_total", &[]) - made;
    let before = gateway.metric("stile_plugin_instances_made_total", &[]);
    assert_eq!(gateway.get("/kept/").send().await.status(), 200);

    assert!(swapped >= 1.0, "counters go on over versions");
    assert!((gateway.metric("stile_plugin_instances_made_total", &[]) - before).abs() < f64::EPSILON);
    assert!((gateway.metric("stile_plugin_instances_reused_total", &[]) - reused - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_reload_says_what_became_of_each_api_and_plugin() {
    let upstream = Upstream::start();
    // Nothing is taken up but when asked for.
    let builder = swapping(&upstream).and(api("other").upstream(&upstream)).set("/reload/watch", false);
    let gateway = builder.start().await;
    assert_eq!(reload(&gateway).await.1["outcome"], "unchanged");

    gateway.rename_over("swap.wasm", version(2));
    let mut definition = gateway.definition();
    definition["apis"].as_array_mut().expect("a list").pop();
    definition["workers"] = json!(2);
    gateway.define(&definition);
    let (status, body) = reload(&gateway).await;

    assert_eq!((status, &body["outcome"]), (200, &json!("changed")));
    assert_eq!(body["plugins"]["swap"]["outcome"], "changed");
    assert_ne!(body["plugins"]["swap"]["before"], body["plugins"]["swap"]["now"]);
    assert_eq!(
        (&body["apis"]["swap"]["outcome"], &body["apis"]["other"]["outcome"]),
        (&json!("changed"), &json!("removed"))
    );
    assert_eq!(body["needs_restart"], json!(["workers"]));
    assert_eq!(gateway.get("/swap/").send().await.text(), "2");
    let page = gateway.page();
    assert_eq!(page.counted("stile_plugin_info").matches("plugin=\"swap\"").count(), 1, "the version before is gone");
    let refused = gateway.control("/stile/reload").send().await;
    assert_eq!(refused.status(), 403, "the secret is needed");
}

#[tokio::test]
async fn policies_of_files_are_taken_up() {
    let upstream = Upstream::start();
    let open = api("open").upstream(&upstream).set("/auth/token", true);
    let gateway =
        Gateway::with(open).set("policies", json!([{ "id": "gold", "access": { "other": {} } }])).start().await;
    let key = json!({ "apply_policies": ["gold"] });
    let made = gateway.manage("POST", "/tyk/keys/create").body(key.to_string()).send().await.json();
    let key = made["key"].as_str().unwrap_or_default().to_owned();
    assert_eq!(gateway.get("/open/").header("authorization", &key).send().await.status(), 403);

    let mut definition = gateway.definition();
    definition["policies"][0]["access"] = json!({ "open": {} });
    gateway.define(&definition);
    gateway.metric_becomes("stile_reloads_total", &[("result", "changed")], 1.0).await;

    assert_eq!(gateway.get("/open/").header("authorization", &key).send().await.status(), 200);
}

#[tokio::test]
async fn gateways_of_one_redis_reload_together() {
    let redis = Redis::start();
    let upstream = Upstream::start();
    let start = || swapping(&upstream).redis(&redis).set("/reload/watch", false).start();
    let (one, two) = (start().await, start().await);
    for gateway in [&one, &two] {
        gateway.rename_over("swap.wasm", version(2));
    }

    let reply = one.manage("POST", "/stile/reload/group").send().await;

    assert_eq!(reply.status(), 200);
    assert_eq!(one.get("/swap/").send().await.text(), "2");
    two.answers("/swap/", 200, "2").await;
}

/// An API whose plugin makes sessions for IDs, and two versions of that plugin.
fn extracting(upstream: &Upstream, session: Value) -> (Builder, [Vec<u8>; 2]) {
    let code = std::fs::read(guest("session")).expect("it was built");
    // A section that means nothing makes another file of it.
    let version = |number: u8| code.iter().copied().chain([0, 3, 1, b'n', number]).collect::<Vec<u8>>();
    let auth =
        json!({ "plugin": "session", "config": session, "id_extractor": { "from": "header" }, "sessions_max": 2 });
    let api = api("orders").upstream(upstream).auth(plugin("session")).set("/auth", auth);
    let builder = Gateway::with(api).file("session.wasm", version(0)).plugin("session", "file", "session.wasm");
    // Nothing is taken up but when asked for.
    (builder.set("/reload/watch", false), [version(0), version(1)])
}

async fn ask(gateway: &Gateway, caller: &str) -> u16 {
    gateway.get("/orders/").header("authorization", caller).send().await.status()
}

#[tokio::test]
async fn reloads_leave_one_version_of_a_plugin_that_makes_sessions_and_one_set_of_metrics() {
    const OF_SHARES: [&str; 7] = [
        "stile_plugin_sessions_evicted_total",
        "stile_plugin_sessions_unkept_total",
        "stile_plugin_counters_refused_total",
        "stile_identities_asked",
        "stile_identities_waited_for",
        "stile_identities_refused",
        "stile_identities_refused_evicted_total",
    ];
    let upstream = Upstream::start();
    let (builder, versions) = extracting(&upstream, json!({ "id_extractor_deadline": 99_999_999_999_u64 }));
    let gateway = builder.start().await;
    let series = |api: &str| {
        let page = gateway.page().to_string();
        let of = |name| page.lines().filter(|line| line.starts_with(&format!("{name}{{api=\"{api}\"}}"))).count();
        OF_SHARES.map(of)
    };
    assert_eq!(ask(&gateway, "caller-0").await, 200);
    for turn in 1..=10 {
        gateway.rename_over("session.wasm", &versions[turn % 2]);
        assert_eq!(reload(&gateway).await.1["apis"]["orders"]["outcome"], "changed");
        assert_eq!(ask(&gateway, &format!("caller-{turn}")).await, 200);
    }

    gateway.metric_becomes("stile_plugin_generations", &[], 1.0).await;
    assert_eq!(series("orders"), [1; 7]);
    let evicted = gateway.metric("stile_plugin_sessions_evicted_total", &[]);
    assert!((evicted - 9.0).abs() < f64::EPSILON, "it is counted over all versions, but is {evicted}");

    // An API that comes later has its own, and one that goes leaves none.
    let mut definition = gateway.definition();
    let mut later = definition["apis"][0].clone();
    (later["id"], later["listen"]["path"]) = (json!("later"), json!("/later/"));
    definition["apis"] = json!([later]);
    gateway.define(&definition);
    assert_eq!(reload(&gateway).await.0, 200);
    assert_eq!((series("orders"), series("later")), ([0; 7], [1; 7]));
    gateway.metric_becomes("stile_plugin_generations", &[], 1.0).await;
}

/// The plugin is asked again at once, whichever version of it refused.
#[tokio::test]
async fn a_refusal_is_forgotten_when_the_store_has_news_after_a_reload_too() {
    let upstream = Upstream::start();
    let (builder, versions) = extracting(&upstream, json!({ "refuse": "unknown" }));
    let gateway = builder.start().await;
    let calls = [("api", "orders"), ("hook", "auth")];
    for version in versions.iter().rev() {
        gateway.rename_over("session.wasm", version);
        assert_eq!(reload(&gateway).await.1["apis"]["orders"]["outcome"], "changed");
        let before = gateway.metric("stile_plugin_calls_total", &calls);
        for _ in 0..3 {
            assert_eq!(ask(&gateway, "ana").await, 403);
        }
        let asked = gateway.metric("stile_plugin_calls_total", &calls) - before;
        assert!((asked - 1.0).abs() < f64::EPSILON, "a new version is asked, and asked once: {asked}");
        gateway.metric_becomes("stile_identities_refused", &[("api", "orders")], 1.0).await;
    }

    let id = stile::model::id::ApiId::parse("orders").expect("a name");
    let session = stile::model::session::Session { id_extractor_deadline: 99_999_999_999, ..Default::default() };
    let name = stile::model::id::PluginName::parse("session").expect("a name");
    let hash = stile::model::key::KeyHash::of_extracted("", &id, &name, b"ana");
    assert_eq!(gateway.store().create_session(&hash, &session, stile::store::Life::Forever).await, Ok(true));

    gateway.metric_becomes("stile_identities_refused", &[("api", "orders")], 0.0).await;
    let before = gateway.metric("stile_plugin_calls_total", &calls);
    assert_eq!(ask(&gateway, "ana").await, 403);
    gateway.metric_becomes("stile_plugin_calls_total", &calls, before + 1.0).await;
}

/// What a plugin said of an ID holds while it would be asked alike: same plugin, file, function and configuration, and
/// policies that the API grants.
#[tokio::test]
async fn an_identity_is_asked_for_anew_when_what_made_it_changes() {
    let upstream = Upstream::start();
    let session = json!({ "id_extractor_deadline": 99_999_999_999_u64, "policies": ["gold"] });
    let (builder, versions) = extracting(&upstream, session);
    let gateway = builder.plugin("other", "file", "session.wasm").start().await;
    let gold = stile::model::policy::PolicyId::parse("gold").expect("an id");
    let right = stile::model::session::AccessRight { api_id: "orders".to_owned(), ..Default::default() };
    let policy = stile::model::policy::Policy { access_rights: vec![right], ..stile::model::policy::Policy::new(gold) };
    gateway.store().put_policy(&policy).await.expect("the store is there");
    let calls = || gateway.metric("stile_plugin_calls_total", &[]);
    let set = async |key: &str, value: Value| {
        let mut definition = gateway.definition();
        definition["apis"][0]["auth"][key] = value;
        gateway.define(&definition);
        assert_eq!(reload(&gateway).await.1["apis"]["orders"]["outcome"], "changed");
    };
    let asked = async |status: u16| {
        let before = calls();
        assert_eq!(ask(&gateway, "ana").await, status);
        calls() - before
    };
    set("policies", json!(["gold"])).await;
    assert!((asked(200).await - 1.0).abs() < f64::EPSILON);
    assert!(asked(200).await.abs() < f64::EPSILON, "it is known");

    // Something that does not concern the plugin: what it said holds.
    set("sessions_max", json!(3)).await;
    assert!(asked(200).await.abs() < f64::EPSILON, "nothing changed for it");

    gateway.rename_over("session.wasm", &versions[1]);
    assert_eq!(reload(&gateway).await.1["apis"]["orders"]["outcome"], "changed");
    assert!((asked(200).await - 1.0).abs() < f64::EPSILON, "another version");
    assert!(asked(200).await.abs() < f64::EPSILON, "it is known");

    set("policies", json!(["silver"])).await;
    assert!((asked(403).await - 1.0).abs() < f64::EPSILON, "`gold` is not granted any more");
    set("policies", json!(["*"])).await;
    assert!(asked(200).await.abs() < f64::EPSILON, "it is granted again");

    set("plugin", json!("other")).await;
    assert!((asked(200).await - 1.0).abs() < f64::EPSILON, "another plugin");

    set("config", json!({ "refuse": "unknown" })).await;
    assert!((asked(403).await - 1.0).abs() < f64::EPSILON, "another configuration");
}

/// The long run of this is `just swaps`.
#[tokio::test]
async fn no_request_fails_or_mixes_versions_while_they_change() {
    let echo = |seen: &Seen| Answer::new(200).header("x-version-in", seen.header("x-version-in").unwrap_or_default());
    let upstream = Upstream::answering(echo);
    let marked = api("mark").upstream(&upstream);
    let marked = marked.pre(plugin("swap").function("mark")).response("swap");
    let builder = Gateway::with(marked).set("/reload/settle_ms", 1);
    let gateway = builder.file("swap.wasm", version(1)).plugin("swap", "file", "swap.wasm").start().await;
    let (one, two, broken) = (version(1), version(2), broken());

    let is_over = std::cell::Cell::new(false);
    let callers = async {
        let mut calls = 0;
        while !is_over.get() {
            let replies = futures_util::future::join_all((0..4).map(|_| gateway.get("/mark/").send())).await;
            for reply in replies {
                assert_eq!(reply.status(), 200);
                assert!(matches!(reply.header("x-version-in"), Some("1" | "2")));
                assert_eq!(reply.header("x-version-in"), reply.header("x-version-out"), "no request sees two versions");
                calls += 1;
            }
        }
        calls
    };
    let swaps = async {
        for turn in 0_u32..40 {
            let (content, now) = if turn % 2 == 0 { (&two, "2") } else { (&one, "1") };
            if turn % 8 == 7 {
                let kept = gateway.metric("stile_reloads_total", &[("result", "kept")]);
                gateway.rename_over("swap.wasm", &broken);
                gateway.metric_becomes("stile_reloads_total", &[("result", "kept")], kept + 1.0).await;
            }
            gateway.rename_over("swap.wasm", content);
            loop {
                let reply = gateway.get("/mark/").send().await;
                if reply.header("x-version-out") == Some(now) {
                    break;
                }
            }
        }
        is_over.set(true);
    };
    let (calls, ()) = tokio::join!(callers, swaps);

    assert!(calls > 40);
    gateway.metric_becomes("stile_plugin_generations", &[], 1.0).await;
}
