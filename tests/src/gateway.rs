//! A gateway in process, read from a real file and started as `stile serve` does.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stile::app::{Drained, Running};
use stile::clock::Clock;
use stile::store::Store;
use stile::upstream::{Lookup, Resolver, Shared};

use crate::definition::put;
use crate::{Api, Call, Folder, Page, Raw, Redis, SelfSigned, compiler, guest, guests};

/// A running gateway. Dropping it drains it.
pub struct Gateway {
    running: Option<Running>,
    /// The first address that it listens on.
    pub address: SocketAddr,
    control: SocketAddr,
    tls: Option<SelfSigned>,
    folder: Folder,
}

/// A gateway to be.
pub struct Builder {
    fields: Value,
    plugins: BTreeMap<String, Value>,
    apis: Vec<Api>,
    tls: Option<SelfSigned>,
    clock: Clock,
    compiler: Option<PathBuf>,
    names: Option<Lookup>,
    folder: Folder,
}

impl Gateway {
    /// A gateway with this API.
    #[must_use]
    pub fn with(api: Api) -> Builder {
        let fields = json!({
            "control": { "address": "127.0.0.1:0", "secret": SECRET },
            "listen": [{ "address": "127.0.0.1:0" }],
            "store": { "kind": "memory" },
            "workers": 1,
            "log": { "access": "off" },
            "analytics": { "target": "off" },
            // A busy machine may take its time; tests of deadlines set their own.
            "plugin_limits": { "deadline_ms": 2000 },
            "runtime": { "instances_max": 32, "cache_dir": guests::cache() },
        });
        let (plugins, clock) = (BTreeMap::new(), Clock::system());
        let (compiler, folder) = (compiler(), Folder::new());
        Builder { fields, plugins, apis: vec![api], tls: None, clock, compiler, names: None, folder }
    }

    /// A request with `GET`.
    #[must_use]
    pub fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    /// A request with `POST`.
    #[must_use]
    pub fn post(&self, path: &str, body: impl Into<bytes::Bytes>) -> Call {
        self.call("POST", path).body(body)
    }

    /// A request.
    #[must_use]
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(self.address, self.tls.clone(), method, path)
    }

    /// A connection to write bytes to.
    pub async fn raw(&self) -> Raw {
        Raw::connect(self.address).await
    }

    /// A request to the control port.
    #[must_use]
    pub fn control(&self, path: &str) -> Call {
        Call::new(self.control, None, "GET", path)
    }

    /// Where its keys, policies and counters are kept.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.running().store()
    }

    /// A request to the control port, for keys and policies, with its secret.
    #[must_use]
    pub fn manage(&self, method: &str, path: &str) -> Call {
        Call::new(self.control, None, method, path).header("x-tyk-authorization", SECRET)
    }

    /// Where its control port is.
    #[must_use]
    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// The metrics page.
    #[must_use]
    pub fn page(&self) -> Page {
        Page::new(self.running().metrics.render())
    }

    /// The sum of a metric's series that have these labels.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.page().sum(name, labels)
    }

    /// The same of a metric that has whole numbers.
    #[must_use]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        // As text, which is exact where a cast might not be.
        self.metric(name, labels).to_string().parse().expect("a whole number")
    }

    /// Waits until a metric has this value: what counts may come just after what is seen.
    pub async fn metric_becomes(&self, name: &str, labels: &[(&str, &str)], expected: f64) {
        let begun = Instant::now();
        loop {
            let found = self.metric(name, labels);
            if (found - expected).abs() < f64::EPSILON {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{name} {labels:?} is {found}, not {expected}:\n{}",
                self.page().counted(name)
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits for so many analytics records, and returns them. The gateway must have been built with `recording`.
    pub async fn records(&self, count: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let text = std::fs::read_to_string(self.folder.path().join(RECORDS)).unwrap_or_default();
            let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            let records: Vec<Value> = whole.filter_map(|line| serde_json::from_str(line).ok()).collect();
            if records.len() >= count {
                return records;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{} records, not {count}:\n{}",
                records.len(),
                self.page().counted("stile_")
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// All addresses that it listens on.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.running().addresses
    }

    /// What is not served: places and reasons, a line each.
    #[must_use]
    pub fn problems(&self) -> String {
        let snapshot = self.running().snapshot();
        snapshot.problems.iter().map(|problem| format!("{}: {}\n", problem.place, problem.reason)).collect()
    }

    /// The order of work of all APIs, as `stile check --explain` prints it.
    #[must_use]
    pub fn plans(&self) -> String {
        self.running().snapshot().plans.iter().map(ToString::to_string).collect()
    }

    /// The gateway's folder, where its certificate is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its configuration file as it is now.
    #[must_use]
    pub fn definition(&self) -> Value {
        let text = std::fs::read_to_string(self.folder.path().join(DEFINITION)).expect("the file is there");
        serde_json::from_str(&text).expect("it is JSON")
    }

    /// Puts another file in the place of one in its folder, as a whole.
    pub fn rename_over(&self, name: &str, content: impl AsRef<[u8]>) {
        let new = self.folder.write(&format!("{name}.new"), content);
        std::fs::rename(new, self.folder.path().join(name)).expect("it is renamed");
    }

    /// Puts another configuration file in the place of its own.
    pub fn define(&self, definition: &Value) {
        self.rename_over(DEFINITION, definition.to_string());
    }

    /// Waits until a path answers with this body.
    pub async fn answers(&self, path: &str, status: u16, body: &str) {
        let begun = Instant::now();
        loop {
            let reply = self.get(path).send().await;
            if reply.status() == status && reply.text().contains(body) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{path} answers {}: {}", reply.status(), reply.text());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends the gateway: no new requests, those in flight are finished.
    pub async fn drain(mut self) -> Drained {
        let running = self.running.take().expect("it runs until it is drained");
        tokio::task::spawn_blocking(move || running.drain()).await.expect("it drains")
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs until it is drained")
    }
}

impl Builder {
    /// One more API.
    #[must_use]
    pub fn and(mut self, api: Api) -> Self {
        self.apis.push(api);
        self
    }

    /// Grants a plugin capabilities; with `upstream` also where requests may go: to all servers of tests.
    #[must_use]
    pub fn grant<const N: usize>(self, plugin: &str, capabilities: [&str; N]) -> Self {
        let granted = self.plugin(plugin, "grants", json!(capabilities.as_slice()));
        if !capabilities.contains(&"upstream") {
            return granted;
        }
        granted.plugin(plugin, "upstream", json!({ "allow": ["http://127.0.0.0/8:*"] }))
    }

    /// Limits a plugin.
    #[must_use]
    pub fn limits(self, plugin: &str, limits: Value) -> Self {
        self.plugin(plugin, "limits", limits)
    }

    /// Sets a key of a plugin, `file` for example.
    #[must_use]
    pub fn plugin(mut self, plugin: &str, key: &str, value: impl Into<Value>) -> Self {
        put(self.plugins.entry(plugin.to_owned()).or_insert_with(|| json!({})), &format!("/{key}"), value.into());
        self
    }

    /// Writes a file to the gateway's folder, for [`Builder::plugin`] or [`Builder::set`] to name.
    #[must_use]
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.folder.write(name, content);
        self
    }

    /// Writes analytics records where [`Gateway::records`] finds them.
    #[must_use]
    pub fn recording(self) -> Self {
        self.set("/analytics", json!({ "target": "file", "file": RECORDS }))
    }

    /// Listens with this certificate; calls then use TLS.
    #[must_use]
    pub fn tls(mut self, tls: &SelfSigned) -> Self {
        tls.write(self.folder.path());
        self.tls = Some(tls.clone());
        let listen = json!([{ "address": "127.0.0.1:0", "tls": { "certificate": "cert.pem", "key": "key.pem" } }]);
        self.set("/listen", listen)
    }

    /// Keeps keys, policies and quotas in a file in the gateway's folder.
    #[must_use]
    pub fn embedded(self) -> Self {
        self.set("/store", json!({ "kind": "embedded", "embedded": { "path": "store.redb" } }))
    }

    /// Keeps them on this server, whose answers may take their time on a busy machine.
    #[must_use]
    pub fn redis(self, redis: &Redis) -> Self {
        // Its certificate names it.
        let host = if redis.authority().is_some() { "localhost" } else { "127.0.0.1" };
        let builder = self.on_redis(&[(host, redis.port())]);
        match redis.authority() {
            None => builder,
            Some(file) => builder.set("/store/redis/tls/ca_file", file.to_str().expect("our names are text")),
        }
    }

    /// Keeps them on this cluster.
    #[must_use]
    pub fn redis_cluster(self, nodes: &[Redis]) -> Self {
        let addresses: Vec<_> = nodes.iter().map(|node| ("127.0.0.1", node.port())).collect();
        self.on_redis(&addresses).set("/store/redis/cluster", true)
    }

    fn on_redis(self, addresses: &[(&str, u16)]) -> Self {
        let addresses: Vec<String> = addresses.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        let redis = json!({ "addresses": addresses, "deadline_ms": 10_000, "backoff_max_ms": 200 });
        self.set("/store", json!({ "kind": "redis", "redis": redis }))
    }

    /// Reads the time from this clock.
    #[must_use]
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// Has this program compile plugins; `None` has the gateway do so itself. Nothing comes from the cache.
    #[must_use]
    pub fn compiler(self, program: Option<PathBuf>) -> Self {
        let cache = self.folder.path().join("cache").display().to_string();
        Self { compiler: program, ..self }.set("/runtime/cache_dir", cache)
    }

    /// Finds the addresses of names in this way, instead of asking the system.
    #[must_use]
    pub fn resolving(mut self, names: impl Fn(&str) -> Vec<IpAddr> + Send + Sync + 'static) -> Self {
        self.names = Some(Box::new(move |host| {
            let addresses = names(&host);
            Box::pin(async move { Ok(addresses) })
        }));
        self
    }

    /// Sets any key of the configuration, by its path with slashes.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        put(&mut self.fields, path, value.into());
        self
    }

    /// Starts it, with every API in order.
    pub async fn start(self) -> Gateway {
        let gateway = self.try_start().await.unwrap_or_else(|problem| panic!("the gateway does not start: {problem}"));
        assert_eq!(gateway.problems(), "");
        gateway
    }

    /// Writes the configuration file, for a gateway in a process of its own. The folder is the builder's.
    pub fn write(&mut self) -> PathBuf {
        for name in self.apis.iter().flat_map(|api| api.plugins.iter()) {
            let plugin = self.plugins.entry(name.clone()).or_insert_with(|| json!({}));
            if plugin.get("file").is_none() {
                put(plugin, "/file", json!(guest(name)));
            }
        }
        put(&mut self.fields, "/plugins", json!(self.plugins));
        put(&mut self.fields, "/apis", self.apis.iter().map(|api| api.fields.clone()).collect());
        // JSON is YAML.
        self.folder.write(DEFINITION, self.fields.to_string())
    }

    /// Starts it, with [problems](Gateway::problems) or without, or says why not.
    ///
    /// # Errors
    /// The configuration is refused, or the gateway cannot start.
    pub async fn try_start(mut self) -> Result<Gateway, String> {
        let file = self.write();
        let start = move || {
            let (model, _) = stile::spec::read(&file).map_err(|problems| problems.to_string())?;
            let upstreams = self.names.map_or_else(Shared::default, |names| Shared::resolving(Resolver::new(names)));
            let stile = self.compiler.as_deref();
            stile::app::start_with(&model, &self.clock, stile, upstreams, |_| {}).map_err(|error| error.to_string())
        };
        let running = tokio::task::spawn_blocking(start).await.expect("starting does not panic")?;
        let address = running.addresses.first().copied().expect("it listens");
        let control = running.control().expect("it has a control port");
        Ok(Gateway { running: Some(running), address, control, tls: self.tls, folder: self.folder })
    }
}

/// The secret of every control port here.
const SECRET: &str = "secret-of-tests";
const DEFINITION: &str = "stile.yaml";
const RECORDS: &str = "records.jsonl";
const PATIENCE: Duration = Duration::from_secs(10);
