//! Collects problems, each with its place, and keeps values of the environment out of their texts.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::prune::{Pruned, is_at_or_below};
use crate::spec::{Problem, Severity};

/// A definition file that is being read.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// As it is shown to people.
    pub(super) file: PathBuf,
    /// Its absolute folder: relative paths in the file begin here.
    pub(super) folder: PathBuf,
    /// Paths inside the file whose values hold something of the environment.
    pub(super) secret: BTreeSet<String>,
    /// Paths inside the file with a problem of shape, which has been told.
    pub(super) broken: Vec<String>,
    /// What was done to make the rest of it usable.
    pub(super) pruned: Pruned,
}

impl Source {
    /// Whether a further problem at this place may only follow from one of shape: it holds something broken, is read by
    /// something broken, or nobody wrote it.
    fn is_doubtful(&self, path: &str) -> bool {
        if path.is_empty() || is_definition(path) {
            return false;
        }
        let is_blamed = |broken: &String| is_at_or_below(broken, path);
        let leads = |other: &String| parent(other) == parent(path) && leads(last_key(other), last_key(path));
        self.pruned.is_stand_in(path)
            || self.broken.iter().any(is_blamed)
            || self.broken.iter().chain(self.pruned.stand_ins()).any(leads)
    }
}

/// Whether a key says how the one beside it is read.
fn leads(leader: &str, follower: &str) -> bool {
    LEADERS.iter().any(|(known, followers)| *known == leader && followers.contains(&follower))
}

/// The key that a path ends with.
fn last_key(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// Whether a place is a whole API, plugin or policy.
fn is_definition(path: &str) -> bool {
    matches!(parent(path), "apis" | "plugins" | "policies")
}

/// The place that a place is in.
fn parent(path: &str) -> &str {
    let end = if path.ends_with(']') { path.rfind('[') } else { path.rfind('.') };
    end.and_then(|end| path.get(..end)).unwrap_or("")
}

/// A place inside a file.
#[derive(Debug, Clone)]
pub(super) struct Place {
    source: Rc<Source>,
    path: String,
}

impl Place {
    pub(super) fn root(source: Rc<Source>) -> Self {
        Self { source, path: String::new() }
    }

    /// The place of a key below this one.
    pub(super) fn key(&self, key: &str) -> Self {
        Self { source: Rc::clone(&self.source), path: join_key(&self.path, key) }
    }

    /// The place of an item of what is left of this list.
    pub(super) fn item(&self, index: usize) -> Self {
        let index = self.source.pruned.original(&self.path, index);
        Self { source: Rc::clone(&self.source), path: join_item(&self.path, index) }
    }

    /// Whether nothing at this place or below has the wrong shape.
    pub(super) fn is_whole(&self) -> bool {
        !self.source.broken.iter().any(|broken| is_at_or_below(broken, &self.path))
    }

    /// Whether what stands at this place is what somebody wrote there, as far as shapes tell.
    pub(super) fn is_sound(&self) -> bool {
        !self.source.is_doubtful(&self.path)
    }

    /// Whether items of the list at this place were taken out.
    pub(super) fn has_lost_items(&self) -> bool {
        self.source.pruned.gone(&self.path) > 0
    }

    /// A place of the same file, by its path.
    pub(super) fn at(&self, path: String) -> Self {
        Self { source: Rc::clone(&self.source), path }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Whether some value at this place or below holds something of the environment.
    pub(super) fn has_secrets(&self) -> bool {
        self.source.secret.iter().any(|p| p.starts_with(&self.path))
    }

    /// The file, as it is shown to people.
    pub(super) fn file(&self) -> &Path {
        &self.source.file
    }

    /// Makes a path of the file absolute.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.source.folder.join(path)
    }

    /// How a file beside this one is shown to people.
    pub(super) fn beside(&self, relative: &Path) -> PathBuf {
        self.source.file.parent().unwrap_or(Path::new("")).join(relative)
    }

    /// The value as a text may show it: short, and a URL without its user and password.
    pub(super) fn shown(&self, value: &str) -> String {
        if self.source.secret.contains(&self.path) {
            return "the value from the environment".to_owned();
        }
        let value = without_user(value);
        let short: String = value.chars().take(SHOWN_CHARS_MAX).collect();
        let dots = if short.len() < value.len() { "…" } else { "" };
        format!("`{}{dots}`", short.escape_debug())
    }
}

/// A URL without what stands before an `@`. In one that is refused nobody knows where a password ends: rather more than less.
fn without_user(value: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = value.split_once("://") else { return Cow::Borrowed(value) };
    let user = match rest.rsplit_once('@') {
        // The last one is that of a manifest in a registry.
        Some((before, after)) if after.starts_with("sha256:") => before.rsplit_once('@').map(|(user, _)| user),
        other => other.map(|(user, _)| user),
    };
    match user.and_then(|user| rest.strip_prefix(user)) {
        Some(rest) => Cow::Owned(format!("{scheme}://***{rest}")),
        None => Cow::Borrowed(value),
    }
}

/// Adds a key to a path.
pub(super) fn join_key(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    match (plain, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{path}.{key}"),
        (false, _) => format!("{path}[{key:?}]"),
    }
}

/// Adds the index of an item to a path.
pub(super) fn join_item(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    sources: Vec<PathBuf>,
}

impl Report {
    /// Notes a file or folder that is read: where it changes, so may what is read from it.
    pub(super) fn source(&mut self, path: &Path) {
        if !self.sources.iter().any(|known| known == path) {
            self.sources.push(path.to_owned());
        }
    }

    /// The files and folders that were read, in their order.
    pub(super) fn take_sources(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.sources)
    }

    pub(super) fn error(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Error, place, message.into(), hint.into());
    }

    pub(super) fn warn(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Warning, place, message.into(), hint.into());
    }

    /// Notes a value that does not parse. The reason may quote the value: it is left out where that is a secret.
    pub(super) fn invalid(&mut self, place: &Place, value: &str, what: &str, reason: impl Display, hint: &str) {
        let reason = reason.to_string();
        let shown = place.shown(value);
        let secret = place.source.secret.contains(&place.path);
        let tail = if reason.is_empty() || secret { String::new() } else { format!(": {reason}") };
        self.error(place, format!("{shown} is not {what}{tail}"), hint);
    }

    fn push(&mut self, severity: Severity, place: &Place, message: String, hint: String) {
        if place.source.is_doubtful(&place.path) {
            return;
        }
        self.problems.push(Problem {
            severity,
            file: place.source.file.clone(),
            path: place.path.clone(),
            message,
            hint,
        });
    }

    /// Takes over what another report holds.
    pub(super) fn append(&mut self, other: Self) {
        self.problems.extend(other.problems);
    }

    /// Takes over what another report holds, but for places that have a problem here.
    pub(super) fn append_elsewhere(&mut self, other: Self) {
        let known: BTreeSet<String> = self.paths().into_iter().collect();
        self.problems.extend(other.problems.into_iter().filter(|problem| !known.contains(&problem.path)));
    }

    /// The paths of all problems.
    pub(super) fn paths(&self) -> Vec<String> {
        self.problems.iter().map(|p| p.path.clone()).collect()
    }

    pub(super) fn has_errors(&self) -> bool {
        self.problems.iter().any(|p| p.severity == Severity::Error)
    }

    /// Errors before warnings, each in the order in which they were found.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|p| std::cmp::Reverse(p.severity));
        self.problems
    }
}

/// Keys that say how others beside them are read, with these.
const LEADERS: [(&str, &[&str]); 9] = [
    ("cluster", &["addresses", "database"]),
    ("from", &["name", "with"]),
    ("isolation", &["reuse_calls_max", "reuse_memory_high_water_bytes"]),
    ("kind", &["embedded", "redis"]),
    ("list", &["default"]),
    ("plugin", &["config", "function", "id_extractor", "policies", "token"]),
    ("target", &["file"]),
    ("url", &["ca_file", "server_name"]),
    ("with", &["json_pointer", "regex", "regex_match_index", "xpath"]),
];
const SHOWN_CHARS_MAX: usize = 80;
