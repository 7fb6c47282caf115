//! The gateway's own settings, from raw to model.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use super::report::{Place, Report};
use super::{Environment, fetch, outgoing, raw, rules, store};
use crate::model::gateway::{
    AccessLog, AnalyticsSink, AnalyticsTarget, Control, Gateway, Listener, ListenerTls, Log, LogFormat, Reload,
    Runtime, ServerLimits,
};
use crate::model::plugin::Capability;

/// Converts all but plugins and APIs, which stay empty.
pub(super) fn convert(
    raw: raw::File,
    environment: Environment<'_>,
    root: &Place,
    report: &mut Report,
) -> Option<Gateway> {
    let mut addresses = Vec::new();
    let listeners = listeners(raw.listen, &root.key("listen"), &mut addresses, report);
    let (control_address, control) = control(raw.control, &root.key("control"), report);
    rules::addresses(&addresses, control_address, root, report);
    let trusted_proxies = networks(&raw.trusted_proxies, &root.key("trusted_proxies"), report);
    let log = log(raw.log, &root.key("log"), report);
    let fetch_place = root.key("fetch");
    let accounts = fetch::accounts(&raw.fetch.accounts, environment, &fetch_place.key("accounts"), report);
    let fetch = fetch::convert(&raw.fetch, &fetch_place, report);
    let analytics = sink(raw.analytics, &root.key("analytics"), report);
    let kv_bytes_max = raw.runtime.kv_bytes_max;
    let runtime = runtime(raw.runtime, root, report);
    let (mut store, store_is_unnamed) = store::convert(raw.store, &root.key("store"), report)?;
    store.limits.kv_bytes_max = kv_bytes_max;
    Some(Gateway {
        sources: Vec::new(),
        reload: reload(&raw.reload),
        listeners: listeners?,
        control: control?,
        store,
        store_is_unnamed,
        workers: raw.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        trusted_proxies: trusted_proxies?,
        limits: limits(&raw.limits),
        runtime: runtime?,
        fetch: fetch?,
        accounts: accounts?,
        log: log?,
        analytics: analytics?,
        plugins: Vec::new(),
        apis: Vec::new(),
        policies: Vec::new(),
    })
}

fn reload(raw: &raw::Reload) -> Reload {
    let (settle, poll) = (Duration::from_millis(raw.settle_ms), Duration::from_millis(raw.poll_ms));
    Reload { watch: raw.watch, settle, poll }
}

/// The listeners; also the address of each that has one, so that they can be compared.
fn listeners(
    raw: Vec<raw::Listener>,
    place: &Place,
    addresses: &mut Vec<(Place, SocketAddr)>,
    report: &mut Report,
) -> Option<Vec<Listener>> {
    if raw.is_empty() {
        let listener = Listener { address: SocketAddr::from(([127, 0, 0, 1], 8080)), tls: None };
        // Where all of them are broken, the default is not meant.
        addresses.extend(place.is_whole().then(|| (place.clone(), listener.address)));
        return Some(vec![listener]);
    }
    let all: Vec<Option<Listener>> = raw
        .into_iter()
        .enumerate()
        .map(|(index, raw)| {
            let place = place.item(index);
            let address = address(&raw.address, &place.key("address"), report);
            addresses.extend(address.map(|address| (place.clone(), address)));
            let tls = raw.tls.map(|tls| {
                let place = place.key("tls");
                let certificate = existing(&tls.certificate, &place.key("certificate"), "certificate", report);
                let key = existing(&tls.key, &place.key("key"), "key", report);
                Some(ListenerTls { certificate: certificate?, key: key? })
            });
            let tls = match tls {
                Some(tls) => Some(tls?),
                None => None,
            };
            Some(Listener { address: address?, tls })
        })
        .collect();
    all.into_iter().collect()
}

/// The control port, and its address even where something else of it is wrong.
fn control(raw: raw::Control, place: &Place, report: &mut Report) -> (Option<SocketAddr>, Option<Control>) {
    let address = address(&raw.address, &place.key("address"), report);
    // The secret itself is in no text.
    let is_secret = |secret: &String| {
        (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) && secret.bytes().all(|b| b.is_ascii_graphic())
    };
    if raw.secret.as_ref().is_some_and(|secret| !is_secret(secret)) {
        let message = format!("is not {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} visible ASCII characters");
        report.error(&place.key("secret"), message, "make one with `openssl rand -hex 32`");
        return (address, None);
    }
    let control = address.map(|address| Control {
        address,
        secret: raw.secret,
        allow_master_keys: raw.allow_master_keys,
        body_bytes_max: raw.body_bytes_max,
        connections_max: raw.connections_max,
    });
    (address, control)
}

fn address(text: &str, place: &Place, report: &mut Report) -> Option<SocketAddr> {
    text.parse()
        .map_err(|_| {
            report.invalid(place, text, "an IP address with a port", "", "such as `127.0.0.1:8080`, `[::1]:8080`")
        })
        .ok()
}

fn networks(texts: &[String], place: &Place, report: &mut Report) -> Option<Vec<IpNet>> {
    let mut networks = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let place = place.item(index);
        match text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from)) {
            Ok(network) => {
                if network.prefix_len() == 0 {
                    report.warn(&place, "every caller can make up its address", "list the proxies' own networks");
                }
                networks.push(network.trunc());
            }
            Err(_) => report.invalid(&place, text, "a network", "", "such as `10.0.0.0/8` or `fd00::/8`"),
        }
    }
    (networks.len() == texts.len()).then_some(networks)
}

fn limits(raw: &raw::ServerLimits) -> ServerLimits {
    ServerLimits {
        connections_max: raw.connections_max,
        header_bytes_max: raw.header_bytes_max,
        header_count_max: raw.header_count_max,
        header_timeout: Duration::from_millis(raw.header_timeout_ms),
        idle_timeout: Duration::from_millis(raw.idle_timeout_ms),
        tls_handshake_timeout: Duration::from_millis(raw.tls_handshake_timeout_ms),
        http2_streams_max: raw.http2_streams_max,
        http2_connection_age_max: Duration::from_millis(raw.http2_connection_age_max_ms),
        linger_timeout: Duration::from_millis(raw.linger_timeout_ms),
        linger_time_max: Duration::from_millis(raw.linger_time_max_ms),
        linger_bytes_max: raw.linger_bytes_max,
        drain_timeout: Duration::from_millis(raw.drain_timeout_ms),
    }
}

fn runtime(raw: raw::Runtime, root: &Place, report: &mut Report) -> Option<Runtime> {
    let here = root.key("runtime");
    let mut places = |raw: &Option<Vec<_>>, key| match raw {
        Some(raw) => outgoing::destinations(raw, &here.key(key), report).map(Some),
        None => Some(None),
    };
    let outgoing_http_max = places(&raw.outgoing_http_max, "outgoing_http_max");
    let upstream_max = places(&raw.upstream_max, "upstream_max");
    let apis_max = match &raw.apis_max {
        Some(ids) => Some(outgoing::api_ids(ids, &here.key("apis_max"), report)?),
        None => None,
    };
    let grants_max =
        raw.grants_max.map(|grants| Capability::granted(grants.iter().filter_map(|g| Capability::parse(&g.0))));
    Some(Runtime {
        instances_max: raw.instances_max,
        memory_bytes_max: raw.memory_bytes_max,
        plugin_share_percent: raw.plugin_share_percent,
        instance_memory_bytes_max: raw.instance_memory_bytes_max,
        keep_resident_bytes: raw.keep_resident_bytes,
        cache_dir: raw.cache_dir.map(|dir| root.resolve(&dir)),
        cache_bytes_max: raw.cache_bytes_max,
        tick: Duration::from_micros(raw.tick_us),
        compile_slots: raw.compile_slots,
        compile_threads: raw.compile_threads,
        grants_max,
        outgoing_http_max: outgoing_http_max?,
        upstream_max: upstream_max?,
        apis_max,
        api_depth_max: raw.api_depth_max,
    })
}

fn log(raw: raw::Log, place: &Place, report: &mut Report) -> Option<Log> {
    let filter = tracing_subscriber::EnvFilter::builder().parse(&raw.filter);
    if let Err(error) = filter {
        let hint = "such as `info` or `info,stile::plugin=debug`";
        report.invalid(&place.key("filter"), &raw.filter, "a log filter", error, hint);
        return None;
    }
    Some(Log {
        format: match raw.format {
            raw::LogFormat::Auto => LogFormat::Auto,
            raw::LogFormat::Text => LogFormat::Text,
            raw::LogFormat::Json => LogFormat::Json,
        },
        filter: raw.filter,
        access: match raw.access {
            raw::AccessLog::Off => AccessLog::Off,
            raw::AccessLog::Errors => AccessLog::Errors,
            raw::AccessLog::All => AccessLog::All,
        },
    })
}

fn sink(raw: raw::AnalyticsSink, place: &Place, report: &mut Report) -> Option<AnalyticsSink> {
    let target = match (raw.target, &raw.file) {
        (raw::AnalyticsTarget::Off, _) => AnalyticsTarget::Off,
        (raw::AnalyticsTarget::Log, _) => AnalyticsTarget::Log,
        (raw::AnalyticsTarget::File, Some(file)) => AnalyticsTarget::File(place.resolve(file)),
        (raw::AnalyticsTarget::File, None) => {
            report.error(place, "`target: file` needs `file`", "such as `file: records.jsonl`");
            return None;
        }
    };
    if raw.file.is_some() && raw.target != raw::AnalyticsTarget::File {
        report.warn(&place.key("file"), "is not used", "it belongs to `target: file`");
    }
    Some(AnalyticsSink { target, queue_max: raw.queue_max, batch_max: raw.batch_max })
}

/// The absolute path of a file that must be there.
pub(super) fn existing(text: &str, place: &Place, what: &str, report: &mut Report) -> Option<PathBuf> {
    let path = place.resolve(text);
    if path.is_file() {
        return Some(path);
    }
    let problem = if path.exists() { "is not a file" } else { "is not there" };
    report.error(
        place,
        format!("the {what} {} {problem}", place.shown(&tidy(&path))),
        "relative paths begin at the folder of the file that they stand in",
    );
    None
}

/// A path without `.` and, where it exists, without `..`.
fn tidy(path: &Path) -> String {
    path.components().collect::<PathBuf>().display().to_string()
}

const SECRET_BYTES_MIN: usize = 8;
const SECRET_BYTES_MAX: usize = 256;
