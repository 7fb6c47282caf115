//! Lines of guests in the gateway's log.

use super::{Host, imports};
use crate::telemetry::text::escaped;
use imports::log::Level;

impl imports::log::Host for Host {
    fn log(&mut self, level: Level, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        let field_bytes: usize = fields.iter().map(|(name, value)| name.len() + value.len() + FIELD_BYTES).sum();
        let bytes = u64::try_from(message.len() + field_bytes).unwrap_or(u64::MAX);
        // A line that is dropped was carried all the same.
        self.owe(bytes);
        let (Some(lines_left), Some(bytes_left)) =
            (self.log_lines_left.checked_sub(1), self.log_bytes_left.checked_sub(bytes))
        else {
            self.log_lines_dropped = self.log_lines_dropped.saturating_add(1);
            return Ok(());
        };
        (self.log_lines_left, self.log_bytes_left) = (lines_left, bytes_left);
        let identity = self.identity()?;
        let message = escaped(&message, MESSAGE_BYTES_MAX);
        let mut text = String::new();
        for (name, value) in &fields {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&escaped(name, MESSAGE_BYTES_MAX));
            text.push('=');
            text.push_str(&escaped(value, MESSAGE_BYTES_MAX));
            if text.len() > MESSAGE_BYTES_MAX {
                break;
            }
        }
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "stile::guest", api = %identity.api, plugin = %identity.plugin, fields = %text, "{message}"
                )
            };
        }
        match level {
            Level::Debug => line!(debug),
            Level::Info => line!(info),
            Level::Warn => line!(warn),
            Level::Error => line!(error),
        }
        Ok(())
    }
}

/// What a field costs beside its text.
const FIELD_BYTES: usize = 16;
/// A line is cut here; how many there may be is a limit of the call.
const MESSAGE_BYTES_MAX: usize = 4096;
