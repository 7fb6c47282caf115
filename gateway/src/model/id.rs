//! Names that must not be mixed up, each a type of its own.

use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Takes a name of 1 to 128 letters, digits, `-`, `_`, `.`: it stands in metrics, logs, file names and URLs.
            pub fn parse(text: &str) -> Result<Self, NameInvalid> {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.chars().all(plain) {
                    return Err(NameInvalid);
                }
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Names an API within a gateway.
    ApiId
}
name! {
    /// Names a plugin of the configuration: one component file with its grants and limits.
    PluginName
}

name! {
    /// Names a version of an API.
    VersionName
}

/// A name was empty, too long, or held a character that has no place in a metric label or URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a name: 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`")]
pub struct NameInvalid;

const NAME_BYTES_MAX: usize = 128;
