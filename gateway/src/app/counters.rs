//! What the parts count themselves, on the metrics page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::admin::{Control, ControlNumbers};
use crate::analytics::Sink;
use crate::fetch::{self, Evicted, FetchNumbers, Fetcher};
use crate::live::Live;
use crate::live::reload::{ReloadNumbers, Reloader};
use crate::pipeline::plan::PluginSessions;
use crate::plugin::compile::CompileNumbers;
use crate::plugin::load::Loader;
use crate::plugin::pool::Counters;
use crate::server::ServerCounters;
use crate::store::kv::{KvLimit, KvNumbers};
use crate::store::{SessionCache, Store};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::ReaderKind::{self, Counter, Gauge};
use crate::upstream;

/// Has the page read the parts' counters whenever it is asked for.
pub(super) fn register(
    loader: &Loader,
    live: &Live,
    server: &Arc<ServerCounters>,
    upstreams: &Arc<upstream::Shared>,
    sink: &Sink,
) {
    let metrics = &loader.metrics;
    macro_rules! read {
        ($kind:ident $name:literal, $help:literal, $of:ident.$($value:tt)+) => {{
            let of = $of.clone();
            metrics.reader($name, $help, $kind, &[], move || number(of.$($value)+));
        }};
    }

    read!(Gauge "connections_open", "Connections of callers", server.totals().open);
    read!(Counter "connections_accepted", "Connections of callers so far", server.totals().accepted);
    read!(Counter "connections_refused", "Connections closed at once: `limits.connections_max`", server.totals().refused);
    read!(Counter "connections_aborted", "Connections cut off at the end of draining", server.totals().aborted);
    read!(Counter "connections_handed_on", "Connections handed to a worker that had far fewer", server.totals().handed_on);
    read!(Counter "connections_aged", "HTTP/2 connections asked to end because of their age", server.totals().aged);
    read!(Counter "accept_errors", "Sockets that could not be accepted, mostly for want of file descriptors", server.totals().accept_errors);
    read!(Counter "tls_handshake_failures", "TLS handshakes that failed", server.totals().handshake_failures);
    read!(Counter "tls_handshake_timeouts", "TLS handshakes that took longer than `limits.tls_handshake_timeout_ms`", server.totals().handshake_timeouts);
    read!(Counter "header_timeouts", "Connections closed because a head did not come in time", server.totals().header_timeouts);
    read!(Counter "idle_timeouts", "Connections closed because they were idle too long", server.totals().idle_timeouts);
    read!(Counter "write_timeouts", "Connections closed because the caller did not read its answer", server.totals().write_timeouts);
    read!(Counter "late_answers", "Answers over HTTP/2 given up, because the caller did not take them in time", server.totals().late_answers);
    read!(Counter "lingering_closes", "Connections read on after their last answer, because the caller was still sending", server.totals().lingering);
    read!(Counter "lingering_closes_cut", "Of these, closed before the caller was done", server.totals().lingering_cut);
    read!(Counter "heads_too_large", "Requests whose head was too long or had too many fields", server.totals().heads_too_large);
    read!(Counter "protocol_errors", "Requests and connections that broke the protocol", server.totals().protocol_errors);
    read!(Counter "requests_http1", "Requests over HTTP/1", server.totals().requests_http1);
    read!(Counter "requests_http2", "Requests over HTTP/2", server.totals().requests_http2);
    read!(Counter "http2_streams_full", "Times that an HTTP/2 connection had `limits.http2_streams_max` streams: its caller waits, or is refused another", server.totals().streams_full);
    read!(Counter "handler_panics", "Requests answered with 500 after a panic of the gateway", server.totals().panics);

    read!(Gauge "upstream_connections_open", "Connections to upstreams", upstreams.counters().open.load(Ordering::Relaxed));
    read!(Gauge "upstream_connections_idle", "Connections to upstreams without a request", upstreams.counters().idle.load(Ordering::Relaxed));
    read!(Counter "upstream_connections_opened", "Connections to upstreams so far", upstreams.counters().opened.load(Ordering::Relaxed));
    read!(Counter "upstream_connections_reused", "Requests on a connection that was there", upstreams.counters().reused.load(Ordering::Relaxed));
    read!(Counter "upstream_retries", "Requests sent again on a fresh connection", upstreams.counters().retries.load(Ordering::Relaxed));

    let engine = loader.engine.clone();
    read!(Gauge "plugin_slots", "Instances that there can be at one time", engine.slots_in_use().0);
    read!(Gauge "plugin_slots_in_use", "Instances that there are", engine.slots_in_use().1);
    let memory = loader.engine.memory().clone();
    read!(Gauge "plugin_memory_bytes", "Linear memory of all instances", memory.used());
    read!(Gauge "plugin_memory_bytes_max", "The budget of linear memory", memory.bytes_max());
    read!(Counter "plugin_memory_refused", "Growths refused because the budget was used up", memory.refused());
    if let Some(cache) = loader.cache.clone() {
        read!(Counter "compile_cache_hits", "Plugins that need not be compiled", cache.hits_and_misses().0);
        read!(Counter "compile_cache_misses", "Plugins that had to be compiled", cache.hits_and_misses().1);
        read!(Counter "compile_cache_evicted", "Compiled plugins that went to make room: `runtime.cache_bytes_max`", cache.evicted());
    }
    let compiler = loader.compiler.clone();
    read!(Gauge "compiles_running", "Plugins that are being compiled, and configurations that are being checked", compiler.numbers().running.load(Ordering::Relaxed));
    let stopped = |reason: &'static str, count: fn(&CompileNumbers) -> &AtomicU64| {
        let compiler = loader.compiler.clone();
        let read = move || number(count(compiler.numbers()).load(Ordering::Relaxed));
        metrics.reader(
            "compiles_stopped",
            "Plugins that were not compiled, and configurations that were not checked, by the limit",
            Counter,
            &[("limit", reason)],
            read,
        );
    };
    stopped("compile_time_max_ms", |numbers| &numbers.time);
    stopped("compile_memory_bytes_max", |numbers| &numbers.memory);
    stopped("compiled_bytes_max", |numbers| &numbers.compiled);
    stopped("none", |numbers| &numbers.broken);

    let sink = sink.counters().clone();
    read!(Counter "analytics_records_written", "Analytics records written", sink.written.load(Ordering::Relaxed));
    read!(Counter "analytics_records_queue_dropped", "Analytics records dropped: too many waited", sink.dropped.load(Ordering::Relaxed));
    read!(Counter "analytics_records_failed", "Analytics records that could not be written", sink.failed.load(Ordering::Relaxed));

    read!(Gauge "problems", "Plugins and APIs that are not in order", live.snapshot().problems.len());
    let pools = |count: fn(&Counters) -> &AtomicU64| {
        let instances = loader.instances.clone();
        move || number(count(&instances).load(Ordering::Relaxed))
    };
    metrics.reader("plugin_instances_made", "Instances made", Counter, &[], pools(|c| &c.made));
    metrics.reader(
        "plugin_instances_reused",
        "Calls on an instance that was there",
        Counter,
        &[],
        pools(|c| &c.reused),
    );
    metrics.reader(
        "plugin_instances_retired",
        "Instances retired by calls or memory",
        Counter,
        &[],
        pools(|c| &c.retired),
    );
    metrics.reader(
        "plugin_instances_discarded",
        "Instances thrown away after a failure",
        Counter,
        &[],
        pools(|c| &c.discarded),
    );
    metrics.reader(
        "plugin_cores_held",
        "Times that a plugin held a core for more than a millisecond in one piece",
        Counter,
        &[],
        pools(|c| &c.held),
    );
    let generations = loader.generations.clone();
    read!(Gauge "plugin_generations", "Loaded versions of plugins: those in use, and those whose last calls have not ended", generations.load(Ordering::Relaxed));
    let live = live.clone();
    let idle = move || number(live.snapshot().pools.iter().map(|pool| pool.idle()).sum::<usize>());
    metrics.reader("plugin_instances_idle", "Instances that wait for a call", Gauge, &[], idle);
}

/// What the store and the cache of sessions count.
pub(super) fn register_store(metrics: &Metrics, store: &Store, sessions: &SessionCache) {
    let of_store = |read: fn(&Store) -> u64| {
        let store = store.clone();
        move || number(read(&store))
    };
    type Count = (&'static str, &'static str, ReaderKind, fn(&Store) -> u64);
    let counts: [Count; 17] = [
        ("store_calls", "Calls of the store", Counter, |s| s.numbers().calls.load(Ordering::Relaxed)),
        ("store_away", "Calls without an answer: the store was away", Counter, |s| {
            s.numbers().away.load(Ordering::Relaxed)
        }),
        ("store_failed", "Calls that failed for another reason", Counter, |s| {
            s.numbers().failed.load(Ordering::Relaxed)
        }),
        ("store_full", "Of these for want of room: `store.records_max`, or a counter", Counter, |s| {
            s.numbers().full.load(Ordering::Relaxed)
        }),
        ("store_records_too_large", "Of these because of `store.record_bytes_max`", Counter, |s| {
            s.numbers().too_large.load(Ordering::Relaxed)
        }),
        ("store_counted_locally", "Requests counted in this process: the store was away", Counter, |s| {
            s.numbers().local.load(Ordering::Relaxed)
        }),
        ("store_circuit_opened", "Times that the store was given up until a probe succeeds", Counter, |s| {
            s.numbers().circuit_opened.load(Ordering::Relaxed)
        }),
        ("store_subscriptions_lost", "Times that changes were not heard", Counter, |s| {
            s.numbers().subscriptions_lost.load(Ordering::Relaxed)
        }),
        (
            "store_commits",
            "Commits of changes to the file, up to `store.embedded.batch_max` in each",
            Counter,
            Store::commits,
        ),
        ("limit_counters", "Counters of rates and quotas held in this process", Gauge, |s| {
            u64::try_from(s.counters_held()).unwrap_or(u64::MAX)
        }),
        (
            "limit_counters_refused",
            "Requests for which there was no room for a counter",
            Counter,
            Store::counters_refused,
        ),
        ("limit_counters_left", "Counters of quotas that left to make room and go on", Counter, Store::counters_left),
        ("limit_counters_read", "Counters of quotas looked for in the file", Counter, Store::counters_loaded),
        ("plugin_sessions", "Sessions that plugins made, in memory and in a file", Gauge, |s| {
            u64::try_from(s.sessions_made()).unwrap_or(u64::MAX)
        }),
        ("kv_bytes", "Bytes of plugins' values held in this process", Gauge, Store::kv_bytes),
        ("kv_unavailable", "Calls for plugins' values without an answer: the store was away", Counter, |s| {
            s.numbers().kv.unavailable.load(Ordering::Relaxed)
        }),
        ("kv_write_failures", "Times that plugins' values could not be written to the file", Counter, |s| {
            s.kv_writes_failed()
        }),
    ];
    for (name, help, kind, read) in counts {
        metrics.reader(name, help, kind, &[], of_store(read));
    }
    let refused = |limit: &'static str, count: fn(&KvNumbers) -> &AtomicU64| {
        let store = store.clone();
        let read = move || number(count(&store.numbers().kv).load(Ordering::Relaxed));
        metrics.reader("kv_refused", "Values of plugins refused, by limit", Counter, &[("limit", limit)], read);
    };
    refused("kv_key_bytes_max", |kv| &kv.keys_invalid);
    refused("kv_value_bytes_max", |kv| &kv.values_too_large);
    refused(KvLimit::Keys.as_str(), |kv| kv.full(KvLimit::Keys));
    refused(KvLimit::Bytes.as_str(), |kv| kv.full(KvLimit::Bytes));
    refused(KvLimit::AllBytes.as_str(), |kv| kv.full(KvLimit::AllBytes));
    refused(KvLimit::Server.as_str(), |kv| kv.full(KvLimit::Server));
    let of_cache = |read: fn(&SessionCache) -> u64| {
        let sessions = sessions.clone();
        move || number(read(&sessions))
    };
    type CacheCount = (&'static str, &'static str, ReaderKind, fn(&SessionCache) -> u64);
    let counts: [CacheCount; 5] = [
        ("session_cache_hits", "Sessions answered from memory", Counter, |c| c.numbers().hits.load(Ordering::Relaxed)),
        ("session_cache_reads", "Sessions read from the store", Counter, |c| c.numbers().reads.load(Ordering::Relaxed)),
        ("session_cache_evicted", "Sessions that went for want of room", Counter, |c| {
            c.numbers().evicted.load(Ordering::Relaxed)
        }),
        ("session_cache_entries", "Sessions in memory", Gauge, |c| u64::try_from(c.len().0).unwrap_or(u64::MAX)),
        ("session_cache_unknown", "Keys in memory that are known to have no session", Gauge, |c| {
            u64::try_from(c.len().1).unwrap_or(u64::MAX)
        }),
    ];
    for (name, help, kind, read) in counts {
        metrics.reader(name, help, kind, &[], of_cache(read));
    }
}

/// Has the page read what fetches of plugins came to, and what is kept of them.
pub(super) fn register_fetches(metrics: &Metrics, fetcher: &Fetcher) {
    let count = |outcome: &'static str, read: fn(&FetchNumbers) -> &AtomicU64| {
        let fetcher = fetcher.clone();
        let read = move || number(read(fetcher.numbers()).load(Ordering::Relaxed));
        metrics.reader("plugin_fetches", FETCHES, Counter, &[("outcome", outcome)], read);
    };
    count("fetched", |numbers| &numbers.fetched);
    count("unchanged", |numbers| &numbers.unchanged);
    count("kept", |numbers| &numbers.kept);
    for kind in fetch::Kind::ALL {
        let fetcher = fetcher.clone();
        let read = move || number(fetcher.numbers().failed(kind));
        metrics.reader("plugin_fetches", FETCHES, Counter, &[("outcome", kind.as_str())], read);
    }
    let retried = fetcher.clone();
    let help = "Fetches of plugins that were tried again, though nobody asked for it";
    let read = move || number(retried.numbers().retried.load(Ordering::Relaxed));
    metrics.reader("plugin_fetch_retries", help, Counter, &[], read);
    let kept = fetcher.clone();
    let help = "Bytes of fetched plugins that are kept";
    metrics.reader("fetch_cache_bytes", help, Gauge, &[], move || number(kept.kept().0));
    let evicted = |limit: &'static str, read: fn(Evicted) -> u64| {
        let fetcher = fetcher.clone();
        let help = "Fetched files that had to go, by the limit";
        let read = move || number(read(fetcher.kept().1));
        metrics.reader("fetch_cache_evicted", help, Counter, &[("limit", limit)], read);
    };
    evicted("cache_bytes_max", |evicted| evicted.bytes);
    evicted("cache_age_max_ms", |evicted| evicted.age);
}

const FETCHES: &str = "Plugins that are elsewhere, by what came of asking for them";

/// Has the page read what reloads came to.
pub(super) fn register_reloads(metrics: &Metrics, reloader: &Reloader) {
    type Count = fn(&ReloadNumbers) -> &AtomicU64;
    let results: [(&str, Count); 4] = [
        ("changed", |numbers| &numbers.changed),
        ("unchanged", |numbers| &numbers.unchanged),
        ("kept", |numbers| &numbers.kept),
        ("refused", |numbers| &numbers.refused),
    ];
    for (result, count) in results {
        let numbers = reloader.numbers.clone();
        let read = move || number(count(&numbers).load(Ordering::Relaxed));
        let help = "Reloads, by what came of them: `kept` where a part stays as it was, `refused` where all does";
        metrics.reader("reloads", help, Counter, &[("result", result)], read);
    }
    let numbers = reloader.numbers.clone();
    let read = move || number(numbers.good_ms.load(Ordering::Relaxed)) / 1000.0;
    metrics.reader(
        "reload_good_timestamp_seconds",
        "When the configuration was last taken up as a whole",
        Gauge,
        &[],
        read,
    );
}

/// What plugins' sessions take of the store, by API: those APIs that are served when the page is asked for.
pub(super) fn register_shares(metrics: &Metrics, live: &Live) {
    type Count = (&'static str, &'static str, ReaderKind, fn(&PluginSessions) -> u64);
    let counts: [Count; 7] = [
        ("plugin_sessions_evicted", "Sessions that left before their time: `auth.sessions_max`", Counter, |of| {
            of.share.numbers.evicted.load(Ordering::Relaxed)
        }),
        ("plugin_sessions_unkept", "Requests whose session was not kept", Counter, |of| {
            of.share.numbers.unkept.load(Ordering::Relaxed)
        }),
        ("plugin_counters_refused", "Requests refused for want of a counter", Counter, |of| {
            of.share.numbers.refused.load(Ordering::Relaxed)
        }),
        ("identities_asked", "IDs that the plugin is asked about now", Gauge, |of| {
            of.extraction.as_ref().map_or(0, |of| u64::try_from(of.asked().0).unwrap_or(u64::MAX))
        }),
        ("identities_waited_for", "Requests that wait for the answer about an ID", Gauge, |of| {
            of.extraction.as_ref().map_or(0, |of| u64::try_from(of.asked().1).unwrap_or(u64::MAX))
        }),
        ("identities_refused", "Refusals of IDs that are remembered", Gauge, |of| {
            of.extraction.as_ref().map_or(0, |of| u64::try_from(of.refused().0).unwrap_or(u64::MAX))
        }),
        ("identities_refused_evicted", "Refusals forgotten before their time: `refusals_max`", Counter, |of| {
            of.extraction.as_ref().map_or(0, |of| of.refused().1)
        }),
    ];
    for (name, help, kind, read) in counts {
        let live = live.clone();
        let read_all = move || {
            let snapshot = live.snapshot();
            let made = snapshot.plans.iter().filter_map(|plan| Some((plan.api.id.to_string(), plan.sessions_made()?)));
            made.map(|(api, sessions)| (api, number(read(sessions)))).collect()
        };
        metrics.reader_by(name, help, kind, "api", read_all);
    }
}

/// Has the page read what the control port counts.
pub(super) fn register_control(loader: &Loader, control: &Control) {
    type Count = fn(&ControlNumbers) -> &AtomicU64;
    let counts: [(&str, &str, Count); 4] = [
        ("control_changes", "Changes of keys and policies", |numbers| &numbers.changes),
        ("control_refused", "Requests for keys and policies without the secret", |numbers| &numbers.refused),
        ("control_connections_closed", "Connections above `control.connections_max`", |numbers| {
            &numbers.connections_closed
        }),
        ("control_bodies_too_large", "Requests above `control.body_bytes_max`", |numbers| &numbers.bodies_too_large),
    ];
    for (name, help, count) in counts {
        let numbers = control.numbers.clone();
        let read = move || number(count(&numbers).load(Ordering::Relaxed));
        loader.metrics.reader(name, help, Counter, &[], read);
    }
}

/// A count for a page that has only floating-point numbers.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, which no counter here reaches")]
fn number(count: impl TryInto<u64>) -> f64 {
    count.try_into().map_or(f64::NAN, |count| count as f64)
}
