//! `stile check`: every problem of a configuration, then a summary.

use std::io::Write;
use std::path::Path;

use super::{Failure, serve};
use crate::model::gateway::Gateway;
use crate::plugin::load::PluginFile;
use crate::spec::{self, Problem, Severity};

/// Reads the configuration and writes what it found to `out`.
pub(super) fn check(path: &Path, explain: bool, deny_warnings: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let (gateway, problems) = match spec::read(path) {
        Ok((gateway, warnings)) => (Some(gateway), warnings),
        Err(problems) => (None, problems.0),
    };
    for problem in &problems {
        writeln!(out, "{problem}").map_err(Failure::Output)?;
    }
    let errors = count(&problems, Severity::Error);
    let warnings = count(&problems, Severity::Warning);
    let found = format!("{}, {}", counted(errors, "error"), counted(warnings, "warning"));
    let Some(gateway) = gateway.filter(|_| warnings == 0 || !deny_warnings) else {
        writeln!(out, "{}: {found}", path.display()).map_err(Failure::Output)?;
        return Err(Failure::Told);
    };
    if explain {
        serve::explain(&gateway, out)?;
    } else if !gateway.plugins.is_empty() {
        provenance(&gateway, out)?;
        writeln!(out, "note: plugins are not loaded here; `--explain` loads them as `serve` does")
            .map_err(Failure::Output)?;
    }
    let parts = format!("{}, {}", counted(gateway.apis.len(), "API"), counted(gateway.plugins.len(), "plugin"));
    writeln!(out, "{}: good: {parts}; {found}", path.display()).map_err(Failure::Output)
}

/// Looks at the files of plugins that are pinned or must be signed, those on this machine.
fn provenance(gateway: &Gateway, out: &mut dyn Write) -> Result<(), Failure> {
    let mut is_good = true;
    for spec in gateway.plugins.iter().filter(|spec| spec.source.file().is_some() && !spec.provenance.is_open()) {
        if let Err(error) = PluginFile::read(spec) {
            is_good = false;
            writeln!(out, "error: plugins.{}: {error}", spec.name).map_err(Failure::Output)?;
        }
    }
    if is_good { Ok(()) } else { Err(Failure::Told) }
}

fn count(problems: &[Problem], severity: Severity) -> usize {
    problems.iter().filter(|p| p.severity == severity).count()
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
