//! Where an API sends requests, from raw to model.

use std::time::Duration;

use crate::model::api::{Origin, Upstream, UpstreamProtocol, UpstreamTls};
use crate::model::path::canonical;
use crate::spec::native::gateway::existing;
use crate::spec::native::raw_api::{self as raw, Protocol};
use crate::spec::native::report::{Place, Report};

/// Converts an upstream. `others_speak_tls`: its settings of TLS are used for other targets too.
pub(super) fn convert(
    raw: raw::Upstream,
    others_speak_tls: bool,
    place: &Place,
    report: &mut Report,
) -> Option<Upstream> {
    let target = url(&raw.url, &place.key("url"), report);
    let ca_file = match &raw.ca_file {
        Some(file) => existing(file, &place.key("ca_file"), "file of certificate authorities", report).map(Some),
        None => Some(None),
    };
    let server_name = match &raw.server_name {
        Some(name) if rustls::pki_types::ServerName::try_from(name.as_str()).is_err() => {
            report.invalid(&place.key("server_name"), name, "a server's name", "", "such as `api.example.com`");
            None
        }
        name => Some(name.clone()),
    };
    let (origin, base_path) = target?;
    if !origin.tls && !others_speak_tls {
        for (key, is_set) in [("ca_file", raw.ca_file.is_some()), ("server_name", raw.server_name.is_some())] {
            if is_set {
                report.warn(&place.key(key), "is not used: the upstream's URL speaks cleartext", "write `https://`");
            }
        }
    }
    Some(Upstream {
        origin,
        base_path,
        protocol: match raw.protocol {
            Protocol::Auto => UpstreamProtocol::Auto,
            Protocol::Http1 => UpstreamProtocol::Http1,
            Protocol::Http2 => UpstreamProtocol::Http2,
        },
        tls: UpstreamTls { ca_file: ca_file?, server_name: server_name? },
        preserve_host: raw.preserve_host,
        connect_timeout: Duration::from_millis(raw.connect_timeout_ms),
        reply_timeout: Duration::from_millis(raw.reply_timeout_ms),
        idle_timeout: Duration::from_millis(raw.idle_timeout_ms),
        idle_connections_max: raw.idle_connections_max,
        idle_connection_timeout: Duration::from_millis(raw.idle_connection_timeout_ms),
        connections_max: raw.connections_max,
    })
}

/// The target and the base path of a URL, which is a problem where it has none.
pub(super) fn url(text: &str, place: &Place, report: &mut Report) -> Option<(Origin, String)> {
    parse(text)
        .map_err(|e| {
            let hint = "such as `http://127.0.0.1:9000` or `https://api.example.com/base`";
            report.invalid(place, text, "an upstream's URL", e, hint);
        })
        .ok()
}

/// The target and the base path of a URL.
fn parse(text: &str) -> Result<(Origin, String), String> {
    if text.contains('#') {
        return Err("a fragment has no place here".to_owned());
    }
    let url: http::Uri = text.parse().map_err(|e: http::uri::InvalidUri| e.to_string())?;
    let tls = match url.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err("it begins with neither `http://` nor `https://`".to_owned()),
    };
    let authority = url.authority().ok_or("it has no host")?;
    if authority.as_str().contains('@') {
        return Err("a name and a password have no place here".to_owned());
    }
    if url.query().is_some() {
        return Err("a query has no place here".to_owned());
    }
    let host = authority.host().to_ascii_lowercase();
    let port = match authority.as_str().get(host.len()..).unwrap_or_default().strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|p| *p != 0).ok_or("its port is not one of 1 to 65535")?,
        None if tls => 443,
        None => 80,
    };
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(&host);
    if host.is_empty() {
        return Err("it has no host".to_owned());
    }
    let path = canonical(url.path()).map_err(|e| e.to_string())?;
    Ok((Origin { tls, host: host.into(), port }, path.trim_end_matches('/').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, u16, &str)>) {
        let found = parse(text).ok();
        let found = found.as_ref().map(|(origin, path)| (origin.to_string(), origin.port, path.as_str()));
        assert_eq!(found, expected.map(|(o, port, path)| (o.to_owned(), port, path)), "{text}");
    }

    #[test]
    fn a_target_is_read_from_a_url() {
        check("http://127.0.0.1:9000", Some(("http://127.0.0.1:9000", 9000, "")));
        check("http://127.0.0.1:9000/base/", Some(("http://127.0.0.1:9000", 9000, "/base")));
        check("https://API.example.com", Some(("https://api.example.com", 443, "")));
        check("http://[::1]:9000/a/../b", Some(("http://[::1]:9000", 9000, "/b")));
        check("127.0.0.1:9000", None);
        check("ftp://a", None);
        check("http://", None);
        check("http://a:b@c", None);
        check("http://a:0", None);
        check("http://a:99999", None);
        check("http://a?b", None);
        check("http://a/#b", None);
        check("http://a/%2f", None);
        check("/only/a/path", None);
    }
}
