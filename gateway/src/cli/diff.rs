//! `stile plugin diff`: which rights a new version of a component has gained and lost against an old one.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::inspect::Inspector;
use super::{Failure, table};
use crate::plugin::load::Generation;
use crate::plugin::rights::{Right, Rights};

/// Compares two component files and writes what it found, as a table or JSON. Rights that were gained are a failure.
pub(super) fn diff(old: &Path, new: &Path, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let inspector = Inspector::new()?;
    let (old, new) = (inspector.load(old, None)?, inspector.load(new, None)?);
    let (before, now) = (Rights::of(&old), Rights::of(&new));
    let (gained, lost) = (now.beyond(&before), before.beyond(&now));
    let written = match json {
        true => writeln!(out, "{:#}", as_json(&old, &new, &gained, &lost)),
        false => write_text(&old, &new, &gained, &lost, out),
    };
    written.map_err(Failure::Output)?;
    if gained.is_empty() {
        return Ok(());
    }
    out.flush().map_err(Failure::Output)?;
    let count = gained.len();
    Err(Failure::Run(anyhow::anyhow!("rights gained: {count}")))
}

fn write_text(
    old: &Generation,
    new: &Generation,
    gained: &[Right],
    lost: &[Right],
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let version =
        |of: &Generation| format!("{} {} (sha256:{})", of.description.name, of.description.version, of.digest.hex());
    table::rows(out, &[("old", version(old)), ("new", version(new))])?;
    if gained.is_empty() && lost.is_empty() {
        return writeln!(out, "the same rights");
    }
    let row = |change: &str, right: &Right| {
        let why = right.why.clone().unwrap_or_default();
        vec![change.to_owned(), right.kind.as_str().to_owned(), right.what.clone(), why]
    };
    let rows = gained.iter().map(|right| row("gained", right)).chain(lost.iter().map(|right| row("lost", right)));
    table::table(out, &["", "right", "what", "why"], &rows.collect::<Vec<_>>())
}

fn as_json(old: &Generation, new: &Generation, gained: &[Right], lost: &[Right]) -> Value {
    let version = |of: &Generation| json!({ "name": of.description.name, "version": of.description.version, "sha256": of.digest.hex() });
    let list = |rights: &[Right]| -> Value {
        let shown = |right: &Right| json!({ "right": right.kind.as_str(), "what": right.what, "why": right.why });
        rights.iter().map(shown).collect()
    };
    json!({ "old": version(old), "new": version(new), "gained": list(gained), "lost": list(lost) })
}
