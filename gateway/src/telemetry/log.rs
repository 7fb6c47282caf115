//! Log lines: text on a terminal, JSON otherwise, one line an event whatever it holds.

use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::UtcTime;

use super::text::escaped;
use crate::model::gateway::{AccessLog, Log, LogFormat};

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error("log filter `{filter}` is not valid: {reason}; an example is `info,stile::guest=debug`")]
    Filter {
        /// As it was written.
        filter: String,
        /// What is wrong.
        reason: String,
    },
}

/// Sets the process's log up, on standard error. `STILE_LOG` takes the place of the configured filter. Does nothing when a
/// log is set up already, as in tests.
pub fn init(log: &Log) -> Result<(), LogError> {
    let filter = std::env::var("STILE_LOG").unwrap_or_else(|_| log.filter.clone());
    let parsed = EnvFilter::try_new(&filter).map_err(|error| LogError::Filter { filter, reason: error.to_string() })?;
    let is_terminal = std::io::stderr().is_terminal();
    let as_text = match log.format {
        LogFormat::Auto => is_terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let colours = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines =
        tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr).with_timer(UtcTime::rfc_3339());
    // The only error is that there is a log already.
    let _ = if as_text { lines.with_ansi(colours).try_init() } else { lines.json().flatten_event(true).try_init() };
    Ok(())
}

/// What a line of the access log tells.
#[derive(Debug, Clone, Copy)]
pub struct AccessLine<'a> {
    /// The API; empty where none was found.
    pub api: &'a str,
    /// The request's id.
    pub request_id: &'a str,
    /// The caller.
    pub client: IpAddr,
    /// The method.
    pub method: &'a str,
    /// The path as the caller sent it.
    pub path: &'a str,
    /// The version of HTTP.
    pub protocol: http::Version,
    /// The status of the answer.
    pub status: u16,
    /// Body bytes to the caller.
    pub bytes: u64,
    /// From the request's head to the answer's end.
    pub time: Duration,
    /// Of which waiting for the upstream.
    pub upstream: Duration,
}

/// Whether a request that ended so gets a line.
pub const fn wants(policy: AccessLog, status: u16) -> bool {
    match policy {
        AccessLog::Off => false,
        AccessLog::Errors => status >= 500,
        AccessLog::All => true,
    }
}

/// Writes a line of the access log.
pub fn access(line: &AccessLine<'_>) {
    tracing::info!(
        target: "stile::access",
        api = line.api,
        request_id = line.request_id,
        client = %line.client,
        method = %escaped(line.method, METHOD_BYTES_MAX),
        path = %escaped(line.path, PATH_BYTES_MAX),
        protocol = ?line.protocol,
        status = line.status,
        bytes = line.bytes,
        duration_us = u64::try_from(line.time.as_micros()).unwrap_or(u64::MAX),
        upstream_us = u64::try_from(line.upstream.as_micros()).unwrap_or(u64::MAX),
    );
}

const METHOD_BYTES_MAX: usize = 32;
const PATH_BYTES_MAX: usize = 1024;
