//! `stile serve`, and `stile check --explain`, which builds the same parts.

use std::io::Write;
use std::path::Path;

use super::Failure;
use crate::model::gateway::Gateway;
use crate::spec;

/// Reads the configuration, serves until told to stop, and drains.
pub(super) fn serve(path: &Path, err: &mut dyn Write) -> Result<(), Failure> {
    let (gateway, warnings) = spec::read(path).map_err(Failure::usage)?;
    for warning in &warnings {
        // The gateway runs whether or not somebody reads this.
        let _ = writeln!(err, "{warning}");
    }
    run(gateway)
}

/// Builds the parts of the gateway and runs them on this thread and its workers.
fn run(_gateway: Gateway) -> Result<(), Failure> {
    Err(Failure::Run(anyhow::anyhow!("this build cannot serve yet")))
}

/// Writes the order of work of each API.
pub(super) fn explain(_gateway: &Gateway, _out: &mut dyn Write) -> Result<(), Failure> {
    Err(Failure::Run(anyhow::anyhow!("this build cannot explain yet")))
}
