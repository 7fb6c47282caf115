//! What became of each API and plugin when a snapshot was built.

use crate::model::digest::Digest;
use crate::model::id::{ApiId, PluginName};

/// What a build made of the snapshot before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Each plugin of the configuration, and those that are gone.
    pub plugins: Vec<(PluginName, Outcome, Versions)>,
    /// Each API of the configuration, and those that are gone.
    pub apis: Vec<(ApiId, Outcome)>,
}

/// What became of one API or plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there before.
    Added,
    /// It is another one from now on.
    Changed,
    /// Nothing of it changed.
    Unchanged,
    /// It is gone.
    Removed,
    /// What it should become cannot be used: it stays as it was.
    Kept {
        /// Why.
        reason: String,
    },
    /// It cannot be used, and there was none before.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Which versions of a plugin's file were and are in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Versions {
    /// Before.
    pub before: Option<Digest>,
    /// Now.
    pub now: Option<Digest>,
}

impl Outcome {
    /// Its name in answers and logs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Removed => "removed",
            Self::Kept { .. } => "kept",
            Self::Refused { .. } => "refused",
        }
    }

    /// Why it is not as the configuration has it.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Kept { reason } | Self::Refused { reason } => Some(reason),
            Self::Added | Self::Changed | Self::Unchanged | Self::Removed => None,
        }
    }
}

impl Report {
    /// Every outcome.
    pub fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.plugins.iter().map(|(_, outcome, _)| outcome).chain(self.apis.iter().map(|(_, outcome)| outcome))
    }

    /// Whether anything is served otherwise than before.
    pub fn has_changes(&self) -> bool {
        self.outcomes().any(|outcome| matches!(outcome, Outcome::Added | Outcome::Changed | Outcome::Removed))
    }

    /// Writes a line for each API and plugin that did not stay as it was, or could not become what it should. One that is gone is
    /// a warning: callers may still want it.
    pub fn log(&self) {
        for (plugin, outcome, versions) in &self.plugins {
            let digest = |digest: Option<Digest>| digest.map(|digest| digest.short());
            let (before, now) = (digest(versions.before), digest(versions.now));
            let outcome_name = outcome.as_str();
            match outcome.reason() {
                Some(reason) => tracing::error!(%plugin, outcome = outcome_name, now, reason, "plugin reloaded"),
                None if *outcome == Outcome::Unchanged => {}
                None if *outcome == Outcome::Removed => {
                    tracing::warn!(%plugin, outcome = outcome_name, before, "plugin removed: no definition declares it any more");
                }
                None => tracing::info!(%plugin, outcome = outcome_name, before, now, "plugin reloaded"),
            }
        }
        for (api, outcome) in &self.apis {
            let outcome_name = outcome.as_str();
            match outcome.reason() {
                Some(reason) => tracing::error!(%api, outcome = outcome_name, reason, "API reloaded"),
                None if *outcome == Outcome::Unchanged => {}
                None if *outcome == Outcome::Removed => {
                    tracing::warn!(%api, outcome = outcome_name, "API removed: no definition has it any more");
                }
                None => tracing::info!(%api, outcome = outcome_name, "API reloaded"),
            }
        }
    }
}
