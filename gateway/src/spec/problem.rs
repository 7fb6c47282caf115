//! What is wrong with a definition: where, what, and what to do about it.

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use crate::telemetry::text::Visible;

/// One problem of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether it keeps the definition from being used.
    pub severity: Severity,
    /// The file that it stands in.
    pub file: PathBuf,
    /// The place inside the file (`apis[2].hooks.pre[0].plugin`); empty for the file as a whole.
    pub path: String,
    /// What is wrong. Never holds a value taken from the environment.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// Whether a problem keeps a definition from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It does not.
    Warning,
    /// It does.
    Error,
}

/// All problems of a definition: at least one error, with the warnings beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// How many problems have this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|p| p.severity == severity).count()
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// `error: file: path: message`, and the hint on a line of its own. Errors of others repeat what they could not read, on lines of
/// their own: what is hidden in it is written as escapes.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.severity, self.file.display())?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        for (index, line) in self.message.split('\n').enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            Visible(&mut *f).write_str(line)?;
        }
        if !self.hint.is_empty() {
            write!(f, "\n  hint: {}", self.hint)?;
        }
        Ok(())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}
