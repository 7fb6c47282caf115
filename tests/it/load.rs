//! Plugins that cannot be used: the operator is told which and what to do, and only their APIs are not served.

use serde_json::{Value, json};
use stile_tests::{Builder, Gateway, Upstream, Use, api, guest, plugin};

/// A gateway with an API that uses `sick` and one that has nothing to do with it.
struct Sick {
    hook: &'static str,
    sick: Use,
    prepare: Box<dyn Fn(Builder) -> Builder>,
}

fn sick(hook: &'static str, sick: impl Into<Use>) -> Sick {
    Sick { hook, sick: sick.into(), prepare: Box::new(|builder| builder) }
}

impl Sick {
    fn but(self, prepare: impl Fn(Builder) -> Builder + 'static) -> Self {
        Self { prepare: Box::new(prepare), ..self }
    }

    /// The problems have all these words, and the rest of the gateway is well.
    async fn check(self, words: &[&str]) {
        let upstream = Upstream::start();
        let builder = Gateway::with(api("sick").upstream(&upstream).hook(self.hook, self.sick));
        let builder = (self.prepare)(builder.and(api("well").upstream(&upstream).pre("hello")));
        let gateway = builder.try_start().await.expect("it starts all the same");

        let problems = gateway.problems();
        for word in words {
            assert!(problems.contains(word), "`{word}` is not in: {problems}");
        }
        assert!(!problems.contains("apis.well"), "{problems}");
        assert!(!problems.contains('\u{1b}'), "{problems:?}");
        let reply = gateway.get("/sick/1").send().await;
        assert_eq!((reply.status(), reply.header("retry-after")), (503, Some("1")));
        assert_eq!(gateway.get("/well/1").send().await.status(), 200);
        assert_eq!(upstream.last().header("x-hello"), Some("world"));
        let ready = gateway.control("/ready").send().await;
        assert_eq!(ready.status(), 503);
        assert_eq!(ready.json()["status"], "not ready");
        assert!(ready.json()["details"].as_object().is_some_and(|details| !details.is_empty()), "{}", ready.text());
    }
}

fn file(name: &'static str, content: &'static [u8]) -> impl Fn(Builder) -> Builder {
    move |builder| builder.file("sick.wasm", content).plugin(name, "file", "sick.wasm")
}

#[tokio::test]
async fn a_core_module_is_told_from_a_component() {
    let core = sick("pre", "core").but(file("core", b"\0asm\x01\0\0\0"));
    core.check(&["plugins.core: ", "apis.sick.hooks.pre[0]: ", "core WebAssembly module", "wasm32-wasip2"]).await;
}

#[tokio::test]
async fn a_file_that_is_no_webassembly_is_refused() {
    sick("pre", "text").but(file("text", b"hello")).check(&["plugin `text`", "not a WebAssembly file"]).await;
    sick("pre", "cut")
        .but(file("cut", b"\0asm\x0d\0\x01\0\xff\xff"))
        .check(&["plugin `cut`", "does not compile"])
        .await;
}

#[tokio::test]
async fn a_capability_that_is_not_granted_is_named_with_the_key_that_grants_it() {
    let config = json!({ "requests": 1, "seconds": 1 });
    let words = ["plugin `rate-limit`", "`kv`", "`plugins.rate-limit.grants`"];
    sick("pre", plugin("rate-limit").config(config)).check(&words).await;
}

#[tokio::test]
async fn a_hook_that_the_plugin_does_not_implement_is_named_with_those_it_does() {
    sick("response", "hello").check(&["apis.sick.hooks.response[0]: ", "plugin `hello`", "`response`", "`pre`"]).await;
}

#[tokio::test]
async fn a_function_that_is_not_there_is_named_with_those_that_are() {
    sick("pre", plugin("hello").function("hallo")).check(&["plugin `hello`", "`hallo`", "`hello`"]).await;
    sick("response", "response-hardening").check(&["`headers`", "`redact`"]).await;
}

#[tokio::test]
async fn a_configuration_that_does_not_fit_is_named_with_its_place() {
    sick("pre", plugin("ip-filter").config(json!({ "allow": 5 }))).check(&["plugin `ip-filter`", "/allow"]).await;
    sick("pre", plugin("ip-filter").config(json!({ "alow": [] }))).check(&["plugin `ip-filter`", "alow"]).await;
    sick("pre", plugin("hello").config(json!({ "a": 1 }))).check(&["plugin `hello`", "takes no configuration"]).await;
    let missing = sick("auth", plugin("token-auth").config(json!({})));
    missing.check(&["apis.sick.auth: ", "plugin `token-auth`", "tokens"]).await;
    let range = sick("pre", plugin("ip-filter").config(json!({ "allow": ["not an address"] })));
    range.check(&["plugin `ip-filter`", "`init` failed", "not an address"]).await;
}

#[tokio::test]
async fn a_plugin_over_its_limits_does_not_load() {
    let trace = || plugin("trace").config(json!({ "tag": "a" }));
    let limited = |limits: Value| sick("pre", trace()).but(move |builder| builder.limits("trace", limits.clone()));
    limited(json!({ "file_bytes_max": 1000 })).check(&["plugin `trace`", "`limits.file_bytes_max`"]).await;
    limited(json!({ "memory_bytes_max": 65_536 })).check(&["plugin `trace`", "`limits.memory_bytes_max`"]).await;
}

#[tokio::test]
async fn a_configuration_that_cannot_be_is_refused_as_a_whole() {
    let upstream = Upstream::start();
    let refused = async |builder: Builder, words: &[&str]| {
        let problem = builder.try_start().await.err().expect("refused");
        for word in words {
            assert!(problem.contains(word), "`{word}` is not in: {problem}");
        }
    };
    let auth = api("orders").upstream(&upstream).auth(plugin("token-auth").or_continue());
    refused(Gateway::with(auth), &["auth", "on_failure"]).await;
    let analytics = api("orders").upstream(&upstream).analytics(plugin("mask").or_continue());
    refused(Gateway::with(analytics), &["analytics[0]", "on_failure"]).await;
    let gone = Gateway::with(api("orders").upstream(&upstream).pre("gone")).plugin("gone", "file", "gone.wasm");
    refused(gone, &["plugins.gone.file", "gone.wasm", "is not there"]).await;
    let typo = Gateway::with(api("orders").upstream(&upstream).set("/lisen", 1));
    refused(typo, &["lisen", "listen"]).await;
    let twice = api("a").path("/x/").upstream(&upstream);
    refused(
        Gateway::with(twice).and(api("b").path("/x/").upstream(&upstream)),
        &["apis[1].listen.path", "`a`", "the same path"],
    )
    .await;
}

#[tokio::test]
async fn two_plugins_may_come_from_one_file() {
    let upstream = Upstream::start();
    let definition = api("orders").upstream(&upstream).pre("one").post("two");
    let hello = |name| plugin(name).function("trace").config(json!({ "tag": name }));
    let definition = definition.set("/hooks", json!({})).pre(hello("one")).post(hello("two"));
    let trace = guest("trace").display().to_string();
    let gateway = Gateway::with(definition).plugin("one", "file", trace.as_str()).plugin("two", "file", trace.as_str());
    let gateway = gateway.start().await;

    gateway.get("/orders/1").send().await;

    assert_eq!(upstream.last().header("x-trace"), Some("one,two"));
}
