//! Where the file of a plugin is: on this machine, behind a URL, or in a registry.

use std::fmt;
use std::path::{Path, PathBuf};

use http::uri::PathAndQuery;

use super::api::Origin;
use super::digest::Digest;

/// Where the file of a plugin is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// On this machine: absolute, or relative to the working directory.
    File(PathBuf),
    /// Behind a URL.
    Url(Location),
    /// In a registry of the OCI.
    Registry(Image),
}

/// A URL of HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The server.
    pub origin: Origin,
    /// What is asked for there.
    pub target: PathAndQuery,
}

/// A component in a registry: `oci://registry.example.com/team/headers:1.2`, or `@sha256:…` at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The registry. In cleartext where it is this machine.
    pub registry: Origin,
    /// The repository.
    pub repository: String,
    /// Which of its manifests.
    pub reference: Reference,
}

/// What names a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A name, which may mean another one tomorrow.
    Tag(String),
    /// Its digest.
    Digest(Digest),
}

/// A text is no source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceInvalid(&'static str);

impl Source {
    /// Reads the URL of a file elsewhere.
    ///
    /// # Errors
    /// It is none that a plugin can be fetched from.
    pub fn parse(text: &str) -> Result<Self, SourceInvalid> {
        match text.strip_prefix("oci://") {
            Some(image) => Image::parse(image).map(Self::Registry),
            None => Location::parse(text).map(Self::Url),
        }
    }

    /// The file, where it is on this machine.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(file) => Some(file),
            Self::Url(_) | Self::Registry(_) => None,
        }
    }

    /// The server that has it.
    pub const fn server(&self) -> Option<&Origin> {
        match self {
            Self::File(_) => None,
            Self::Url(location) => Some(&location.origin),
            Self::Registry(image) => Some(&image.registry),
        }
    }

    /// Whether it names one content for all times.
    pub const fn is_pinned(&self) -> bool {
        matches!(self, Self::Registry(Image { reference: Reference::Digest(_), .. }))
    }

    /// Whether somebody on the way could put another file in the place of this one.
    pub fn is_exposed(&self) -> bool {
        match self {
            Self::Url(location) => !location.origin.tls && !is_this_machine(&location.origin.host),
            Self::File(_) | Self::Registry(_) => false,
        }
    }
}

impl Location {
    /// Reads a URL with `https://` or `http://`, without a user and a fragment.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, SourceInvalid> {
        if text.contains('#') {
            return Err(SourceInvalid("a fragment has no place here"));
        }
        let url: http::Uri = text.parse().map_err(|_| SourceInvalid("it is no URL"))?;
        let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
            return Err(SourceInvalid("it begins with none of `https://`, `http://` and `oci://`"));
        };
        let origin = Origin::parse(&format!("{scheme}://{authority}"));
        let origin = origin.ok_or(SourceInvalid("it is not `https://` or `http://` with a host and no user"))?;
        let target = url.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        Ok(Self { origin, target })
    }

    /// Another target of the same server.
    pub fn at(&self, target: &str) -> Option<Self> {
        Some(Self { origin: self.origin.clone(), target: target.parse().ok()? })
    }

    /// The same with something at the end of its path.
    pub fn beside(&self, end: &str) -> Option<Self> {
        let query = self.target.query().map(|query| format!("?{query}")).unwrap_or_default();
        self.at(&format!("{}{end}{query}", self.target.path()))
    }
}

impl Image {
    fn parse(text: &str) -> Result<Self, SourceInvalid> {
        let (authority, path) = text.split_once('/').ok_or(SourceInvalid("it names no repository"))?;
        let scheme = if is_this_machine(authority_host(authority)) { "http" } else { "https" };
        let registry = Origin::parse(&format!("{scheme}://{authority}"));
        let registry = registry.ok_or(SourceInvalid("it names no registry"))?;
        let (path, digest) = match path.split_once('@') {
            Some((path, digest)) => {
                let is_digest = digest.starts_with("sha256:");
                let digest = Digest::parse(digest).filter(|_| is_digest);
                (path, Some(digest.ok_or(SourceInvalid("what stands after `@` is not `sha256:` and a digest"))?))
            }
            None => (path, None),
        };
        let (repository, tag) = path.split_once(':').unwrap_or((path, "latest"));
        if !is_repository(repository) {
            return Err(SourceInvalid("its repository is not in small letters, digits, `.`, `_`, `-` and `/`"));
        }
        if !is_tag(tag) {
            return Err(SourceInvalid("its tag is not 1 to 128 letters, digits, `_`, `.` and `-`"));
        }
        // Where both are there, the digest rules.
        let reference = digest.map_or_else(|| Reference::Tag(tag.to_owned()), Reference::Digest);
        Ok(Self { registry, repository: repository.to_owned(), reference })
    }

    /// Where something of its repository is: `manifests` or `blobs`, and which.
    pub fn location(&self, kind: &str, which: &str) -> Option<Location> {
        let target = format!("/v2/{}/{kind}/{which}", self.repository).parse().ok()?;
        Some(Location { origin: self.registry.clone(), target })
    }
}

/// Whether a host is this machine, whatever a resolver says.
pub fn is_this_machine(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn authority_host(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

/// As the distribution specification has it, more or less: what it refuses is refused by the registry.
fn is_repository(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let is_part = |part: &str| {
        !part.is_empty() && part.chars().all(is_plain) && part.starts_with(|c: char| c.is_ascii_alphanumeric())
    };
    text.len() <= 255 && text.split('/').all(is_part)
}

fn is_tag(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=128).contains(&text.len()) && text.chars().all(is_plain) && !text.starts_with(['.', '-'])
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Url(location) => location.fmt(f),
            Self::Registry(image) => image.fmt(f),
        }
    }
}

/// Without its query, which may hold something that opens doors.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.target.path())
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}", self.registry.authority(), self.repository)?;
        match &self.reference {
            Reference::Tag(tag) => write!(f, ":{tag}"),
            Reference::Digest(digest) => write!(f, "@sha256:{}", digest.hex()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, bool)>) {
        let found = Source::parse(text).ok().map(|source| (source.to_string(), source.is_exposed()));
        assert_eq!(found, expected.map(|(shown, exposed)| (shown.to_owned(), exposed)), "{text}");
    }

    #[test]
    fn a_source_is_a_url_or_in_a_registry() {
        let digest = Digest::of(b"manifest").hex();
        check("https://a.test/p/h.wasm?key=1", Some(("https://a.test/p/h.wasm", false)));
        check("http://a.test:8/h.wasm", Some(("http://a.test:8/h.wasm", true)));
        check("http://127.0.0.1/h.wasm", Some(("http://127.0.0.1/h.wasm", false)));
        check("oci://r.test/team/h:1.2", Some(("oci://r.test/team/h:1.2", false)));
        check("oci://localhost:5000/h", Some(("oci://localhost:5000/h:latest", false)));
        let pinned = format!("oci://[::1]:5000/h@sha256:{digest}");
        check(&pinned, Some((&pinned, false)));
        check(&format!("oci://r.test/h:1@sha256:{digest}"), Some((&format!("oci://r.test/h@sha256:{digest}"), false)));
        for text in [
            "h.wasm",
            "/h.wasm",
            "ftp://a/h",
            "https://u:p@a/h",
            "https://a/h#x",
            "https:///h",
            "oci://r.test",
            "oci://r.test/",
            "oci://r.test/H:1",
            "oci://r.test/a//b",
            "oci://r.test/a/../b",
            "oci://r.test/h:",
            "oci://r.test/h:-a",
            "oci://r.test/h@sha256:12",
            "oci://u@r.test/h",
            "oci://r.test/h?x",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn a_registry_elsewhere_is_never_asked_in_cleartext() {
        let tls = |text: &str| match Source::parse(text) {
            Ok(Source::Registry(image)) => image.registry.tls,
            other => panic!("{other:?}"),
        };
        assert!(tls("oci://r.test/h") && tls("oci://10.0.0.1:5000/h") && tls("oci://localhost.test/h"));
        assert!(!tls("oci://localhost:5000/h") && !tls("oci://127.0.0.1:5000/h") && !tls("oci://[::1]/h"));
    }

    #[test]
    fn what_is_beside_a_url_keeps_its_query() {
        let location = Location::parse("https://a.test/h.wasm?v=1").expect("a URL");
        assert_eq!(location.beside(".sig").map(|beside| beside.target.to_string()).as_deref(), Some("/h.wasm.sig?v=1"));
    }
}
