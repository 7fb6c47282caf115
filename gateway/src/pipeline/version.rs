//! Versions of an API on the way: which one a request has, what it changes, and how the upstream is told.
//!
//! The version is found once, before any plugin. Whatever becomes of field, parameter or path afterwards, rights are looked
//! at for this version, and the upstream is told this one.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::exchange::{Exchange, Flow};
use super::plan::{Destination, PlanError};
use super::query::{self, Query};
use super::reject::Reject;
use crate::model::api::Api;
use crate::model::id::VersionName;
use crate::model::time;
use crate::model::version::{Version, VersionSource, Versions};
use crate::telemetry::metrics::{Metrics, VersionMetrics};
use crate::upstream::Target;

/// Finds the version of a request.
#[derive(Debug)]
pub struct VersionStep {
    place: Arc<VersionPlace>,
    default: Option<Arc<ServedVersion>>,
    list: Vec<Arc<ServedVersion>>,
}

/// Where a version stands in a request.
#[derive(Debug)]
struct VersionPlace {
    source: VersionSource,
    /// Whether it is taken off before the upstream.
    strip: bool,
}

/// A version, ready to be served.
#[derive(Debug)]
pub struct ServedVersion {
    name: VersionName,
    value: HeaderValue,
    place: Arc<VersionPlace>,
    /// Where its requests go, if not where the API's do.
    destination: Option<Destination>,
    expiry: Option<Expiry>,
    metrics: VersionMetrics,
}

/// When a version begins to be refused.
#[derive(Debug)]
struct Expiry {
    at_ms: u64,
    /// As HTTP writes times (RFC 9110, section 5.6.7).
    standard: HeaderValue,
    /// As Tyk does.
    tyk: HeaderValue,
}

impl VersionStep {
    /// Makes the versions of an API ready. `target` is the API's own, whose limits and settings they share.
    pub(super) fn new(
        versions: &Versions,
        api: &Api,
        target: &Arc<Target>,
        metrics: &Metrics,
    ) -> Result<Self, PlanError> {
        let place = Arc::new(VersionPlace { source: versions.source.clone(), strip: versions.strip });
        let serve = |version: &Version| {
            let destination = match &version.upstream {
                None => None,
                Some((origin, base_path)) => {
                    let target = Arc::new(target.beside(origin.clone())?);
                    Some(Destination::new(target, base_path)?)
                }
            };
            Ok::<_, PlanError>(Arc::new(ServedVersion {
                name: version.name.clone(),
                // A name has letters, digits and three signs only.
                value: HeaderValue::from_str(version.name.as_str()).unwrap_or_else(|_| HeaderValue::from_static("")),
                place: place.clone(),
                destination,
                expiry: version.expires_ms.and_then(Expiry::new),
                metrics: metrics.version(&api.id, &version.name),
            }))
        };
        let list = versions.list.iter().map(serve).collect::<Result<Vec<_>, _>>()?;
        let default = list.iter().find(|version| versions.default.as_ref() == Some(&version.name)).cloned();
        Ok(Self { place, default, list })
    }

    fn get(&self, name: &[u8]) -> Option<&Arc<ServedVersion>> {
        self.list.iter().find(|version| version.name.as_str().as_bytes() == name)
    }

    /// The version of this name, or of a request without one.
    fn named(&self, name: Option<&[u8]>) -> Result<&Arc<ServedVersion>, Reject> {
        match name.filter(|name| !name.is_empty()) {
            Some(name) => self.get(name).ok_or(Reject::VersionUnknown),
            None => self.default.as_ref().ok_or(Reject::VersionMissing),
        }
    }

    /// The version that a request asks for; one in the path is taken out of it.
    fn find(&self, exchange: &mut Exchange) -> Result<&Arc<ServedVersion>, Reject> {
        match &self.place.source {
            VersionSource::Header(name) => {
                let mut values = exchange.headers.get_all(name).iter();
                self.named(only(values.next(), values.next())?.map(HeaderValue::as_bytes))
            }
            VersionSource::Query(name) => {
                let mut values = query::values(exchange.query.as_deref(), name);
                self.named(only(values.next(), values.next())?.as_deref())
            }
            VersionSource::Path => {
                let below = exchange.path_below_listen_path();
                let (segment, rest) = first_segment(below);
                let Some(version) = self.get(segment.as_bytes()) else {
                    // A path without a version begins with whatever it likes.
                    let missing = if segment.is_empty() { Reject::VersionMissing } else { Reject::VersionUnknown };
                    return self.default.as_ref().ok_or(missing);
                };
                let listen = &exchange.plan.api.listen;
                let folder = if listen.strip { "" } else { listen.path.as_str().trim_end_matches('/') };
                exchange.path = format!("{folder}{rest}");
                Ok(version)
            }
        }
    }
}

/// Finds the version of a request; one without, of an unknown one or of one that has expired ends here.
pub fn choose(step: &VersionStep, exchange: &mut Exchange) -> Result<Flow, Reject> {
    let version = step.find(exchange)?.clone();
    version.metrics.asked();
    let has_expired = version.expiry.as_ref().is_some_and(|expiry| expiry.at_ms <= exchange.time_ms);
    exchange.api_version = Some(version);
    if has_expired { Err(Reject::VersionExpired) } else { Ok(Flow::Next) }
}

/// The one value; of two nobody knows which one an upstream would take.
fn only<T>(first: Option<T>, second: Option<T>) -> Result<Option<T>, Reject> {
    if second.is_some() { Err(Reject::VersionUnknown) } else { Ok(first) }
}

/// The first segment of a path, and what follows it, beginning with `/`.
fn first_segment(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    let end = path.find('/').unwrap_or(path.len());
    let (segment, rest) = path.split_at_checked(end).unwrap_or((path, ""));
    (segment, if rest.is_empty() { "/" } else { rest })
}

impl ServedVersion {
    /// Its name.
    pub fn name(&self) -> &VersionName {
        &self.name
    }

    /// Where its requests go, if not where the API's do.
    pub fn destination(&self) -> Option<&Destination> {
        self.destination.as_ref()
    }

    /// Tells an answer when the version expires.
    pub fn write_expiry(&self, headers: &mut HeaderMap) {
        if let Some(expiry) = &self.expiry {
            headers.insert(SUNSET, expiry.standard.clone());
            headers.insert(X_TYK_API_EXPIRES, expiry.tyk.clone());
        }
    }

    /// Tells the upstream by a header field, or takes it off.
    fn write_header(&self, headers: &mut HeaderMap) {
        if let VersionSource::Header(name) = &self.place.source {
            if self.place.strip {
                headers.remove(name);
            } else {
                headers.insert(name.clone(), self.value.clone());
            }
        }
    }
}

impl Expiry {
    /// `None` after the year 9999, which nobody lives to see.
    fn new(at_ms: u64) -> Option<Self> {
        let at = UNIX_EPOCH.checked_add(Duration::from_millis(at_ms)).filter(|_| at_ms <= YEAR_9999_MS)?;
        let standard = httpdate::fmt_http_date(at);
        let tyk = standard.replace("GMT", "UTC");
        Some(Self { at_ms, standard: HeaderValue::from_str(&standard).ok()?, tyk: HeaderValue::from_str(&tyk).ok()? })
    }
}

impl Exchange {
    /// The version's name; empty where the API has none, or the request named none of them.
    pub fn version_name(&self) -> &str {
        self.api_version.as_ref().map_or("", |version| version.name.as_str())
    }

    /// The path with the version in its place, if that is the path.
    pub fn path_with_version(&self) -> Cow<'_, str> {
        let Some(version) = self.api_version.as_ref().filter(|version| version.place.source == VersionSource::Path)
        else {
            return Cow::Borrowed(&self.path);
        };
        let (name, listen) = (&version.name, &self.plan.api.listen);
        // Where the listen path is still on. A plugin may have chosen a path that is not below it.
        let below = listen.path.strip(&self.path).filter(|_| !listen.strip);
        Cow::Owned(match below {
            Some(below) => format!("{}/{name}{below}", listen.path.as_str().trim_end_matches('/')),
            None => format!("/{name}{}", self.path),
        })
    }

    /// The path that the upstream is asked for, before its base path.
    pub fn path_sent(&self) -> Cow<'_, str> {
        match &self.api_version {
            Some(version) if !version.place.strip => self.path_with_version(),
            _ => Cow::Borrowed(&self.path),
        }
    }

    /// The query that the upstream gets.
    pub fn query_sent(&self) -> Result<Option<Cow<'_, str>>, Reject> {
        let query = self.query.as_deref();
        let unchanged = query.map(Cow::Borrowed);
        let Some(version) = &self.api_version else { return Ok(unchanged) };
        let VersionSource::Query(name) = &version.place.source else { return Ok(unchanged) };
        if version.place.strip {
            return Ok(query::without(query, name).map(Cow::Owned));
        }
        // Mostly as it came: its bytes stay.
        if query::values(query, name).eq([version.name.as_str().as_bytes()]) {
            return Ok(unchanged);
        }
        let set = Query::parse(query).and_then(|mut query| {
            query.set(name, version.name.as_str())?;
            Ok(query.into_text())
        });
        set.map(|query| query.map(Cow::Owned)).map_err(|_| Reject::RequestInvalid("query"))
    }

    /// Header fields of the version on the way to the upstream.
    pub fn write_version(&self, headers: &mut HeaderMap) {
        if let Some(version) = &self.api_version {
            version.write_header(headers);
        }
    }
}

impl fmt::Display for VersionStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version in {}", self.place.source)?;
        if let Some(default) = &self.default {
            write!(f, ", `{}` where there is none", default.name)?;
        }
        if self.place.strip {
            f.write_str(", taken off")?;
        }
        for (index, version) in self.list.iter().enumerate() {
            write!(f, "{} `{}`", if index == 0 { ":" } else { "," }, version.name)?;
            if let Some(Destination { target, base_path, .. }) = &version.destination {
                write!(f, " at {}{base_path}", target.origin())?;
            }
            if let Some(at_ms) = version.expiry.as_ref().and_then(|expiry| i64::try_from(expiry.at_ms).ok()) {
                write!(f, " until {}", time::text(at_ms))?;
            }
        }
        Ok(())
    }
}

const YEAR_9999_MS: u64 = 253_402_300_799_999;
/// RFC 8594.
const SUNSET: HeaderName = HeaderName::from_static("sunset");
const X_TYK_API_EXPIRES: HeaderName = HeaderName::from_static("x-tyk-api-expires");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_segment_of_a_path_is_taken_off() {
        let check = |path, segment, rest| assert_eq!(first_segment(path), (segment, rest), "{path}");
        check("/", "", "/");
        check("/v1", "v1", "/");
        check("/v1/", "v1", "/");
        check("/v1/a/b", "v1", "/a/b");
        check("*", "*", "/");
    }

    #[test]
    fn an_expiry_is_told_as_http_and_as_tyk_write_times() {
        let expiry = Expiry::new(1_798_761_600_000).expect("a time");
        assert_eq!(expiry.standard, "Fri, 01 Jan 2027 00:00:00 GMT");
        assert_eq!(expiry.tyk, "Fri, 01 Jan 2027 00:00:00 UTC");
        assert!(Expiry::new(u64::MAX).is_none());
    }
}
