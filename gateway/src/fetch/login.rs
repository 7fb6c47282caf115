//! What a server is told of who asks, and what it means when that does not open the door.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use super::{FetchError, Kind};
use crate::model::account::Account;
use crate::model::api::Origin;

/// Who the gateway is to one server.
pub(super) struct Login<'a> {
    server: &'a Origin,
    account: Option<&'a Account>,
    /// Another server, which gave out a token and was told nothing.
    tokens_from: Option<Origin>,
}

impl<'a> Login<'a> {
    pub(super) fn new(accounts: &'a [Account], server: &'a Origin) -> Self {
        let account = accounts.iter().find(|account| account.server == *server);
        Self { server, account, tokens_from: None }
    }

    /// What the server itself is told.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        basic(self.account?)
    }

    /// What a server is told that the first one names for tokens: nothing, unless the account says so. Whoever answers for a
    /// registry could name any other one, and have a token for what is there.
    pub(super) fn basic_for_tokens(&mut self, server: &Origin) -> Option<HeaderValue> {
        let account = self.account.filter(|account| account.gets_tokens_from(server));
        if account.is_none() && server != self.server {
            self.tokens_from = Some(server.clone());
        }
        basic(account?)
    }

    /// Says which key of the configuration would help.
    pub(super) fn explained(&self, error: FetchError) -> FetchError {
        if error.kind != Kind::Denied {
            return error;
        }
        let server = self.server;
        let hint = match (self.account, &self.tokens_from) {
            (Some(_), None) => {
                format!("`username` or `password` of `fetch.accounts` for `{server}` is not good for it")
            }
            (Some(_), Some(other)) => format!(
                "its tokens come from `{other}`, which is told no password before `token_server` in `fetch.accounts` for `{server}` \
                 names it"
            ),
            (None, None) => format!("it may want an account: add one to `fetch.accounts` with `url: {server}`"),
            (None, Some(other)) => format!(
                "it may want an account: add one to `fetch.accounts` with `url: {server}` and `token_server: {other}`"
            ),
        };
        FetchError::new(Kind::Denied, format!("{error}; {hint}"))
    }
}

/// As RFC 7617 has it. A name has no colon.
fn basic(account: &Account) -> Option<HeaderValue> {
    let text = STANDARD.encode(format!("{}:{}", account.username, account.password.expose()));
    let mut value = HeaderValue::try_from(format!("Basic {text}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::SecretValue;

    fn origin(text: &str) -> Origin {
        Origin::parse(text).expect("an origin")
    }

    fn account(server: &str, token_server: Option<&str>) -> Account {
        let password = SecretValue::parse("open sesame").expect("a password");
        let (server, token_server) = (origin(server), token_server.map(origin));
        Account { server, token_server, username: "Aladdin".to_owned(), password }
    }

    #[test]
    fn a_password_goes_to_its_server_and_to_the_one_that_is_named_for_tokens() {
        let accounts = [account("https://a.test", Some("https://tokens.test")), account("https://b.test:8443", None)];
        let told = |server: &str, asked: Option<&str>| {
            let server = origin(server);
            let mut login = Login::new(&accounts, &server);
            let value = match asked {
                Some(asked) => login.basic_for_tokens(&origin(asked)),
                None => login.basic(),
            };
            value.is_some_and(|value| value == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==" && value.is_sensitive())
        };
        for (server, asked) in [
            ("https://a.test", None),
            ("https://a.test:443", None),
            ("https://A.test", Some("https://a.test")),
            ("https://a.test", Some("https://tokens.test")),
            ("https://b.test:8443", Some("https://b.test:8443")),
        ] {
            assert!(told(server, asked), "{server} {asked:?}");
        }
        for (server, asked) in [
            ("http://a.test", None),
            ("https://a.test:8443", None),
            ("https://b.test", None),
            ("https://sub.a.test", None),
            ("https://a.test", Some("https://b.test:8443")),
            ("https://a.test", Some("http://tokens.test")),
            ("https://b.test:8443", Some("https://tokens.test")),
            // There is no account here: another one's is none of its business.
            ("https://evil.test", Some("https://tokens.test")),
            ("https://evil.test", Some("https://a.test")),
        ] {
            assert!(!told(server, asked), "{server} {asked:?}");
        }
    }
}
