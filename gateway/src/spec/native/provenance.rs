//! Where plugins must come from, from raw to model.

use std::collections::BTreeMap;

use super::raw_plugin as raw;
use super::report::{Place, Report};
use crate::model::digest::Digest;
use crate::model::provenance::{PluginsRequire, Provenance, Signed, TrustedKey};
use crate::model::source::Source;

/// What the operator says of the provenance of all plugins.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust {
    require: PluginsRequire,
    /// The good ones among `trusted_keys`.
    keys: Vec<TrustedKey>,
    /// Names of all of them.
    names: Vec<String>,
    /// Whether there may be more of them, which cannot be read.
    has_gaps: bool,
}

impl Trust {
    /// Reads the keys.
    pub(super) fn convert(
        keys: &BTreeMap<String, String>,
        require: raw::PluginsRequire,
        root: &Place,
        report: &mut Report,
    ) -> Self {
        let mut good = Vec::new();
        for (name, text) in keys {
            match TrustedKey::parse(name, text) {
                Ok(key) => good.push(key),
                Err(error) => {
                    let hint = "as `openssl pkey -in key.pem -pubout` writes it";
                    report.invalid(&root.key("trusted_keys").key(name), text, "a public key of ed25519", error, hint);
                }
            }
        }
        let has_gaps = !root.key("trusted_keys").is_whole();
        let require = match require {
            raw::PluginsRequire::Nothing => PluginsRequire::Nothing,
            raw::PluginsRequire::Pinned => PluginsRequire::Pinned,
            raw::PluginsRequire::Signed => PluginsRequire::Signed,
        };
        Self { require, keys: good, names: keys.keys().cloned().collect(), has_gaps }
    }

    /// Where nothing is known of the keys.
    pub(super) fn unknown() -> Self {
        Self { has_gaps: true, ..Self::default() }
    }

    /// Converts what one plugin must have. `place` is the plugin's.
    pub(super) fn of_plugin(
        &self,
        raw: &raw::Plugin,
        source: Option<&Source>,
        place: &Place,
        report: &mut Report,
    ) -> Option<Provenance> {
        let sha256 = match &raw.sha256 {
            None => None,
            Some(text) => {
                let digest = Digest::parse(text);
                if digest.is_none() {
                    let hint = "64 hexadecimal digits, as `sha256sum` writes them";
                    report.invalid(&place.key("sha256"), text, "a sha256", "", hint);
                }
                Some(digest?)
            }
        };
        let signed = self.signed(raw, place, report)?;
        match self.require {
            PluginsRequire::Pinned if sha256.is_none() && !source.is_some_and(Source::is_pinned) => {
                let hint = "add `sha256: …` to the plugin, as `sha256sum` writes it";
                report.error(&place.key("sha256"), "is missing: `plugins_require` is `pinned`", hint);
                None
            }
            PluginsRequire::Signed if signed.is_none() => {
                let names = if self.names.is_empty() { "NAME".to_owned() } else { self.names.join(", ") };
                let hint = format!("add `signed_by: [{names}]` to the plugin, with names of `trusted_keys`");
                report.error(&place.key("signed_by"), "is missing: `plugins_require` is `signed`", hint);
                None
            }
            _ => Some(Provenance { sha256, signed }),
        }
    }

    /// The signature that a plugin must have; none where it need not have one.
    fn signed(&self, raw: &raw::Plugin, place: &Place, report: &mut Report) -> Option<Option<Signed>> {
        let here = place.key("signed_by");
        let Some(names) = &raw.signed_by else {
            if raw.signature.is_some() {
                report.warn(&place.key("signature"), "is not used", "name keys under `signed_by`");
            }
            return Some(None);
        };
        if names.is_empty() {
            report.error(&here, "the list is empty", "name a key of `trusted_keys`, or leave `signed_by` out");
            return None;
        }
        let mut by = Vec::new();
        for (index, name) in names.iter().enumerate() {
            match self.keys.iter().find(|key| *key.name == **name) {
                Some(key) => by.push(key.clone()),
                // A key that is not good is told at its own place.
                None if self.has_gaps || self.names.contains(name) => return None,
                None => {
                    let place = here.item(index);
                    let message = format!("there is no key {} under `trusted_keys`", place.shown(name));
                    report.error(&place, message, "add it there, in the main file");
                    return None;
                }
            }
        }
        // What is fetched has its signature with it.
        let is_here = !raw.file.contains("://");
        let file = raw.signature.clone().or_else(|| is_here.then(|| format!("{}.sig", raw.file)));
        let file = file.map(|file| place.resolve(&file));
        Some(Some(Signed { by, file }))
    }
}
