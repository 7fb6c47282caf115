//! The store, from raw to model: the kind that is asked for, and a file where none is named.

use std::path::PathBuf;
use std::time::Duration;

use super::gateway::existing;
use super::raw_store as raw;
use super::report::{Place, Report};
use crate::model::store::{
    Away, CacheSettings, EmbeddedSettings, RedisSettings, RedisTls, StoreKind, StoreLimits, StoreSettings,
};

/// The settings, and whether nobody named the file.
pub(super) fn convert(raw: raw::Store, place: &Place, report: &mut Report) -> Option<(StoreSettings, bool)> {
    for (name, is_set, kind) in [
        ("embedded", raw.embedded.is_some(), raw::StoreKind::Embedded),
        ("redis", raw.redis.is_some(), raw::StoreKind::Redis),
    ] {
        if is_set && raw.kind != kind {
            report.warn(&place.key(name), "is not used", format!("it belongs to `kind: {name}`"));
        }
    }
    let mut is_unnamed = false;
    let kind = match raw.kind {
        raw::StoreKind::Memory => StoreKind::Memory,
        raw::StoreKind::Embedded => {
            let raw = raw.embedded.unwrap_or_default();
            is_unnamed = raw.path.is_none();
            StoreKind::Embedded(embedded(raw, place))
        }
        raw::StoreKind::Redis => StoreKind::Redis(redis(raw.redis.unwrap_or_default(), &place.key("redis"), report)?),
    };
    let limits = StoreLimits {
        records_max: raw.records_max,
        plugin_sessions_max: part(
            raw.plugin_sessions_max,
            raw.records_max,
            ("plugin_sessions_max", "records_max"),
            place,
            report,
        ),
        record_bytes_max: raw.record_bytes_max,
        counters_max: raw.counters_max,
        plugin_counters_max: part(
            raw.plugin_counters_max,
            raw.counters_max,
            ("plugin_counters_max", "counters_max"),
            place,
            report,
        ),
        ..StoreLimits::default()
    };
    let cache = CacheSettings {
        entries_max: raw.cache.entries_max,
        negative_max: raw.cache.negative_max,
        age_max: Duration::from_millis(raw.cache.age_max_ms),
        negative_age_max: Duration::from_millis(raw.cache.negative_age_max_ms),
        away_age_max: Duration::from_millis(raw.cache.away_age_max_ms),
    };
    let away = match raw.away {
        raw::Away::Local => Away::Local,
        raw::Away::Allow => Away::Allow,
        raw::Away::Deny => Away::Deny,
    };
    Some((StoreSettings { kind, limits, cache, away }, is_unnamed))
}

/// A part of a limit; half of it where none is given. As much as the whole would leave operators nothing.
fn part(given: Option<usize>, whole: usize, (key, of): (&str, &str), place: &Place, report: &mut Report) -> usize {
    let part = given.unwrap_or_else(|| whole.div_ceil(2));
    if given.is_some_and(|part| part >= whole) && whole > 1 {
        let hint = format!("leave room for operators' keys: less than `{of}`, which is {whole}");
        report.error(&place.key(key), format!("{part} is all that `{of}` has"), hint);
    }
    part
}

fn embedded(raw: raw::Embedded, place: &Place) -> EmbeddedSettings {
    let named = raw.path.map(|path| place.resolve(&path));
    EmbeddedSettings {
        path: named.unwrap_or_else(|| beside(place)),
        batch_max: raw.batch_max,
        queue_max: raw.queue_max,
        quota_block: raw.quota_block,
        kv_write_interval: Duration::from_millis(raw.kv_write_interval_ms),
        cache_bytes: raw.cache_bytes,
        deadline: Duration::from_millis(raw.deadline_ms),
    }
}

/// The configuration file's name, so that two of one folder do not share keys.
fn beside(place: &Place) -> PathBuf {
    let name = place.file().file_stem().unwrap_or("stile".as_ref());
    let mut file = name.to_owned();
    file.push(".redb");
    place.resolve(STATE_FOLDER).join(file)
}

fn redis(raw: raw::Redis, place: &Place, report: &mut Report) -> Option<RedisSettings> {
    let mut addresses = Vec::new();
    for (index, text) in raw.addresses.iter().enumerate() {
        match address(text) {
            Some(address) => addresses.push(address),
            None => {
                let place = place.key("addresses").item(index);
                report.invalid(&place, text, "a host with a port", "", "such as `redis.example.com:6379`");
            }
        }
    }
    let mut is_good = addresses.len() == raw.addresses.len();
    if raw.addresses.len() > 1 && !raw.cluster {
        let hint = "set `cluster: true`, or name one address";
        report.error(&place.key("addresses"), "several addresses, but no cluster", hint);
        is_good = false;
    }
    if raw.cluster && raw.database != 0 {
        report.error(&place.key("database"), "a cluster has no database but 0", "remove it");
        is_good = false;
    }
    let backoff_max_ms = raw.backoff_max_ms.max(raw.backoff_min_ms);
    if backoff_max_ms != raw.backoff_max_ms {
        report.warn(&place.key("backoff_max_ms"), "is below `backoff_min_ms`, which is used", "raise it");
    }
    let tls = match raw.tls {
        Some(tls) => Some(self::tls(&tls, &place.key("tls"), report)?),
        None => None,
    };
    is_good.then(|| RedisSettings {
        addresses,
        cluster: raw.cluster,
        database: raw.database,
        username: raw.username,
        password: raw.password,
        tls,
        deadline: Duration::from_millis(raw.deadline_ms),
        failures_max: raw.failures_max,
        backoff_min: Duration::from_millis(raw.backoff_min_ms),
        backoff_max: Duration::from_millis(backoff_max_ms),
        ping_interval: Duration::from_millis(raw.ping_interval_ms),
        ..RedisSettings::default()
    })
}

fn address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_host = match bare {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(is_plain),
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    is_host.then(|| (bare.unwrap_or(host).to_owned(), port))
}

fn tls(raw: &raw::RedisTls, place: &Place, report: &mut Report) -> Option<RedisTls> {
    let mut file = |name: &str, path: &Option<String>, what: &str| match path {
        Some(path) => existing(path, &place.key(name), what, report).map(Some),
        None => Some(None),
    };
    let authority = file("ca_file", &raw.ca_file, "certificate authority");
    let certificate = file("certificate", &raw.certificate, "certificate");
    let key = file("key", &raw.key, "key");
    if raw.certificate.is_some() != raw.key.is_some() {
        report.error(place, "`certificate` and `key` go together", "name both or none");
        return None;
    }
    Some(RedisTls { authority: authority?, certificate: certificate?.zip(key?) })
}

/// Beside the configuration file.
const STATE_FOLDER: &str = "stile-data";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, u16)>) {
        assert_eq!(address(text), expected.map(|(host, port)| (host.to_owned(), port)), "{text}");
    }

    #[test]
    fn addresses_of_redis_are_hosts_with_ports() {
        check("127.0.0.1:6379", Some(("127.0.0.1", 6379)));
        check("redis-1.example.com:7000", Some(("redis-1.example.com", 7000)));
        check("[::1]:6379", Some(("::1", 6379)));
        for text in ["", "redis", "redis:", ":6379", "redis:0", "redis:70000", "::1:6379", "redis://a:1", "a b:1"] {
            check(text, None);
        }
    }
}
