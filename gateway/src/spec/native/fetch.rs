//! How plugins are fetched, and the accounts for it, from raw to model.

use std::time::Duration;

use super::gateway::existing;
use super::report::{Place, Report};
use super::{Environment, outgoing, raw_fetch as raw};
use crate::model::account::Account;
use crate::model::api::Origin;
use crate::model::gateway::FetchSettings;
use crate::model::source::is_this_machine;

/// Converts all but the accounts.
pub(super) fn convert(raw: &raw::Fetch, place: &Place, report: &mut Report) -> Option<FetchSettings> {
    let ca_file = match &raw.ca_file {
        Some(file) => Some(existing(file, &place.key("ca_file"), "file of certificate authorities", report)?),
        None => None,
    };
    if raw.retry_pause_min_ms > raw.retry_pause_max_ms {
        let message = format!("`retry_pause_min_ms` ({}) is above `retry_pause_max_ms`", raw.retry_pause_min_ms);
        report.error(place, message, "lower it, or raise `retry_pause_max_ms`");
        return None;
    }
    Some(FetchSettings {
        time_max: Duration::from_millis(raw.time_max_ms),
        redirects_max: raw.redirects_max,
        cache_bytes_max: raw.cache_bytes_max,
        cache_age_max: Duration::from_millis(raw.cache_age_max_ms),
        ca_file,
        retry_pause_min: Duration::from_millis(raw.retry_pause_min_ms),
        retry_pause_max: Duration::from_millis(raw.retry_pause_max_ms),
    })
}

/// Converts the accounts, and reads their passwords: one that is missing is an error now, not at the first fetch.
pub(super) fn accounts(
    raw: &[raw::Account],
    environment: Environment<'_>,
    place: &Place,
    report: &mut Report,
) -> Option<Vec<Account>> {
    let mut read: Vec<Account> = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let place = place.item(index);
        let server = server(&raw.url, &place.key("url"), report);
        let token_server = match &raw.token_server {
            Some(url) => self::server(url, &place.key("token_server"), report).map(Some),
            None => Some(None),
        };
        let username = is_username(&raw.username).then(|| raw.username.clone());
        if username.is_none() {
            let message = "is not 1 to 256 visible ASCII characters without a colon";
            report.error(&place.key("username"), message, "write the name that the server knows");
        }
        let from = (raw.password.env.as_deref(), raw.password.file.as_deref());
        let password = outgoing::value(from, environment, &place.key("password"), report);
        let (Some(server), Some(token_server), Some(username), Some(password)) =
            (server, token_server, username, password)
        else {
            continue;
        };
        if read.iter().any(|other| other.server == server) {
            let hint = "one account is used for all plugins of a server: take one of them out";
            report.error(&place.key("url"), format!("there is another account at `{server}`"), hint);
            continue;
        }
        read.push(Account { server, token_server, username, password });
    }
    (read.len() == raw.len()).then_some(read)
}

/// A server that may be told a password.
fn server(text: &str, place: &Place, report: &mut Report) -> Option<Origin> {
    let Some(server) = Origin::parse(text) else {
        let hint = "such as `https://registry.example.com`, without a path";
        report.invalid(place, text, "a server", "", hint);
        return None;
    };
    if !server.tls && !is_this_machine(&server.host) {
        report.error(place, "anybody on the way could read the password over `http://`", "write `https://`");
        return None;
    }
    Some(server)
}

fn is_username(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    (1..=USERNAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

const USERNAME_BYTES_MAX: usize = 256;
