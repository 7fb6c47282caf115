//! Query parameters by name, changed without touching the bytes of the others.
//!
//! A query is taken apart once, however many edits follow: what a plugin asks for costs the gateway no more than one pass
//! for each edit over a bounded number of parts.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What of a name or value stands as it is (RFC 3986, section 2.3: unreserved).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A query in parts, each with its name decoded once.
#[derive(Debug, Default)]
pub struct Query {
    parts: Vec<Part>,
    bytes: usize,
}

#[derive(Debug)]
struct Part {
    name: Vec<u8>,
    text: String,
}

/// The query grew beyond its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

impl Query {
    /// Takes a query apart.
    pub fn parse(query: Option<&str>) -> Result<Self, TooLarge> {
        let mut parsed = Self::default();
        for part in parts_of(query) {
            parsed.push(Part { name: name_of(part), text: part.to_owned() })?;
        }
        Ok(parsed)
    }

    /// Replaces every parameter of the name with one, at the place of the first.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), TooLarge> {
        let at = self.parts.iter().position(|part| part.name == name.as_bytes());
        self.remove(name);
        self.append(name, value)?;
        if let Some(at) = at
            && let Some(part) = self.parts.pop()
        {
            self.parts.insert(at.min(self.parts.len()), part);
        }
        Ok(())
    }

    /// Adds a parameter at the end.
    pub fn append(&mut self, name: &str, value: &str) -> Result<(), TooLarge> {
        let text = format!("{}={}", utf8_percent_encode(name, ENCODED), utf8_percent_encode(value, ENCODED));
        self.push(Part { name: name.as_bytes().to_vec(), text })
    }

    /// Takes every parameter of the name away.
    pub fn remove(&mut self, name: &str) {
        self.parts.retain(|part| part.name != name.as_bytes());
        self.bytes = self.parts.iter().map(|part| part.text.len() + 1).sum();
    }

    /// The query as text; `None` where nothing is left.
    pub fn into_text(self) -> Option<String> {
        let mut texts = self.parts.into_iter().map(|part| part.text);
        let mut text = texts.next()?;
        for part in texts {
            text.push('&');
            text.push_str(&part);
        }
        Some(text)
    }

    fn push(&mut self, part: Part) -> Result<(), TooLarge> {
        self.bytes += part.text.len() + 1;
        if self.bytes > BYTES_MAX || self.parts.len() >= PARTS_MAX {
            return Err(TooLarge);
        }
        self.parts.push(part);
        Ok(())
    }
}

/// The first value of the name, decoded.
pub fn get(query: Option<&str>, name: &str) -> Option<Vec<u8>> {
    values(query, name).next()
}

/// All values of the name, decoded, in order.
pub fn values<'q>(query: Option<&'q str>, name: &'q str) -> impl Iterator<Item = Vec<u8>> + 'q {
    parts_of(query)
        .filter(move |part| name_of(part) == name.as_bytes())
        .map(|part| decoded(part.split_once('=').map_or("", |(_, value)| value)))
}

/// The query without the parameters of a name; `None` where nothing is left.
pub fn without(query: Option<&str>, name: &str) -> Option<String> {
    let rest: Vec<&str> = parts_of(query).filter(|part| name_of(part) != name.as_bytes()).collect();
    (!rest.is_empty()).then(|| rest.join("&"))
}

fn parts_of(query: Option<&str>) -> impl Iterator<Item = &str> {
    query.unwrap_or("").split('&').filter(|part| !part.is_empty())
}

fn name_of(part: &str) -> Vec<u8> {
    decoded(part.split_once('=').map_or(part, |(name, _)| name))
}

fn decoded(text: &str) -> Vec<u8> {
    percent_decode_str(&text.replace('+', " ")).collect()
}

const BYTES_MAX: usize = 64 << 10;
const PARTS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: Option<&str>, edit: impl Fn(&mut Query), expected: Option<&str>) {
        let mut parsed = Query::parse(query).expect("a query within bounds");
        edit(&mut parsed);
        assert_eq!(parsed.into_text().as_deref(), expected);
    }

    #[test]
    fn a_parameter_is_set_in_its_place_and_others_keep_their_bytes() {
        check(Some("a=1&b=%7e&a=2"), |q| q.set("a", "x y").expect("room"), Some("a=x%20y&b=%7e"));
        check(Some("b=1&a=2&c"), |q| q.set("a", "3").expect("room"), Some("b=1&a=3&c"));
        check(None, |q| q.set("a", "&=").expect("room"), Some("a=%26%3D"));
        check(Some("%61=1"), |q| q.set("a", "2").expect("room"), Some("a=2"));
        check(Some("a=1"), |q| q.append("a", "2").expect("room"), Some("a=1&a=2"));
        check(Some("a=1&b&a"), |q| q.remove("a"), Some("b"));
        check(Some("a=1"), |q| q.remove("a"), None);
        assert_eq!(get(Some("x=1&t=a%20b+c"), "t"), Some(b"a b c".to_vec()));
        assert_eq!(get(Some("x=1"), "t"), None);
        assert_eq!(without(Some("x=1&t=2"), "t").as_deref(), Some("x=1"));
    }

    // limit: pipeline::query::BYTES_MAX
    // limit: pipeline::query::PARTS_MAX
    #[test]
    fn a_query_does_not_grow_without_end() {
        assert!(Query::parse(Some(&"a&".repeat(PARTS_MAX))).is_ok());
        assert_eq!(Query::parse(Some(&"a&".repeat(PARTS_MAX + 1))).err(), Some(TooLarge));
        // The name, its sign, and what parts it from another one.
        let mut query = Query::default();
        assert_eq!(query.append("a", &"x".repeat(BYTES_MAX - 3)), Ok(()));
        let mut query = Query::default();
        assert_eq!(query.append("a", &"x".repeat(BYTES_MAX - 2)), Err(TooLarge));
    }
}
