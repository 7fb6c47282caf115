//! Headers, query parameters and vars: what was received, and what the function changes.

use std::borrow::Cow;

use crate::{
    edits::{Edit, Edits},
    types::{Header, Variable},
};

/// The header fields of a message, as far as the function reads them, and their changes.
///
/// Names are compared without regard to case. Values are bytes; [`text`](Headers::text) reads those that are UTF-8.
#[derive(Debug, Default)]
pub struct Headers {
    received: Vec<Header>,
    pub(crate) edits: Edits<Vec<u8>>,
}

impl Headers {
    pub(crate) fn new(received: Vec<Header>) -> Self {
        Self { received, edits: Edits::default() }
    }

    /// The first value of the name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The first value of the name, if it is UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Every value of the name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Whether there is a value of the name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Every field: those that were received and still stand, then those that were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let kept = self.received.iter().filter(|(name, _)| !self.edits.replace(name));
        kept.map(|(name, value)| (name.as_str(), value.as_slice()))
            .chain(self.edits.standing().map(|(name, value)| (name, value.as_slice())))
    }

    /// Replaces every value of the name.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.edits.push(Edit::Set(lower(name), value.into()));
    }

    /// Adds a value.
    pub fn append(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.edits.push(Edit::Append(lower(name), value.into()));
    }

    /// Takes every value of the name away, whether the function reads it or not.
    pub fn remove(&mut self, name: impl Into<String>) {
        self.edits.push(Edit::Remove(lower(name)));
    }
}

pub(crate) fn lower(name: impl Into<String>) -> String {
    let mut name = name.into();
    name.make_ascii_lowercase();
    name
}

/// Values that plugins of one request hand to later ones. Asked for by `context = [vars]`; setting needs no asking.
#[derive(Debug, Default)]
pub struct Vars {
    received: Vec<Variable>,
    pub(crate) edits: Edits<Vec<u8>>,
}

impl Vars {
    pub(crate) fn new(received: Vec<Variable>) -> Self {
        Self { received, edits: Edits::default() }
    }

    /// The value of the name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The value of the name, if it is UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Every var.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let kept = self.received.iter().filter(|(name, _)| !self.edits.replace(name));
        kept.map(|(name, value)| (name.as_str(), value.as_slice()))
            .chain(self.edits.standing().map(|(name, value)| (name, value.as_slice())))
    }

    /// Sets a var for the later plugins of this request.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.edits.push(Edit::Set(name.into(), value.into()));
    }

    /// Takes a var away.
    pub fn remove(&mut self, name: impl Into<String>) {
        self.edits.push(Edit::Remove(name.into()));
    }
}

/// The query of a request. Parameters are in plain text: they are decoded here and encoded by the gateway.
#[derive(Debug, Default)]
pub struct Query {
    raw: Option<String>,
    pub(crate) replaced: bool,
    pub(crate) edits: Edits<String>,
}

impl Query {
    pub(crate) fn new(raw: Option<String>) -> Self {
        Self { raw, replaced: false, edits: Edits::default() }
    }

    /// The query as it was received or last replaced, without its `?`. Changes of single parameters are not in it.
    #[must_use]
    pub fn raw(&self) -> Option<&str> {
        self.raw.as_deref()
    }

    /// Replaces the whole query, and with it changes of single parameters made before; `None` removes it.
    pub fn set_raw(&mut self, raw: Option<String>) {
        self.raw = raw;
        self.replaced = true;
        self.edits.clear();
    }

    /// The first value of the parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// Every parameter.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        let pairs = self.raw.as_deref().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decode(name), decode(value)))
            .filter(|(name, _)| !self.edits.replace(name))
            .chain(self.edits.standing().map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value.as_str()))))
    }

    /// Replaces every parameter of the name.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.edits.push(Edit::Set(name.into(), value.into()));
    }

    /// Adds a parameter at the end.
    pub fn append(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.edits.push(Edit::Append(name.into(), value.into()));
    }

    /// Takes every parameter of the name away.
    pub fn remove(&mut self, name: impl Into<String>) {
        self.edits.push(Edit::Remove(name.into()));
    }

    pub(crate) fn into_parts(self) -> (Option<Option<String>>, Edits<String>) {
        (self.replaced.then_some(self.raw), self.edits)
    }
}

/// Decodes percent signs and plus signs. What is no valid escape stays as it is; bytes that are no UTF-8 are replaced.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        (rest, _) = match (byte, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (after, decoded.push(nibble(*high) << 4 | nibble(*low)))
            }
            (b'+', _) => (tail, decoded.push(b' ')),
            _ => (tail, decoded.push(*byte)),
        };
    }
    Cow::Owned(
        String::from_utf8(decoded).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::{Headers, Query, Vars, decode};

    #[test]
    fn header_reads_see_earlier_changes() {
        let mut headers = Headers::new(vec![("a".to_owned(), b"1".to_vec()), ("a".to_owned(), b"2".to_vec())]);
        assert_eq!(headers.all("A").collect::<Vec<_>>(), [b"1", b"2"]);

        headers.append("A", "3");
        assert_eq!(headers.all("a").collect::<Vec<_>>(), [b"1", b"2", b"3"]);
        headers.set("a", "4");
        assert_eq!(headers.all("a").collect::<Vec<_>>(), [b"4"]);
        headers.remove("a");
        assert!(!headers.has("a"));
    }

    #[test]
    fn vars_are_case_sensitive() {
        let mut vars = Vars::new(vec![("tier".to_owned(), b"free".to_vec())]);
        vars.set("Tier", "gold");
        assert_eq!(vars.text("tier"), Some("free"));
        assert_eq!(vars.text("Tier"), Some("gold"));
    }

    #[test]
    fn query_parameters_are_plain_text() {
        let mut query = Query::new(Some("a=1&b=x%20y+z&a=2&flag".to_owned()));
        assert_eq!(query.get("b").as_deref(), Some("x y z"));
        assert_eq!(query.get("flag").as_deref(), Some(""));

        query.set("a", "3");
        assert_eq!(query.iter().map(|(name, _)| name.into_owned()).collect::<Vec<_>>(), ["b", "flag", "a"]);
        query.set_raw(Some("c=1".to_owned()));
        assert_eq!(query.get("a"), None);
        assert_eq!(query.get("c").as_deref(), Some("1"));
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        fn check(input: &str, expected: &str) {
            assert_eq!(decode(input), expected);
        }
        check("%41%c3%A9", "Aé");
        check("100%", "100%");
        check("%4", "%4");
        check("%zz", "%zz");
        check("%ff", "\u{fffd}");
    }
}
