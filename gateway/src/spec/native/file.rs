//! One definition file: read, checked for its shape, and taken apart into APIs, plugins and policies.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::prune::prune;
use super::report::{Place, Report, Source};
use super::shape::Shape;
use super::validate::validate;
use super::{raw_api, raw_plugin, raw_policy, text};
use crate::files;

/// A file whose parts have the right shape, as far as they have it.
pub(super) struct Parsed<T> {
    /// The file as a whole.
    pub(super) place: Place,
    /// All but APIs, plugins and policies, without what has a problem.
    pub(super) top: Option<T>,
    definitions: FileDefinitions,
}

/// The APIs, plugins and policies of a file. One with a problem of shape is here without what is wrong, as far as something is
/// left: to be looked at, not used.
#[derive(Default)]
pub(super) struct FileDefinitions {
    /// The names of all its plugins, those with problems too.
    pub(super) plugin_names: Vec<(Place, String)>,
    pub(super) plugins: Vec<(Place, String, raw_plugin::Plugin)>,
    pub(super) apis: Vec<(Place, raw_api::Api)>,
    pub(super) policies: Vec<(Place, raw_policy::Policy)>,
    /// Whether one of them has a problem and is left out.
    pub(super) has_gaps: bool,
}

impl<T> Parsed<T> {
    /// Takes the APIs, plugins and policies out.
    pub(super) fn definitions(&mut self) -> FileDefinitions {
        std::mem::take(&mut self.definitions)
    }
}

/// Reads a file. `None` where nothing in it can be used.
pub(super) fn parse_file<T: DeserializeOwned>(
    file: &Path,
    expected: &Shape,
    environment: &dyn Fn(&str) -> Option<String>,
    report: &mut Report,
) -> Option<Parsed<T>> {
    let folder = std::path::absolute(file).ok().and_then(|f| f.parent().map(Path::to_owned)).unwrap_or_default();
    let source = |secret| Source { file: file.to_owned(), folder: folder.clone(), secret, ..Source::default() };
    let place = Place::root(Rc::new(source(BTreeSet::new())));
    report.source(file);
    let content = match read_text(file) {
        Ok(content) => content,
        Err(reason) => {
            report.error(&place, format!("cannot be read: {reason}"), "");
            return None;
        }
    };
    let mut value = match text::parse(file, &content) {
        Ok(value) => value,
        Err(reason) => {
            report.error(&place, reason, "");
            return None;
        }
    };

    if value.is_null() {
        // Half of a file that is being written looks like that, and would take away all that the whole one has.
        let hint = "where it is to declare nothing, say so: `apis: []`, or in TOML `apis = []`";
        report.error(&place, "holds nothing: it is empty, or has comments alone", hint);
        return None;
    }

    let (secret, unset) = text::expand(&mut value, environment);
    let whole = Place::root(Rc::new(source(secret.clone())));
    let (mut shape, mut found) = (Report::default(), Report::default());
    for (path, reason) in unset {
        shape.error(&whole.at(path), reason, "write `$${` for a plain `${`");
    }
    validate(expected, &value, &whole, &mut found);
    shape.append_elsewhere(found);
    let broken = shape.paths();
    report.append(shape);
    if !value.is_object() {
        return None;
    }

    let mut definitions = FileDefinitions::default();
    let names = value.get("plugins").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name);
    definitions.plugin_names.extend(names.map(|name| (whole.key("plugins").key(name), name.clone())));
    let pruned = prune(expected, &mut value);
    let place = Place::root(Rc::new(Source { broken, pruned, ..source(secret) }));
    definitions.has_gaps = ["plugins", "apis", "policies"].iter().any(|key| !place.key(key).is_whole());
    take_plugins(&mut value, &place, &mut definitions, report);
    definitions.has_gaps |= take_list(&mut value, "apis", &place, &mut definitions.apis, report);
    // A table stays in place, which names files.
    definitions.has_gaps |= take_list(&mut value, "policies", &place, &mut definitions.policies, report);
    let top = deserialize_top(value, &place, report);
    Some(Parsed { place, top, definitions })
}

/// The text of a file, within bounds.
pub(super) fn read_text(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = files::open(file).map_err(|e| e.to_string())?;
    let bytes = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes > FILE_BYTES_MAX) {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

fn take_plugins(value: &mut Value, root: &Place, out: &mut FileDefinitions, report: &mut Report) {
    let Some(Value::Object(plugins)) = value.as_object_mut().and_then(|map| map.remove("plugins")) else {
        return;
    };
    for (name, plugin) in plugins {
        let place = root.key("plugins").key(&name);
        let plugin = deserialize(plugin, &place, report);
        out.has_gaps |= plugin.is_none();
        out.plugins.extend(plugin.map(|plugin| (place, name, plugin)));
    }
}

/// Takes a list out; whether one of its items has a problem and is left out.
fn take_list<T: DeserializeOwned>(
    value: &mut Value,
    key: &str,
    root: &Place,
    out: &mut Vec<(Place, T)>,
    report: &mut Report,
) -> bool {
    let Some(Value::Array(items)) = value.get_mut(key).filter(|list| list.is_array()).map(Value::take) else {
        return false;
    };
    if let Value::Object(map) = value {
        map.remove(key);
    }
    let mut has_gaps = false;
    for (index, item) in items.into_iter().enumerate() {
        let place = root.key(key).item(index);
        let item = deserialize(item, &place, report);
        has_gaps |= item.is_none();
        out.extend(item.map(|item| (place, item)));
    }
    has_gaps
}

/// All but definitions; where it fails, section by section.
fn deserialize_top<T: DeserializeOwned>(value: Value, place: &Place, report: &mut Report) -> Option<T> {
    if let Ok(top) = T::deserialize(&value) {
        return Some(top);
    }
    let Value::Object(mut sections) = value else { return None };
    sections.retain(|key, section| {
        let alone: Map<String, Value> = [(key.clone(), section.clone())].into_iter().collect();
        deserialize::<T>(Value::Object(alone), &place.key(key), report).is_some()
    });
    deserialize(Value::Object(sections), place, report)
}

/// What the schema let through hardly fails here; numbers such as `1.0` do.
fn deserialize<T: DeserializeOwned>(value: Value, place: &Place, report: &mut Report) -> Option<T> {
    serde_json::from_value(value)
        .map_err(|error| {
            let reason = if place.has_secrets() { String::new() } else { format!(": {error}") };
            report.error(place, format!("cannot be used{reason}"), "");
        })
        .ok()
}

/// A file beside another one, as both people and the system name it.
pub(super) fn sibling(place: &Place, relative: &Path) -> PathBuf {
    if relative.is_absolute() { relative.to_owned() } else { place.beside(relative) }
}

const FILE_BYTES_MAX: u64 = 16 << 20;
