//! Finds the files that `include` names.

use std::path::{Path, PathBuf};

use super::file::sibling;
use super::report::{Place, Report};

/// The files of one entry of `include`, sorted by name.
pub(super) fn files(pattern: &str, place: &Place, report: &mut Report) -> Vec<PathBuf> {
    let path = sibling(place, Path::new(pattern));
    let folder = path.parent().unwrap_or(Path::new(""));
    if folder.to_string_lossy().contains('*') {
        report.error(place, "`*` stands in the name of a folder", "only the file's name may have it: `apis/*.yaml`");
        return Vec::new();
    }
    let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|n| n.contains('*')) else {
        return vec![path];
    };
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    report.source(listed);
    let entries = match std::fs::read_dir(listed) {
        Ok(entries) => entries,
        Err(error) => {
            report.error(
                place,
                format!("folder {} cannot be read: {error}", place.shown(&listed.display().to_string())),
                "",
            );
            return Vec::new();
        }
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|entry| !entry.starts_with('.') && fits(name, entry))
        .collect();
    names.sort();
    if names.is_empty() {
        report.warn(place, format!("no file fits {}", place.shown(pattern)), "");
    }
    names.into_iter().map(|name| folder.join(name)).collect()
}

/// Whether a name fits a pattern in which `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(start) else { return false };
    let Some((middle, end)) = rest.rsplit_once('*') else {
        return name.ends_with(rest);
    };
    let Some(mut name) = name.strip_suffix(end) else { return false };
    for part in middle.split('*') {
        let Some((_, after)) = name.split_once(part) else { return part.is_empty() };
        name = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(fits("*.yaml", "orders.yaml"));
        assert!(fits("a*b*c", "abc"));
        assert!(fits("a*b*c", "a-b-c"));
        assert!(fits("*", ""));
        assert!(!fits("*.yaml", "orders.toml"));
        assert!(!fits("a*b*c", "ac"));
        assert!(!fits("a*a", "a"));
    }
}
