//! The versions of an API, from raw to model.

use crate::clock::Clock;
use crate::message::hop::is_connection_field;
use crate::model::id::VersionName;
use crate::model::time;
use crate::model::version::{Version, VersionSource, Versions};
use crate::spec::native::api::target;
use crate::spec::native::near::closest;
use crate::spec::native::raw_versions::{self as raw, VersionFrom};
use crate::spec::native::report::{Place, Report};
use crate::spec::native::validate::listed;

/// Converts the versions of an API; `None` where they have a problem.
pub(super) fn convert(raw: raw::Versions, place: &Place, report: &mut Report) -> Option<Versions> {
    let source = source(raw.from, raw.name.as_deref(), place, report);
    let list_place = place.key("list");
    let count = raw.list.len();
    // As they are written: what is wrong with one does not make it another one.
    let mut names: Vec<String> = Vec::new();
    let mut are_known = !list_place.has_lost_items();
    let mut list: Vec<Version> = Vec::new();
    for (index, raw) in raw.list.into_iter().enumerate() {
        let place = list_place.item(index);
        let (raw, name_place) = match raw {
            raw::Version::Name(name) => (raw::FullVersion { name, url: None, expires: None }, place.clone()),
            raw::Version::Full(full) => (full, place.key("name")),
        };
        are_known &= name_place.is_sound();
        names.push(raw.name.clone());
        let Some(version) = version(raw, &name_place, &place, report) else { continue };
        let shown = place.shown(version.name.as_str());
        match list.iter().find(|of| of.name.as_str().eq_ignore_ascii_case(version.name.as_str())) {
            None => list.push(version),
            Some(other) if other.name == version.name => {
                report.error(&place, format!("{shown} is listed twice"), "remove one of them");
            }
            Some(_) => {
                let message = format!("{shown} differs from another one by letter case only");
                report.error(&place, message, "rename one: callers would take the one for the other");
            }
        }
    }
    if count == 0 {
        report.error(&list_place, "is empty: every request would be refused", "such as `[v1, v2]`");
    }
    if let Some(name) = &raw.default
        && are_known
        && count > 0
        && !names.contains(name)
    {
        let place = place.key("default");
        let names = || list.iter().map(|version| version.name.as_str());
        let hint = match closest(name, names()) {
            _ if list_place.has_secrets() || list.is_empty() => "one of `list`".to_owned(),
            Some(near) => format!("did you mean `{near}`? Listed are {}", listed(names())),
            None => format!("listed are {}", listed(names())),
        };
        report.error(&place, format!("there is no version {}", place.shown(name)), hint);
        return None;
    }
    let default = match raw.default {
        None => None,
        Some(name) => Some(list.iter().find(|version| version.name.as_str() == name)?.name.clone()),
    };
    let is_good = list.len() == count && count > 0;
    Some(Versions { source: source?, default, strip: raw.strip, list }).filter(|_| is_good)
}

fn source(from: VersionFrom, name: Option<&str>, place: &Place, report: &mut Report) -> Option<VersionSource> {
    let name_place = place.key("name");
    match (from, name) {
        (VersionFrom::Path, None) => Some(VersionSource::Path),
        (VersionFrom::Path, Some(_)) => {
            report.error(&name_place, "is not used with `from: path`", "remove it");
            None
        }
        (VersionFrom::Header | VersionFrom::Query, None) => {
            report.error(place, "`name` is missing", "the header field or query parameter that holds the version");
            None
        }
        (VersionFrom::Query, Some("")) => {
            report.error(&name_place, "is empty", "such as `version`");
            None
        }
        (VersionFrom::Query, Some(name)) => Some(VersionSource::Query(name.to_owned())),
        (VersionFrom::Header, Some(text)) => match http::HeaderName::from_bytes(text.as_bytes()) {
            Ok(name) if is_gateways_own(&name) => {
                let message = format!("{} is a field that the gateway writes itself", name_place.shown(text));
                report.error(&name_place, message, "such as `x-api-version`");
                None
            }
            Ok(name) => Some(VersionSource::Header(name)),
            Err(_) => {
                report.invalid(&name_place, text, "a header field's name", "", "such as `x-api-version`");
                None
            }
        },
    }
}

fn is_gateways_own(name: &http::HeaderName) -> bool {
    is_connection_field(name) || name == "x-request-id" || name.as_str().starts_with("x-forwarded-")
}

fn version(raw: raw::FullVersion, name_place: &Place, place: &Place, report: &mut Report) -> Option<Version> {
    // Dots alone are no segment of a path.
    let name = VersionName::parse(&raw.name).ok().filter(|name| !matches!(name.as_str(), "." | ".."));
    if name.is_none() {
        let hint = "1 to 128 letters, digits, `-`, `_` or `.`, such as `v1`";
        report.invalid(name_place, &raw.name, "a version's name", "", hint);
    }
    let upstream = match &raw.url {
        None => Some(None),
        Some(url) => target::url(url, &place.key("url"), report).map(Some),
    };
    let expires_ms = match &raw.expires {
        None => Some(None),
        Some(text) => expiry(text, &place.key("expires"), report).map(Some),
    };
    Some(Version { name: name?, upstream: upstream?, expires_ms: expires_ms? })
}

fn expiry(text: &str, place: &Place, report: &mut Report) -> Option<u64> {
    let Some(at) = time::parse(text).and_then(|ms| u64::try_from(ms).ok()) else {
        report.invalid(place, text, "a time", "", "such as `2027-01-01T00:00:00Z`");
        return None;
    };
    if at <= Clock::system().now_ms() {
        report.warn(place, "is over: every request of the version is refused", "remove the version when nobody asks");
    }
    Some(at)
}
