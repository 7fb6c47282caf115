//! Query parameters by name, changed without touching the bytes of the others.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What of a name or value stands as it is (RFC 3986, section 2.3: unreserved).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Replaces every parameter of the name with one, at the place of the first.
pub fn set(query: Option<&str>, name: &str, value: &str) -> String {
    let mut is_set = false;
    let mut parts: Vec<String> = Vec::new();
    for part in parts_of(query) {
        if !is_named(part, name) {
            parts.push(part.to_owned());
        } else if !is_set {
            is_set = true;
            parts.push(pair(name, value));
        }
    }
    if !is_set {
        parts.push(pair(name, value));
    }
    parts.join("&")
}

/// Adds a parameter at the end.
pub fn append(query: Option<&str>, name: &str, value: &str) -> String {
    match query.filter(|query| !query.is_empty()) {
        Some(query) => format!("{query}&{}", pair(name, value)),
        None => pair(name, value),
    }
}

/// Takes every parameter of the name away; `None` if nothing is left.
pub fn remove(query: Option<&str>, name: &str) -> Option<String> {
    let rest: Vec<&str> = parts_of(query).filter(|part| !is_named(part, name)).collect();
    (!rest.is_empty()).then(|| rest.join("&"))
}

/// The first value of the name, decoded.
pub fn get(query: Option<&str>, name: &str) -> Option<Vec<u8>> {
    parts_of(query).find(|part| is_named(part, name)).map(|part| {
        let value = part.split_once('=').map_or("", |(_, value)| value).replace('+', " ");
        percent_decode_str(&value).collect()
    })
}

fn parts_of(query: Option<&str>) -> impl Iterator<Item = &str> {
    query.unwrap_or("").split('&').filter(|part| !part.is_empty())
}

fn is_named(part: &str, name: &str) -> bool {
    let raw = part.split_once('=').map_or(part, |(name, _)| name);
    raw == name || percent_decode_str(&raw.replace('+', " ")).eq(name.bytes())
}

fn pair(name: &str, value: &str) -> String {
    format!("{}={}", utf8_percent_encode(name, ENCODED), utf8_percent_encode(value, ENCODED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_set_in_its_place_and_others_keep_their_bytes() {
        assert_eq!(set(Some("a=1&b=%7e&a=2"), "a", "x y"), "a=x%20y&b=%7e");
        assert_eq!(set(None, "a", "&="), "a=%26%3D");
        assert_eq!(set(Some("%61=1"), "a", "2"), "a=2");
        assert_eq!(append(Some("a=1"), "a", "2"), "a=1&a=2");
        assert_eq!(append(Some(""), "a", "2"), "a=2");
        assert_eq!(remove(Some("a=1&b&a"), "a"), Some("b".to_owned()));
        assert_eq!(remove(Some("a=1"), "a"), None);
        assert_eq!(get(Some("x=1&t=a%20b+c"), "t"), Some(b"a b c".to_vec()));
        assert_eq!(get(Some("x=1"), "t"), None);
    }
}
