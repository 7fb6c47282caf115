//! Tyk's policies from files: `policies.json`, a map by id, or a folder with one policy in each JSON file.
//!
//! What is asked for there and not done here is an error where leaving it out would allow more than Tyk does.

use std::path::Path;
use std::rc::Rc;

use serde_json::Value;

use super::file::{read_text, sibling};
use super::policy as ours;
use super::report::{Place, Report, Source};
use super::twice::Claims;
use crate::model::policy::{Policy, PolicyId};
use crate::tyk::policy;
use crate::tyk::unsupported::{self, Step, Unsupported};

/// Reads a file or folder. `None` for a policy that has a problem.
pub(super) fn read(
    path: &Path,
    place: &Place,
    claims: &mut Claims,
    report: &mut Report,
) -> Vec<(Place, Option<Policy>)> {
    let path = sibling(place, path);
    if !path.is_dir() {
        let Some((root, value)) = parse(&path, report) else { return Vec::new() };
        let Value::Object(policies) = value else {
            report.error(&root, "expected a map of policies by id", "a folder takes one policy in each file");
            return Vec::new();
        };
        let one = |(id, value): (String, Value)| one(value, &id, root.key(&id), claims, report);
        return policies.into_iter().map(one).collect();
    }
    report.source(&path);
    let mut files = match std::fs::read_dir(&path) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| is_json(file)).collect(),
        Err(error) => {
            report.error(place, format!("the folder cannot be read: {error}"), "");
            Vec::new()
        }
    };
    files.sort();
    if files.is_empty() {
        report.warn(place, "the folder has no file that ends in `.json`", "");
    }
    let mut found = Vec::new();
    for file in files {
        let Some((root, value)) = parse(&file, report) else { continue };
        let own = ["id", "_id"].into_iter().find_map(|key| value.get(key)?.as_str().filter(|id| !id.is_empty()));
        let id = own.or_else(|| file.file_stem()?.to_str()).unwrap_or_default().to_owned();
        found.push(one(value, &id, root, claims, report));
    }
    found
}

fn is_json(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

fn parse(file: &Path, report: &mut Report) -> Option<(Place, Value)> {
    let source = Source { file: file.to_owned(), ..Source::default() };
    let root = Place::root(Rc::new(source));
    report.source(file);
    let text = read_text(file).map_err(|reason| report.error(&root, format!("cannot be read: {reason}"), "")).ok()?;
    match serde_json::from_str::<Value>(&text) {
        Ok(mut value) => {
            without_nulls(&mut value);
            Some((root, value))
        }
        Err(error) => {
            report.error(&root, format!("not valid JSON: {error}"), "");
            None
        }
    }
}

/// Go writes `null` for lists and maps that are not there.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

fn one(mut value: Value, id: &str, place: Place, claims: &mut Claims, report: &mut Report) -> (Place, Option<Policy>) {
    let id = ours::id(id, &place, claims, report);
    let wrong = policy::take_wrong(&mut value);
    let is_good = id.is_some() && wrong.is_empty();
    for field in wrong {
        let place = field.path.iter().fold(place.clone(), |place, key| place.key(key));
        report.error(&place, format!("is no policy of Tyk: {}", field.reason), "as Tyk's control API shows policies");
    }
    // One without a good id is looked at all the same, and so is what is left of one.
    let policy = id.or_else(|| PolicyId::parse("unnamed").ok()).and_then(|id| policy::of(id, value).ok());
    let problems = policy.as_ref().map(unsupported::of_policy).unwrap_or_default();
    let is_good = is_good && problems.is_empty();
    for Unsupported { path, reason } in problems {
        let place = path.iter().fold(place.clone(), |place, step| match step {
            Step::Key(key) => place.key(key),
            Step::Item(index) => place.item(*index),
        });
        report.error(&place, reason, "");
    }
    (place, policy.filter(|_| is_good))
}
