use std::sync::Arc; use std::time::{Duration, Instant};
use stile::{plugin::{*, engine::Engine, machine::Machine, load::*, pool::Worker, lane::SlowLane, verdict::*}, model::{*, plugin::*, id::*}, clock::Clock, store::kv::Kv, telemetry::metrics::Metrics};
fn main() {
    let machine = Machine::read(); println!("{machine}");
    let (engine, choice) = Engine::new(&Default::default(), &machine).unwrap(); println!("{choice:?}");
    let loader = Loader { engine, cache: None, kv: Kv::new(Clock::system(), 1<<20), metrics: Metrics::new(), workers: 1 };
    let file = std::env::args().nth(1).unwrap();
    let isolation = if std::env::args().nth(2).as_deref() == Some("reuse") { Isolation::Reuse { calls_max: 1_000_000_000, memory_high_water_bytes: 1<<30 } } else { Isolation::Request };
    let spec = PluginSpec { name: PluginName::parse("p").unwrap(), file: file.into(), grants: vec![Capability::Log], isolation, limits: Default::default() };
    let t = Instant::now();
    let generation = loader.load(&spec).unwrap_or_else(|e| panic!("{e}"));
    println!("loaded in {:?}: {:#?} imports {:?}", t.elapsed(), generation.description, generation.imports);
    let api = Arc::new(ApiFacts { id: ApiId::parse("a").unwrap(), name: "A".into(), organisation: "o".into(), listen_path: stile::model::path::ListenPath::parse("/a/").unwrap(), variables: vec![] });
    let hook_use = stile::model::api::HookUse { plugin: spec.name.clone(), function: None, config: serde_json::Value::Null, on_failure: OnFailure::Reject };
    let mut pools = vec![];
    let u = loader.prepare(&generation, &api, Hook::Pre, &hook_use, &mut pools).unwrap_or_else(|e| panic!("{e}"));
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let worker = Worker { index: 0, lane: SlowLane::new() };
        let headers = http::HeaderMap::from_iter([(http::header::HOST, http::HeaderValue::from_static("x")), (http::header::USER_AGENT, http::HeaderValue::from_static("curl")), (http::header::ACCEPT, http::HeaderValue::from_static("*/*"))]);
        let vars = vec![];
        let n = 200_000u32;
        for round in 0..3 {
        let t = Instant::now();
        for i in 0..n {
            let facts = Facts { time_ms: 0, is_https: false, client: [127,0,0,1].into(), request_id: "id", api_version: "", endpoint: None, host: "h", vars: &vars };
            let view = RequestView { method: &http::Method::GET, path: "/a", query: None, headers: &headers, body: None };
            let o = u.pre(&worker, facts, view).await;
            if i == 0 && round == 0 { println!("{:?} {:?}", o.verdict, o.usage); }
        }
        println!("{:?} a call", t.elapsed() / n);
        }
    });
    let _ = Duration::ZERO;
}
