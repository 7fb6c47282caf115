//! Patterns of paths, compiled once for all sessions that have them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use regex::bytes::{Regex, RegexBuilder};

use super::Call;

/// A pattern that begins where a path begins.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    /// Plain text, which is what most are.
    Text(Arc<str>),
    /// A regular expression, in time linear in the path.
    Regex(Arc<Regex>),
}

/// The compiled patterns that some session has, so that a thousand sessions of one policy share one of each.
#[derive(Debug, Default)]
pub struct Patterns {
    known: Mutex<HashMap<String, Weak<Regex>>>,
}

/// What one session may still have.
#[derive(Debug)]
pub(super) struct Budget {
    count: usize,
    bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { count: COUNT_MAX, bytes: BYTES_MAX }
    }
}

impl Pattern {
    /// Whether the whole path or the one below the listen path begins with it.
    pub(super) fn matches(&self, call: &Call<'_>) -> bool {
        [call.stripped, call.path].into_iter().any(|path| match self {
            Self::Text(text) => path.starts_with(&**text),
            Self::Regex(regex) => regex.is_match(path.as_bytes()),
        })
    }
}

impl Patterns {
    /// Compiled patterns held at this moment, those of sessions that are gone among them.
    pub fn held(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The pattern, or a sentence for the log.
    pub(super) fn get(&self, text: &str, budget: &mut Budget) -> Result<Pattern, String> {
        let shown = text.chars().take(80).collect::<String>();
        let (Some(count), Some(bytes)) = (budget.count.checked_sub(1), budget.bytes.checked_sub(text.len())) else {
            return Err(format!("path `{}` is one too many", shown.escape_debug()));
        };
        (budget.count, budget.bytes) = (count, bytes);
        let body = text.strip_prefix('^').unwrap_or(text);
        if !body.contains(|c: char| regex_syntax_characters(c)) {
            return Ok(Pattern::Text(body.into()));
        }
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(text).and_then(Weak::upgrade)
        {
            return Ok(Pattern::Regex(known));
        }
        // Compiled outside of the lock: others may do the same meanwhile, and the last one is kept.
        let regex =
            compile(body).map_err(|error| format!("path `{}` cannot be used: {error}", shown.escape_debug()))?;
        let regex = Arc::new(regex);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.retain(|_, regex| regex.strong_count() > 0);
        }
        if known.len() < KNOWN_MAX {
            known.insert(text.to_owned(), Arc::downgrade(&regex));
        }
        Ok(Pattern::Regex(regex))
    }
}

/// Canonical paths are ASCII, so classes such as `\w` are too, which keeps them small.
fn compile(body: &str) -> Result<Regex, regex::Error> {
    let build = |text: &str| {
        let mut builder = RegexBuilder::new(text);
        builder.unicode(false).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build()
    };
    let body = without_parameters(body);
    // By itself first: `a)|(b` would close the group and match anywhere.
    build(&body)?;
    build(&format!("^(?:{body})"))
}

/// `{id}` of a path template stands for one segment, as it does in Tyk's newer matching; `{2,3}` stays a repetition.
fn without_parameters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let name = after.split_once('}').filter(|(name, _)| {
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
                // `\p{…}`, `\x{…}`
                && !before.trim_end_matches(|c: char| c.is_ascii_alphabetic()).ends_with('\\')
        });
        rest = match name {
            Some((_, after)) => {
                out.push_str("[^/]+");
                after
            }
            None => {
                let _ = write!(out, "{{");
                after
            }
        };
    }
    out.push_str(rest);
    out
}

const fn regex_syntax_characters(c: char) -> bool {
    matches!(c, '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' | '#')
}

/// Of one session.
const COUNT_MAX: usize = 1_000;
const BYTES_MAX: usize = 64 << 10;
/// Of one pattern. Fifty times what a usual one takes.
const COMPILED_BYTES_MAX: usize = 128 << 10;
/// Over all sessions; more are compiled for their session alone.
const KNOWN_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_segments() {
        let check = |text: &str, expected: &str| assert_eq!(without_parameters(text), expected);
        check("/a/{id}/b", "/a/[^/]+/b");
        check("/a{2,3}/{user-id}", "/a{2,3}/[^/]+");
        check(r"/\x{41}/{", r"/\x{41}/{");
        check("/a", "/a");
    }

    #[test]
    fn sessions_share_what_they_have_in_common() {
        let patterns = Patterns::default();
        let get = || patterns.get("/a/[0-9]+", &mut Budget::default()).expect("a pattern");
        let (one, two) = (get(), get());
        let (Pattern::Regex(a), Pattern::Regex(b)) = (&one, &two) else { panic!("{one:?}") };
        assert!(Arc::ptr_eq(a, b));
        assert_eq!(patterns.held(), 1);
        patterns.get("/plain", &mut Budget::default()).expect("a pattern");
        assert_eq!(patterns.held(), 1, "plain text is not compiled");
    }

    #[test]
    fn patterns_of_sessions_that_are_gone_make_room() {
        let patterns = Patterns::default();
        let mut kept = Vec::new();
        for n in 0..KNOWN_MAX {
            patterns.known.lock().expect("a lock").insert(format!("gone{n}"), Weak::new());
        }
        kept.push(patterns.get("/a.*", &mut Budget::default()).expect("a pattern"));
        assert_eq!(patterns.held(), 1);
    }
}
