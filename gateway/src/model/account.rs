//! Who the gateway is to servers that have files of plugins.

use super::api::Origin;
use super::secret::SecretValue;

/// An account at a server. Its password goes to that server, and to the one that it is said to have its tokens from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The server.
    pub server: Origin,
    /// The server that gives out tokens for it, where that is another one.
    pub token_server: Option<Origin>,
    /// Its name: visible ASCII characters without a colon.
    pub username: String,
    /// Its password.
    pub password: SecretValue,
}

impl Account {
    /// Whether a server that is asked for tokens may be told the password.
    pub fn gets_tokens_from(&self, server: &Origin) -> bool {
        *server == self.server || self.token_server.as_ref() == Some(server)
    }
}
