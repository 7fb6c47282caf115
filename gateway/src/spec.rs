//! Definitions: from files to the model.
//!
//! A reader takes a file and gives the whole [`Gateway`], or every problem at once. It reads definition files only:
//! plugins and certificates are looked for, not opened.

mod native;
mod problem;

use std::path::Path;

pub use problem::{Problem, Problems, Severity};

use crate::model::gateway::Gateway;

/// Reads a configuration file, YAML or TOML by its extension, with the files that it includes.
///
/// `${NAME}` in values comes from the process's environment, and such values are shown in no problem; only the name of
/// an included file is, because a problem must say where it stands. Gives the model with the warnings, or all problems.
pub fn read(path: &Path) -> Result<(Gateway, Vec<Problem>), Problems> {
    read_with(path, &|name| std::env::var(name).ok())
}

/// Like [`read`], with an environment of the caller's.
pub fn read_with(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(Gateway, Vec<Problem>), Problems> {
    native::read(path, environment)
}

/// The JSON Schema of the configuration file.
pub fn schema() -> serde_json::Value {
    native::schema()
}
