//! Log lines: text on a terminal, JSON otherwise, one line an event whatever it holds.
//!
//! Any field may hold what a stranger wrote, an error's text above all, so every value is made visible here.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write};
use std::net::IpAddr;
use std::time::Duration;

use tracing::Dispatch;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::UtcTime;

use super::text::{Visible, escaped, json_escaped};
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
    let shape = if as_text { Shape::Text { colours } } else { Shape::Json };
    // The only error is that there is a log already.
    let _ = tracing::dispatcher::set_global_default(lines(shape, parsed, io::stderr));
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    Text { colours: bool },
    Json,
}

fn lines<W>(shape: Shape, filter: EnvFilter, writer: W) -> Dispatch
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_timer(UtcTime::rfc_3339());
    match shape {
        Shape::Text { colours } => {
            let fields = debug_fn(write_field).delimited(" ");
            lines.with_ansi(colours).fmt_fields(fields).with_writer(writer).into()
        }
        Shape::Json => lines.json().flatten_event(true).with_writer(VisibleJson(writer)).into(),
    }
}

/// A field of a text line. The subscriber's own formatter leaves line breaks and marks of direction as they are.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => {}
        name if writer.has_ansi_escapes() => write!(writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m")?,
        name => write!(writer, "{name}=")?,
    }
    write!(Visible(writer), "{value:?}")
}

/// Makes visible what JSON itself lets through: C1 controls and marks of direction.
#[derive(Debug)]
struct VisibleJson<W>(W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for VisibleJson<W> {
    type Writer = VisibleJson<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        VisibleJson(self.0.make_writer())
    }
}

impl<W: Write> Write for VisibleJson<W> {
    /// Takes whole lines, as the subscriber writes them.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (event, end) = text.strip_suffix('\n').map_or((&*text, ""), |event| (event, "\n"));
        let is_plain = event.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let visible: Cow<'_, str> = if is_plain { event.into() } else { json_escaped(event).into() };
        self.0.write_all(&[visible.as_bytes(), end.as_bytes()].concat())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What a line of the access log tells.
#[derive(Debug, Clone, Copy)]
pub struct AccessLine<'a> {
    /// The API; empty where none was found.
    pub api: &'a str,
    /// The request's id.
    pub request_id: &'a str,
    /// The request that it comes from, where a plugin made it of another one.
    pub parent: Option<&'a str>,
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
        parent = line.parent,
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What a stranger may put in an error's text: a forged line, a colour, a C1 control, a mark of direction.
    const STRANGE: &str =
        "no\r\n2026-01-01T00:00:00Z  INFO stile: all is well\u{1b}[31m\u{9b}2J\u{202e}\u{2028}\u{7f}end";

    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(shape: Shape) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let dispatch = lines(shape, EnvFilter::new("info"), move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, || {
            let error = io::Error::other(STRANGE);
            tracing::error_span!("span", %error).in_scope(|| {
                tracing::warn!(%error, debug = ?error, text = STRANGE, number = 7, "lost: {error}");
            });
        });
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[track_caller]
    fn is_one_visible_line(text: &str) {
        let line = text.strip_suffix('\n').unwrap();
        let mut visible = String::new();
        write!(Visible(&mut visible), "{line}").unwrap();
        assert_eq!(visible, line);
    }

    #[test]
    fn no_field_forges_a_line_of_text() {
        let line = written(Shape::Text { colours: false });
        is_one_visible_line(&line);
        let message = "lost: no\\r\\n2026-01-01T00:00:00Z  INFO stile: all is well\\u{1b}[31m\\u{9b}2J\\u{202e}\\u{2028}\\u{7f}end";
        assert!(line.contains(&format!("{message} error=no\\r\\n2026")) && line.contains(" number=7"), "{line}");
    }

    #[test]
    fn colours_of_a_terminal_are_the_gateways_own() {
        let line = written(Shape::Text { colours: true });
        assert!(line.contains("\u{1b}[3merror\u{1b}[0m\u{1b}[2m=\u{1b}[0mno\\r\\n"), "{line}");
        assert!(line.contains("\u{1b}[33m WARN\u{1b}[0m"), "{line}");
        let colours = ["[0m", "[1m", "[2m", "[3m", "[33m"];
        is_one_visible_line(&colours.iter().fold(line, |line, of| line.replace(&format!("\u{1b}{of}"), "")));
    }

    #[test]
    fn no_field_hides_anything_in_a_line_of_json() {
        let line = written(Shape::Json);
        is_one_visible_line(&line);
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event.get("error").unwrap(), STRANGE);
        assert_eq!(event.get("text").unwrap(), STRANGE);
        assert_eq!(event.get("number").unwrap(), 7);
    }
}
