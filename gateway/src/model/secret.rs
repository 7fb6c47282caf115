//! Secrets that plugins may use and never hold.

use std::fmt;
use std::sync::Arc;

use super::outgoing::{Destination, Site};

/// A secret of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginSecret {
    /// The name by which the plugin asks for it.
    pub name: String,
    /// The value.
    pub value: SecretValue,
    /// Where it may go; everywhere that the plugin may where this is empty.
    pub to: Vec<Destination>,
}

impl PluginSecret {
    /// Whether a request to this place may carry it.
    pub fn may_go(&self, site: &Site) -> bool {
        self.to.is_empty() || self.to.iter().any(|entry| entry.admits(site))
    }
}

/// The text of a secret. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Arc<str>);

/// A text that cannot stand in a header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 1 to {BYTES_MAX} visible ASCII characters")]
pub struct SecretInvalid;

impl SecretValue {
    /// Takes a text of visible ASCII characters and spaces, without spaces around it.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, SecretInvalid> {
        let is_plain = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        let is_value = (1..=BYTES_MAX).contains(&text.len()) && is_plain && text.trim() == text;
        if is_value { Ok(Self(text.into())) } else { Err(SecretInvalid) }
    }

    /// The text. Only what writes it to a connection asks for it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

const BYTES_MAX: usize = 4_096;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_secret_fits_into_a_header_and_is_not_shown() {
        for text in ["", " a", "a ", "a\r\nb", "a\nb", "\u{fc}", &"a".repeat(BYTES_MAX + 1)] {
            assert_eq!(SecretValue::parse(text), Err(SecretInvalid), "{text:?}");
        }
        assert_eq!(SecretValue::parse("two words").unwrap().expose(), "two words");
        assert_eq!(format!("{:?}", SecretValue::parse("hunter2").unwrap()), "SecretValue(…)");
    }
}
