//! The one way in which paths are read: made canonical first, then matched, and sent on as they were matched.
//!
//! Because the upstream gets the same canonical path that was matched, no encoding can mean one thing here and another
//! there.

use std::borrow::Cow;
use std::fmt;

/// Makes a request's path canonical (RFC 3986, sections 6.2.2 and 5.2.4, and stricter where a proxy must be).
///
/// - `%XX` of an unreserved character is decoded; other escapes stay, with digits in upper case;
/// - `.` and `..` segments, however written, are resolved; runs of `/` become one;
/// - refused: an escape that is none, an escaped or plain `\`, an escaped `/`, escaped control characters, `..` above the
///   root, and `.` or `..` with parameters (`..;x`), which some servers resolve.
///
/// Most paths are canonical as they come and are borrowed.
pub fn canonical(raw: &str) -> Result<Cow<'_, str>, PathInvalid> {
    if !raw.starts_with('/') {
        return Err(PathInvalid::NotAbsolute);
    }
    if is_plainly_canonical(raw.as_bytes()) {
        return Ok(Cow::Borrowed(raw));
    }
    let unescaped = unescape_unreserved(raw.as_bytes())?;
    resolve_segments(&unescaped).map(Cow::Owned)
}

/// Why a path is refused; the request ends with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathInvalid {
    /// It does not begin with `/`.
    #[error("path does not begin with `/`")]
    NotAbsolute,
    /// `%` without two hexadecimal digits.
    #[error("path has an incomplete percent-escape")]
    EscapeInvalid,
    /// An escaped slash, backslash or control character, or a plain backslash or control character.
    #[error("path has a slash, backslash or control character that is hidden or out of place")]
    CharacterForbidden,
    /// More `..` than folders.
    #[error("path leaves its root")]
    AboveRoot,
    /// `.` or `..` with parameters.
    #[error("path has a dot segment with parameters")]
    DotParameters,
}

/// No escape, no empty or dotted segment, nothing to refuse.
fn is_plainly_canonical(bytes: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in bytes {
        let suspicious = match byte {
            b'%' | b'\\' | 0..=0x20 | 0x7f.. => true,
            b'/' | b'.' => previous == b'/',
            _ => false,
        };
        if suspicious {
            return false;
        }
        previous = byte;
    }
    true
}

fn unescape_unreserved(raw: &[u8]) -> Result<String, PathInvalid> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        let byte = match first {
            b'%' => {
                let (byte, tail) = escaped_byte(rest)?;
                rest = tail;
                if matches!(byte, b'/' | b'\\' | 0..0x20 | 0x7f) {
                    return Err(PathInvalid::CharacterForbidden);
                }
                byte
            }
            b'\\' | 0..=0x20 | 0x7f => return Err(PathInvalid::CharacterForbidden),
            byte => byte,
        };
        let plain_before = first != b'%';
        if is_unreserved(byte) || (plain_before && byte.is_ascii()) {
            out.push(char::from(byte));
        } else {
            push_escaped(&mut out, byte);
        }
    }
    Ok(out)
}

fn escaped_byte(after_percent: &[u8]) -> Result<(u8, &[u8]), PathInvalid> {
    let (&[high, low], rest) = after_percent.split_first_chunk::<2>().ok_or(PathInvalid::EscapeInvalid)?;
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(PathInvalid::EscapeInvalid);
    Ok((digit(high)? * 16 + digit(low)?, rest))
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn push_escaped(out: &mut String, byte: u8) {
    use fmt::Write as _;
    // Writing to a `String` cannot fail.
    let _ = write!(out, "%{byte:02X}");
}

fn resolve_segments(path: &str) -> Result<String, PathInvalid> {
    let mut kept: Vec<&str> = Vec::new();
    let ends_in_folder = matches!(path.rsplit('/').next(), Some("" | "." | ".."));
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop().ok_or(PathInvalid::AboveRoot)?;
            }
            _ if is_dot_with_parameters(segment) => return Err(PathInvalid::DotParameters),
            _ => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if ends_in_folder || kept.is_empty() {
        out.push('/');
    }
    Ok(out)
}

/// `.;x` and `..;x`, with the semicolon escaped or not.
fn is_dot_with_parameters(segment: &str) -> bool {
    let rest = segment.strip_prefix("..").or_else(|| segment.strip_prefix('.')).unwrap_or("");
    rest.starts_with(';') || rest.starts_with("%3B")
}

/// The beginning of the paths that belong to an API, at the border of a segment: `/orders` and `/orders/` are the same
/// and take `/orders`, `/orders/` and `/orders/1`, not `/orders1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenPath {
    /// As it was written, with a slash at its end.
    text: String,
}

impl ListenPath {
    /// Takes a canonical path.
    pub fn parse(text: &str) -> Result<Self, PathInvalid> {
        let mut text = canonical(text)?.into_owned();
        if !text.ends_with('/') {
            text.push('/');
        }
        Ok(Self { text })
    }

    /// With a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What is left of a canonical path below this one, beginning with `/`; `None` if it is not below.
    pub fn strip<'p>(&self, path: &'p str) -> Option<&'p str> {
        let folder = self.text.trim_end_matches('/');
        match path.strip_prefix(folder)? {
            "" => Some("/"),
            rest if rest.starts_with('/') => Some(rest),
            _ => None,
        }
    }
}

impl fmt::Display for ListenPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A path with parameters: `/users/{id}`, `/files/{*rest}`. A slash at the end makes no difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter(String),
    /// The rest of the path, one segment or more; only at the end.
    Rest(String),
}

/// Why a path template is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateInvalid {
    /// Its literal part is not a path.
    #[error(transparent)]
    Path(#[from] PathInvalid),
    /// A parameter has no name, or braces stand elsewhere than around a whole segment.
    #[error("`{0}` is not a segment: write `{{name}}`, or `{{*name}}` at the end")]
    Segment(String),
    /// `{*name}` stands before the end.
    #[error("`{{*{0}}}` may only stand at the end")]
    RestNotLast(String),
    /// Two parameters have one name.
    #[error("parameter `{0}` occurs twice")]
    Twice(String),
}

impl PathTemplate {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, TemplateInvalid> {
        if !text.starts_with('/') {
            return Err(PathInvalid::NotAbsolute.into());
        }
        let mut segments = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        for part in text.split('/').filter(|s| !s.is_empty()) {
            if let Some(Segment::Rest(name)) = segments.last() {
                return Err(TemplateInvalid::RestNotLast(name.clone()));
            }
            let segment = match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
                Some(name) => {
                    let (name, is_rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
                    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    if name.is_empty() || !name.chars().all(plain) {
                        return Err(TemplateInvalid::Segment(part.to_owned()));
                    }
                    if names.contains(&name) {
                        return Err(TemplateInvalid::Twice(name.to_owned()));
                    }
                    names.push(name);
                    if is_rest { Segment::Rest(name.to_owned()) } else { Segment::Parameter(name.to_owned()) }
                }
                None if part.contains(['{', '}']) => return Err(TemplateInvalid::Segment(part.to_owned())),
                None => {
                    let path = format!("/{part}");
                    Segment::Literal(canonical(&path)?.trim_start_matches('/').to_owned())
                }
            };
            segments.push(segment);
        }
        Ok(Self { text: text.to_owned(), segments })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The parameters of a canonical path, percent-decoded where that gives text, in the order of the template; `None` if
    /// the path does not match.
    pub fn matches<'t>(&'t self, path: &str) -> Option<Vec<(&'t str, String)>> {
        let path = path.strip_prefix('/')?;
        let mut rest = Some(path.strip_suffix('/').unwrap_or(path)).filter(|p| !p.is_empty());
        let mut parameters = Vec::new();
        for segment in &self.segments {
            let text = rest?;
            let (first, tail) = text.split_once('/').map_or((text, None), |(first, tail)| (first, Some(tail)));
            match segment {
                Segment::Literal(literal) if is_same(literal, first) => rest = tail,
                Segment::Literal(_) => return None,
                Segment::Parameter(name) => {
                    parameters.push((name.as_str(), decoded(first)));
                    rest = tail;
                }
                Segment::Rest(name) => {
                    parameters.push((name.as_str(), decoded(text)));
                    rest = None;
                }
            }
        }
        rest.is_none().then_some(parameters)
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether two segments are one when decoded: a reserved character that is escaped passes no guard that names it plainly.
fn is_same(literal: &str, segment: &str) -> bool {
    literal == segment
        || (segment.contains('%') || literal.contains('%'))
            && percent_encoding::percent_decode_str(literal).eq(percent_encoding::percent_decode_str(segment))
}

fn decoded(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8().map_or_else(|_| segment.to_owned(), Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: Result<&str, PathInvalid>) {
        assert_eq!(canonical(raw).as_deref(), expected.as_deref(), "{raw}");
    }

    #[test]
    fn a_path_is_made_canonical_or_refused() {
        use PathInvalid::*;
        check("/", Ok("/"));
        check("/a/b", Ok("/a/b"));
        check("/a/b.c", Ok("/a/b.c"));
        check("/a//b", Ok("/a/b"));
        check("/a/./b", Ok("/a/b"));
        check("/a/../b", Ok("/b"));
        check("/a/b/..", Ok("/a/"));
        check("/a/%2e%2E/b", Ok("/b"));
        check("/%61dmin", Ok("/admin"));
        check("/a%7eb", Ok("/a~b"));
        check("/a%3ab", Ok("/a%3Ab"));
        check("/a%252e", Ok("/a%252e"));
        check("/ä", Ok("/%C3%A4"));
        check("/a;b=c/d", Ok("/a;b=c/d"));
        check("/.hidden", Ok("/.hidden"));
        check("/..", Err(AboveRoot));
        check("/a/../../b", Err(AboveRoot));
        check("/a%2fb", Err(CharacterForbidden));
        check("/a%5Cb", Err(CharacterForbidden));
        check("/a\\b", Err(CharacterForbidden));
        check("/a%00", Err(CharacterForbidden));
        check("/a%0d%0ab", Err(CharacterForbidden));
        check("/a/..;x/b", Err(DotParameters));
        check("/a/%2e%2e;/b", Err(DotParameters));
        check("/a/..%3b/b", Err(DotParameters));
        check("/a%2", Err(EscapeInvalid));
        check("/a%zz", Err(EscapeInvalid));
        check("/a%+1", Err(EscapeInvalid));
        check("a", Err(NotAbsolute));
        check("*", Err(NotAbsolute));
    }

    #[test]
    fn a_listen_path_ends_at_a_segment() {
        let orders = ListenPath::parse("/orders").expect("a path");
        assert_eq!(orders.as_str(), "/orders/");
        assert_eq!(orders.strip("/orders"), Some("/"));
        assert_eq!(orders.strip("/orders/1"), Some("/1"));
        assert_eq!(orders.strip("/orders1"), None);
        assert_eq!(ListenPath::parse("/").expect("a path").strip("/x"), Some("/x"));
    }

    #[track_caller]
    fn check_template(template: &str, path: &str, expected: Option<&[(&str, &str)]>) {
        let template = PathTemplate::parse(template).expect("a template");
        let found = template.matches(path);
        let found: Option<Vec<(&str, &str)>> =
            found.as_ref().map(|p| p.iter().map(|(n, v)| (*n, v.as_str())).collect());
        assert_eq!(found.as_deref(), expected, "{path}");
    }

    #[test]
    fn a_template_gives_its_parameters() {
        check_template("/users/{id}", "/users/7", Some(&[("id", "7")]));
        check_template("/users/{id}", "/users/7/", Some(&[("id", "7")]));
        check_template("/users/{id}", "/users/a%20b", Some(&[("id", "a b")]));
        check_template("/users/{id}", "/users", None);
        check_template("/users/{id}", "/users/7/x", None);
        check_template("/{a}/x/{b}", "/1/x/2", Some(&[("a", "1"), ("b", "2")]));
        check_template("/files/{*rest}", "/files/a/b", Some(&[("rest", "a/b")]));
        check_template("/files/{*rest}", "/files", None);
        check_template("/", "/", Some(&[]));
        check_template("/", "/x", None);
        check_template("/x/", "/x", Some(&[]));
        check_template("/items:secret", "/items%3Asecret", Some(&[]));
    }

    #[test]
    fn a_template_that_cannot_match_is_refused() {
        for text in ["x", "/{}", "/a{b}", "/{a}/{a}", "/{*r}/x", "/{a b}"] {
            assert!(PathTemplate::parse(text).is_err(), "{text}");
        }
    }
}
