//! How an API finds the ID of a caller in a request, so that the session that goes with it is found without the plugin.
//!
//! Settings that exist can work: a source and a reading that do not fit are refused when the definition is read.

use std::time::Duration;

use http::HeaderName;
use regex::bytes::{Regex, RegexBuilder};

use super::xpath::XPath;

/// The extractor of one API.
///
/// The ID must be the credential itself, or name nobody without it: whoever knows an ID gets its session, without the
/// plugin being asked, until the deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractorSettings {
    source: IdSource,
    reading: Reading,
    /// The most bytes of input that are looked at; longer input is an error.
    pub input_bytes_max: usize,
    /// How long after the plugin's answer its session may be used without asking again, whatever the session says.
    pub deadline_max: Duration,
    /// How long a refusal of the plugin is remembered for an ID; zero remembers none.
    pub refusal_life: Duration,
    /// Refusals that are remembered at one time.
    pub refusals_max: usize,
    /// IDs that the plugin is asked about at one time.
    pub asked_max: usize,
    /// Requests that wait for the answer about one ID.
    pub waiting_max: usize,
}

/// Where the ID stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdSource {
    /// A header field.
    Header(HeaderName),
    /// A field of a body of the type `application/x-www-form-urlencoded`.
    Form(String),
    /// A query parameter.
    Query(String),
    /// A cookie.
    Cookie(String),
    /// The body as a whole.
    Body,
}

/// How the ID is read from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// All of it.
    Value,
    /// A match of a regular expression.
    Regex(Pattern),
    /// A node of an XML document.
    XPath(XPath),
    /// A text or whole number of a JSON document.
    JsonPointer(JsonPointer),
}

/// A regular expression, in time linear in its input.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
    match_index: usize,
}

/// A JSON pointer (RFC 6901) below the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPointer(String);

/// A source and a reading do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The whole body as an ID would be another one for each request.
    #[error("the value of a whole body is no ID")]
    BodyValue,
    /// XML and JSON stand in bodies and form fields.
    #[error("a {0} holds no document")]
    NoDocument(&'static str),
}

/// A regular expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternInvalid {
    /// It is longer than it needs to be.
    #[error("longer than {PATTERN_BYTES_MAX} bytes")]
    TooLong,
    /// It does not parse, or is too large once compiled.
    #[error("{0}")]
    Regex(String),
    /// The index of a match is out of bounds.
    #[error("the index of a match is above {MATCH_INDEX_MAX}")]
    Index,
}

/// A text is no JSON pointer below the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it begins with `/`, and `~` stands in `~0` and `~1` only")]
pub struct JsonPointerInvalid;

impl ExtractorSettings {
    /// Settings with the limits' defaults.
    ///
    /// # Errors
    /// Source and reading do not fit; [`Mismatch::hint`] says what to write instead.
    pub fn new(source: IdSource, reading: Reading) -> Result<Self, Mismatch> {
        match (&source, &reading) {
            (IdSource::Body, Reading::Value) => return Err(Mismatch::BodyValue),
            (IdSource::Body | IdSource::Form(_), _) | (_, Reading::Value | Reading::Regex(_)) => {}
            (IdSource::Header(_), _) => return Err(Mismatch::NoDocument("header")),
            (IdSource::Query(_), _) => return Err(Mismatch::NoDocument("query parameter")),
            (IdSource::Cookie(_), _) => return Err(Mismatch::NoDocument("cookie")),
        }
        Ok(Self {
            source,
            reading,
            input_bytes_max: 64 << 10,
            deadline_max: Duration::from_secs(3_600),
            refusal_life: Duration::from_secs(10),
            refusals_max: 10_000,
            asked_max: 10_000,
            waiting_max: 10_000,
        })
    }

    /// Where the ID stands.
    pub const fn source(&self) -> &IdSource {
        &self.source
    }

    /// How it is read.
    pub const fn reading(&self) -> &Reading {
        &self.reading
    }

    /// Whether the request's body must be there before the ID can be found.
    pub const fn needs_body(&self) -> bool {
        matches!(self.source, IdSource::Body | IdSource::Form(_))
    }
}

impl Mismatch {
    /// What to write instead.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::BodyValue => "read a part of it: `with: regex`, `with: xpath` or `with: json_pointer`",
            Self::NoDocument(_) => "take `with: value` or `with: regex`, or `from: body` or `from: form`",
        }
    }
}

impl Pattern {
    /// Takes a regular expression (syntax of the crate `regex`), and which of its matches counts: 0 is the first. Where it
    /// has a group named `id`, the group is the ID, otherwise the whole match.
    ///
    /// # Errors
    /// See [`PatternInvalid`].
    pub fn new(text: &str, match_index: usize) -> Result<Self, PatternInvalid> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternInvalid::TooLong);
        }
        // Each further match is another search through what is left.
        if match_index > MATCH_INDEX_MAX {
            return Err(PatternInvalid::Index);
        }
        let built = RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build();
        let regex = built.map_err(|error| PatternInvalid::Regex(error.to_string()))?;
        Ok(Self { regex, match_index })
    }

    /// The bytes that it finds, which may be none.
    pub fn find<'i>(&self, input: &'i [u8]) -> Option<&'i [u8]> {
        let found = self.regex.captures_iter(input).nth(self.match_index)?;
        let has_group = self.regex.capture_names().flatten().any(|name| name == ID_GROUP);
        let part = if has_group { found.name(ID_GROUP) } else { found.get(0) };
        part.map(|part| part.as_bytes())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        (self.regex.as_str(), self.match_index) == (other.regex.as_str(), other.match_index)
    }
}

impl Eq for Pattern {}

impl JsonPointer {
    /// Takes a pointer below the root.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, JsonPointerInvalid> {
        let is_escaped = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if text.starts_with('/') && is_escaped { Ok(Self(text.to_owned())) } else { Err(JsonPointerInvalid) }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The group whose text is the ID.
const ID_GROUP: &str = "id";
const PATTERN_BYTES_MAX: usize = 4_096;
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// The highest index of a match.
pub const MATCH_INDEX_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn readings() -> [Reading; 4] {
        [
            Reading::Value,
            Reading::Regex(Pattern::new("x", 0).expect("a pattern")),
            Reading::XPath(XPath::parse("//x").expect("a path")),
            Reading::JsonPointer(JsonPointer::parse("/x").expect("a pointer")),
        ]
    }

    #[test]
    fn a_source_and_a_reading_that_do_not_fit_are_refused() {
        let check = |source: IdSource, expected: [bool; 4]| {
            let found = readings().map(|reading| ExtractorSettings::new(source.clone(), reading).is_ok());
            assert_eq!(found, expected, "{source:?}");
        };
        check(IdSource::Header(HeaderName::from_static("x")), [true, true, false, false]);
        check(IdSource::Query("x".to_owned()), [true, true, false, false]);
        check(IdSource::Cookie("x".to_owned()), [true, true, false, false]);
        check(IdSource::Form("x".to_owned()), [true, true, true, true]);
        check(IdSource::Body, [false, true, true, true]);
    }

    #[test]
    fn a_pattern_finds_the_nth_match_or_the_group() {
        let check = |pattern: &str, index: usize, expected: Option<&str>| {
            let pattern = Pattern::new(pattern, index).expect("a pattern");
            assert_eq!(pattern.find(b"one-two-three"), expected.map(str::as_bytes));
        };
        check("[^-]+$", 0, Some("three"));
        check("[a-z]+", 0, Some("one"));
        check("[a-z]+", 1, Some("two"));
        check("([a-z])[a-z]+", 1, Some("two"));
        check("[a-z]+", 3, None);
        check("-(?<id>[a-z]+)", 1, Some("three"));
        check("(?<id>four)|one", 0, None);
        check("x*", 0, Some(""));
    }

    #[test]
    fn patterns_and_pointers_have_bounds() {
        assert_eq!(Pattern::new(&"a".repeat(5_000), 0).err(), Some(PatternInvalid::TooLong));
        assert_eq!(Pattern::new("a", 101).err(), Some(PatternInvalid::Index));
        assert!(matches!(Pattern::new("(a{1000}){1000}", 0), Err(PatternInvalid::Regex(_))));
        assert!(matches!(Pattern::new(r"(a)\1", 0), Err(PatternInvalid::Regex(_))));
        assert_eq!(
            JsonPointer::parse("/a/0/b~1c~0").map(|pointer| pointer.as_str().to_owned()),
            Ok("/a/0/b~1c~0".to_owned())
        );
        for wrong in ["", "a", "/a~2", "/a~"] {
            assert_eq!(JsonPointer::parse(wrong), Err(JsonPointerInvalid), "{wrong}");
        }
    }
}
