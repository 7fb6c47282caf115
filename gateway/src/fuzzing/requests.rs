//! Parts of requests: paths, queries, bodies, IDs, and the places where plugins send theirs.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::message::coding::Decoder;
use crate::model::api::Listen;
use crate::model::extractor::{ExtractorSettings, IdSource, JsonPointer, Pattern, Reading};
use crate::model::outgoing::{Destination, Site};
use crate::model::path::{self, ListenPath, PathTemplate};
use crate::model::pattern;
use crate::model::xpath::XPath;
use crate::pipeline::extract::{Extractor, Input};
use crate::pipeline::query::{self, Query};
use crate::router::Router;

/// A path, a host, a pattern, a template, and then listen paths, with a host before them or without: a line each.
pub fn path(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let [raw, host, pattern, template] = [(); 4].map(|()| lines.next().unwrap_or_default());
    let Ok(canonical) = path::canonical(raw) else { return };
    assert_eq!(path::canonical(&canonical).as_deref(), Ok(&*canonical), "{raw:?}");
    assert!(canonical.starts_with('/') && !canonical.contains("//") && !canonical.contains("/../"), "{canonical:?}");
    assert!(canonical.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'), "{canonical:?}");
    let hidden = ["%2f", "%2F", "%5c", "%5C", "%00", "%2E", "%2e"];
    assert!(hidden.iter().all(|escape| !canonical.contains(escape)), "{canonical:?}");

    if let Ok(regex) = pattern::compile(pattern)
        && pattern::is_plain(pattern)
    {
        assert_eq!(regex.is_match(canonical.as_bytes()), canonical.starts_with(pattern), "{pattern:?} {canonical:?}");
    }
    if let Ok(template) = PathTemplate::parse(template) {
        let with_slash = format!("{}/", canonical.trim_end_matches('/'));
        assert_eq!(template.matches(&canonical), template.matches(&with_slash), "{template} {canonical:?}");
    }
    routed(host, &canonical, lines);
}

/// The table and a plain search find the same.
fn routed<'t>(host: &str, path: &str, lines: impl Iterator<Item = &'t str>) {
    let mut listens: Vec<Listen> = Vec::new();
    for line in lines.take(20) {
        let (hosts, path) = line.split_once('/').map_or((line, ""), |(hosts, path)| (hosts, path));
        let Ok(path) = ListenPath::parse(&format!("/{path}")) else { continue };
        let hosts = hosts.split_whitespace().map(str::to_lowercase).collect();
        listens.push(Listen { path, hosts, strip: true });
    }
    let Ok(router) = Router::new(listens.iter().zip(0..)) else { return };
    let is_any = listens.iter().all(|listen| listen.hosts.is_empty());
    let found = router.find(host, path);
    if let Some((index, rest)) = found {
        let listen = listens.get(*index).expect("one of them");
        assert_eq!(listen.path.strip(path), Some(rest), "{listen:?} {path:?}");
    }
    if is_any {
        let below = listens.iter().enumerate().filter(|(_, listen)| listen.path.strip(path).is_some());
        let longest = below.max_by_key(|(_, listen)| listen.path.as_str().len());
        assert_eq!(found.map(|(index, _)| *index), longest.map(|(index, _)| index), "{path:?}");
    }
}

/// A query, and then a name and a value: a line each.
pub fn query(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let [query, name, value] = [(); 3].map(|()| lines.next().unwrap_or_default());
    let Ok(parsed) = Query::parse(Some(query)) else { return };
    let others = |text: Option<&str>| query::without(text, name);
    let before = others(Some(query));
    let edited = |edit: &dyn Fn(&mut Query)| {
        let mut parsed = Query::parse(Some(query)).expect("it was parsed before");
        edit(&mut parsed);
        parsed.into_text()
    };
    assert_eq!(edited(&|query| query.remove(name)), before, "{query:?} {name:?}");
    let mut set = parsed;
    if set.set(name, value).is_ok() {
        let set = set.into_text();
        let values: Vec<Vec<u8>> = query::values(set.as_deref(), name).collect();
        assert_eq!(values, [value.as_bytes()], "{set:?}");
        assert_eq!(others(set.as_deref()), before, "{set:?}");
        assert!(set.is_some_and(|set| !set.contains(['\n', ' ', '#']) || query.contains([' ', '#'])));
    }
    let count = query::values(Some(query), name).count();
    let mut appended = Query::parse(Some(query)).expect("it was parsed before");
    if appended.append(name, value).is_ok() {
        let appended = appended.into_text();
        assert_eq!(query::values(appended.as_deref(), name).count(), count + 1);
        assert_eq!(query::values(appended.as_deref(), name).last().as_deref(), Some(value.as_bytes()));
    }
}

/// A value of `content-encoding` on the first line, and the body after it.
pub fn coding(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (coding, body) = bytes.split_at(end);
    let Ok(coding) = HeaderValue::from_bytes(coding) else { return };
    let headers: HeaderMap = [(header::CONTENT_ENCODING, coding)].into_iter().collect();
    let body = body.strip_prefix(b"\n").unwrap_or_default();
    // As it comes in pieces, so it comes at once.
    let decoded = |piece_bytes: usize| {
        let mut decoder = Decoder::for_headers(&headers, BODY_BYTES_MAX).ok()??;
        for piece in body.chunks(piece_bytes.max(1)) {
            decoder.push(piece).ok()?;
        }
        decoder.finish().ok()
    };
    let whole = decoded(body.len());
    assert!(whole.as_ref().is_none_or(|plain| u64::try_from(plain.len()).is_ok_and(|bytes| bytes <= BODY_BYTES_MAX)));
    assert_eq!(decoded(7), whole);
}

/// Where the ID stands, a name, how it is read, and an expression: a line each. After them what it is read from.
pub fn extract(bytes: &[u8]) {
    let mut lines = bytes.splitn(5, |byte| *byte == b'\n');
    let head = [(); 4].map(|()| String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned());
    let [source, name, reading, expression] = head;
    let text = lines.next().unwrap_or_default();
    let source = match source.as_str() {
        "header" => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => IdSource::Header(name),
            Err(_) => return,
        },
        "form" => IdSource::Form(name),
        "query" => IdSource::Query(name),
        "cookie" => IdSource::Cookie(name),
        _ => IdSource::Body,
    };
    let reading = match reading.as_str() {
        "regex" => Pattern::new(&expression, 0).ok().map(Reading::Regex),
        "xpath" => XPath::parse(&expression).ok().map(Reading::XPath),
        "json" => JsonPointer::parse(&expression).ok().map(Reading::JsonPointer),
        _ => Some(Reading::Value),
    };
    let Some(settings) = reading.and_then(|reading| ExtractorSettings::new(source.clone(), reading).ok()) else {
        return;
    };
    let mut headers = HeaderMap::new();
    let name = match &source {
        IdSource::Header(name) => name.clone(),
        IdSource::Cookie(_) => header::COOKIE,
        _ => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            header::CONTENT_TYPE
        }
    };
    if let (Ok(value), IdSource::Header(_) | IdSource::Cookie(_)) = (HeaderValue::from_bytes(text), &source) {
        headers.insert(name, value);
    }
    let extractor = Extractor::new(settings);
    let query = std::str::from_utf8(text).ok();
    let input = Input { headers: &headers, query, body: Some(text) };
    if let Ok(id) = extractor.extract(input) {
        assert!(!id.as_bytes().trim_ascii().is_empty());
        let again = extractor.extract(input).expect("it was found before");
        assert_eq!(again.as_bytes(), id.as_bytes());
    }
}

/// Two entries of a list of places, and the authority that a guest names: a line each.
pub fn outgoing(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let [one, other, authority] = [(); 3].map(|()| lines.next().unwrap_or_default());
    let [one, other] = [one, other].map(|text| Destination::parse(text, false).ok());
    let sites = [true, false].map(|tls| Site::parse(tls, authority).ok());
    for destination in [&one, &other].into_iter().flatten() {
        let shown = destination.to_string();
        assert_eq!(Destination::parse(&shown, false).as_ref(), Ok(destination), "{shown}");
    }
    for site in sites.iter().flatten() {
        let origin = site.origin();
        assert!(origin.host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/@?#\\%".contains(&byte)), "{origin:?}");
        if let (Some(one), Some(other)) = (&one, &other) {
            assert!(!(one.covers(other) && other.admits(site)) || one.admits(site), "{one} {other} {site:?}");
        }
    }
}

const BODY_BYTES_MAX: u64 = 100_000;
