//! Patterns of paths, compiled once for all sessions that have them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use regex::bytes::Regex;

use super::Call;
use crate::model::pattern::{compile, is_plain};

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
        if is_plain(body) {
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

/// Of one session.
const COUNT_MAX: usize = 1_000;
const BYTES_MAX: usize = 64 << 10;
/// Over all sessions; more are compiled for their session alone.
const KNOWN_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

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

    // limit: pipeline::rights::pattern::COUNT_MAX
    // limit: pipeline::rights::pattern::BYTES_MAX
    #[test]
    fn a_session_has_so_many_patterns_and_so_long_ones() {
        let patterns = Patterns::default();
        let mut budget = Budget::default();
        assert!((0..COUNT_MAX).all(|_| patterns.get("/a", &mut budget).is_ok()));
        assert!(patterns.get("/a", &mut budget).is_err());
        assert!(patterns.get(&"a".repeat(BYTES_MAX), &mut Budget::default()).is_ok());
        assert!(patterns.get(&"a".repeat(BYTES_MAX + 1), &mut Budget::default()).is_err());
    }

    // limit: pipeline::rights::pattern::KNOWN_MAX
    #[test]
    fn so_many_patterns_are_shared() {
        let patterns = Patterns::default();
        let regex = Arc::new(Regex::new("x").expect("a pattern"));
        for n in 1..KNOWN_MAX {
            patterns.known.lock().expect("a lock").insert(format!("held{n}"), Arc::downgrade(&regex));
        }
        for text in ["/a.*", "/b.*"] {
            patterns.get(text, &mut Budget::default()).expect("a pattern");
            assert_eq!(patterns.held(), KNOWN_MAX, "{text}");
        }
        drop(regex);
        patterns.get("/b.*", &mut Budget::default()).expect("a pattern");
        assert_eq!(patterns.held(), 1, "those that are gone make room");
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
