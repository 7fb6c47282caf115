//! A gateway under an attack.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::attack::{Attack, Case, Guard, Step};
use super::servers;
use crate::definition::put;
use crate::{Api, Builder, Gateway, Reply, Upstream, api, compiler, plugin};

/// A gateway with the attacking plugin at every hook of a case, and with `calm`, an API that has nothing to do with it.
pub struct Arena {
    /// The gateway.
    pub gateway: Gateway,
    pub(super) upstream: Upstream,
    pub(super) allowed: Upstream,
    pub(super) forbidden: Upstream,
    steps: Vec<Step>,
}

/// What came of an attack at one hook.
#[derive(Debug)]
pub struct Came {
    /// Status and kind of failure, such as `500 fuel`.
    pub answer: String,
    /// What the last caller read; `None` where the answer broke off.
    pub body: Option<String>,
    /// How long all calls of the case took.
    pub time: Duration,
}

impl Arena {
    /// Starts it for the test: once for each way that the failure policy has.
    pub async fn start(attack: &Attack, case: &Case, lifted: Option<&Guard>) -> Self {
        let servers = Servers::start();
        let builder = servers.builder(attack, case, lifted).recording();
        let gateway = builder.try_start().await.unwrap_or_else(|problem| panic!("{}: {problem}", attack.name));
        Self::with(gateway, servers, attack, case, lifted).await
    }

    /// Starts it for a long attack: failures have no consequences, so it goes on.
    pub async fn start_for_long(attack: &Attack, case: &Case) -> Self {
        let servers = Servers::start();
        let builder = servers.builder(attack, case, None).recording().set("/plugin_quarantine/enabled", false);
        let gateway = builder.try_start().await.unwrap_or_else(|problem| panic!("{}: {problem}", attack.name));
        Self::with(gateway, servers, attack, case, None).await
    }

    async fn with(gateway: Gateway, servers: Servers, attack: &Attack, case: &Case, lifted: Option<&Guard>) -> Self {
        for (name, key) in &attack.keys {
            let made = gateway.manage("POST", &format!("/tyk/keys/{name}")).body(key.to_string()).send().await;
            assert_eq!(made.status(), 200, "{}: {}", attack.name, made.text());
        }
        let steps = steps(case, lifted);
        let Servers { upstream, allowed, forbidden } = servers;
        Self { gateway, upstream, allowed, forbidden, steps }
    }

    /// Makes the calls of the case at this hook, and tells what came of the last one.
    pub async fn attack(&self, hook: &str, way: &str) -> Came {
        let begun = Instant::now();
        let reply = self.call(hook, way).await;
        let time = begun.elapsed();
        let status = reply.as_ref().map_or_else(|| "broken".to_owned(), |reply| reply.status().to_string());
        let last = self.steps.last().expect("a case has a call");
        let calls = self.steps.iter().filter(|step| step.api == last.api).map(|_| 1.0).sum();
        let kinds = self.kinds(hook, &id(hook, way, last), &status, calls).await;
        let body = reply.map(|reply| String::from_utf8_lossy(reply.body()).into_owned());
        Came { answer: format!("{status} {kinds}"), body, time }
    }

    /// Makes the calls of the case at this hook. The last answer; `None` where it broke off.
    pub async fn call(&self, hook: &str, way: &str) -> Option<Reply> {
        let mut last = None;
        for step in &self.steps {
            let call = self.gateway.get(&format!("/{}/1", id(hook, way, step)));
            // The gateway's own address, for who wants to ask it.
            let call = call.header("authorization", &step.caller).header("x-gateway", self.gateway.address.to_string());
            last = call.try_send().await.ok();
        }
        last
    }

    /// The kinds of failure that were counted for an API, when all its calls are.
    async fn kinds(&self, hook: &str, id: &str, status: &str, calls: f64) -> String {
        if hook == "load" {
            return if self.gateway.problems().is_empty() { "-" } else { "load" }.to_owned();
        }
        let begun = Instant::now();
        loop {
            let page = self.gateway.page();
            let counted = page.sum("stile_plugin_calls_total", &[("api", id), ("hook", hook)]);
            let kinds: BTreeSet<_> =
                KINDS.iter().filter(|kind| page.sum(FAILURES, &[("api", id), ("kind", kind)]) > 0.0).copied().collect();
            // Who is turned away before the hook makes no call of it.
            let is_turned_away = kinds.is_empty() && (status.starts_with('4') || status == "broken");
            if counted >= calls || kinds.contains("load") || is_turned_away || begun.elapsed() > PATIENCE {
                return if kinds.is_empty() { "-".to_owned() } else { Vec::from_iter(kinds).join("+") };
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

pub(super) struct Servers {
    upstream: Upstream,
    allowed: Upstream,
    forbidden: Upstream,
}

impl Servers {
    pub(super) fn start() -> Self {
        let forbidden = Upstream::start();
        Self { upstream: Upstream::start(), allowed: servers::allowed(&forbidden), forbidden }
    }

    pub(super) fn builder(&self, attack: &Attack, case: &Case, lifted: Option<&Guard>) -> Builder {
        let name = attack.name.as_str();
        let mut builder = Gateway::with(api("calm").upstream(&self.upstream).pre("hello"));
        for (hook, answer) in case.answers() {
            let others: BTreeSet<_> = steps(case, lifted).into_iter().map(|step| step.api).collect();
            for other in others {
                let step = Step { api: other, caller: String::new() };
                for way in ways(hook, answer) {
                    builder = builder.and(self.attacked(attack, case, hook, way, &id(hook, way, &step)));
                }
            }
        }
        if case.first().0 == "load" {
            // What came of it with other limits is not to be found in a cache.
            builder = builder.compiler(compiler());
        }
        builder = builder.file("guest.wasm", attack.component()).file(SECRET_FILE, format!("{SECRET}\n"));
        builder = builder.plugin(name, "file", "guest.wasm").resolving(servers::names());
        // Neither fuel nor time is to hide what an attack is about, not even in a debug build.
        let mut keys = json!({ "limits": { "fuel": 1_000_000_000_000_u64, "deadline_ms": 5_000 } });
        let lifted = lifted.and_then(|guard| guard.lifted.as_ref());
        for more in [Some(&attack.plugin), Some(&case.plugin), lifted].into_iter().flatten() {
            merge(&mut keys, &self.told(Value::Object(more.clone())));
        }
        for (key, value) in keys.as_object().into_iter().flatten() {
            builder = builder.plugin(name, key, value.clone());
        }
        attack.gateway.iter().fold(builder, |builder, (path, value)| builder.set(path, value.clone()))
    }

    fn attacked(&self, attack: &Attack, case: &Case, hook: &str, way: &str, id: &str) -> Api {
        let mut used = plugin(&attack.name);
        if !case.config.is_null() {
            used = used.config(self.told(case.config.clone()));
        }
        if way == "continue" {
            used = used.or_continue();
        }
        let definition = api(id).upstream(&self.upstream).set("/analytics/enabled", hook == "analytics");
        let definition = attack.api.iter().fold(definition, |api, (path, value)| api.set(path, value.clone()));
        definition.hook(if hook == "load" { "pre" } else { hook }, used)
    }

    /// The same with the places of the servers.
    fn told(&self, value: Value) -> Value {
        let port = |server: &Upstream| server.url().rsplit(':').next().expect("a port").to_owned();
        let text = value.to_string().replace("{allowed}", &port(&self.allowed));
        let text = text.replace("{forbidden}", &port(&self.forbidden));
        serde_json::from_str(&text).expect("ports break no JSON")
    }
}

fn steps(case: &Case, lifted: Option<&Guard>) -> Vec<Step> {
    let once = || vec![Step { api: String::new(), caller: "key".to_owned() }];
    let others = lifted.and_then(|guard| guard.calls.clone());
    others.unwrap_or_else(|| if case.calls.is_empty() { once() } else { case.calls.clone() })
}

/// What a failure may mean at this hook.
pub(super) fn ways(hook: &str, answer: &str) -> &'static [&'static str] {
    let is_failure = !answer.ends_with('-');
    if is_failure && !matches!(hook, "auth" | "analytics" | "load") { &["reject", "continue"] } else { &["reject"] }
}

fn id(hook: &str, way: &str, step: &Step) -> String {
    let parts = [hook, way, step.api.as_str()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// Puts the second into the first.
fn merge(into: &mut Value, from: &Value) {
    match from.as_object() {
        Some(fields) => {
            if !into.is_object() {
                *into = Value::Object(Map::new());
            }
            for (key, value) in fields {
                let mut place = into.get(key).cloned().unwrap_or(Value::Null);
                merge(&mut place, value);
                put(into, &format!("/{key}"), place);
            }
        }
        None => *into = from.clone(),
    }
}

pub(super) const FAILURES: &str = "stile_plugin_call_failures_total";
const KINDS: [&str; 9] =
    ["load", "trap", "fuel", "deadline", "memory", "host_call", "bad_output", "busy", "plugin_error"];
/// What the file `secret` in the gateway's folder holds.
pub(super) const SECRET: &str = "s3cr3t-w0rds";
const SECRET_FILE: &str = "secret";
const PATIENCE: Duration = Duration::from_secs(10);
