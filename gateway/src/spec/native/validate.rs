//! Checks a value against a schema, and says what is wrong in sentences for people.

use jsonschema::error::{ValidationError, ValidationErrorKind as Kind};
use serde_json::Value;

use super::kinds::{hint, kind_of, kinds, wrong_kind};
use super::near::closest;
use super::report::{Place, Report, join_item, join_key};
use super::shape::{Shape, Step, steps, words_of};

/// Notes every way in which `value` is not what the schema says.
pub(super) fn validate(shape: &Shape, value: &Value, root: &Place, report: &mut Report) {
    let check = Check { shape, value, root };
    for error in shape.validator.iter_errors(value) {
        check.note(&error, report);
    }
}

struct Check<'c> {
    shape: &'c Shape,
    value: &'c Value,
    root: &'c Place,
}

impl Check<'_> {
    fn note(&self, error: &ValidationError<'_>, report: &mut Report) {
        let pointer = error.instance_path().as_str();
        let place = self.root.at(self.path(pointer));
        let found = self.value.pointer(pointer).unwrap_or(&Value::Null);
        match error.kind() {
            Kind::AdditionalProperties { unexpected } => self.unknown_keys(&place, unexpected, error, report),
            Kind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                let about =
                    self.shape.beside(error, "properties").and_then(|p| p.get(key)?.get("description")?.as_str());
                report.error(&place, format!("`{key}` is missing"), about.unwrap_or_default());
            }
            Kind::Type { kind } => {
                let kinds = kinds(kind);
                let hint = hint(&kinds, found, &place).unwrap_or_else(|| self.about(error, found));
                report.error(&place, wrong_kind(&kinds, found), hint);
            }
            Kind::Minimum { limit } => self.out_of_bounds(&place, found, "at least", limit, report),
            Kind::Maximum { limit } => self.out_of_bounds(&place, found, "at most", limit, report),
            Kind::MinItems { limit } => {
                report.error(&place, items(found), format!("at least {limit}, or leave the key out"))
            }
            Kind::MaxItems { limit } => report.error(&place, items(found), format!("at most {limit}")),
            Kind::Enum { options } => {
                let words = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                wrong_word(&place, found, words, report);
            }
            Kind::MinProperties { .. } | Kind::MaxProperties { .. } => {
                let keys = self.known_keys(error);
                report.error(&place, "takes exactly one key", format!("one of {}", listed(keys)));
            }
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                self.no_branch(&place, found, context, error, report);
            }
            _ => report.error(&place, format!("not valid: `{}`", error.kind().keyword()), self.about(error, found)),
        }
    }

    /// The keys that a table may have, where the schema of one failed.
    fn known_keys(&self, error: &ValidationError<'_>) -> Vec<&str> {
        let known = self.shape.beside(error, "properties").and_then(Value::as_object);
        known.into_iter().flatten().map(|(key, _)| key.as_str()).collect()
    }

    /// A hint from the schema: the keys of a table, or what the value is.
    fn about(&self, error: &ValidationError<'_>, found: &Value) -> String {
        let keys = self.known_keys(error);
        if let ([key], Value::Array(_), "") = (keys.as_slice(), found, error.instance_path().as_str()) {
            return format!("the file needs `{key}:` on top, and the list below it");
        }
        if !keys.is_empty() {
            return format!("known keys: {}", listed(keys));
        }
        let about = self.shape.beside(error, "description").and_then(Value::as_str).unwrap_or_default();
        about.split("\n\n").next().unwrap_or_default().replace('\n', " ")
    }

    fn unknown_keys(&self, place: &Place, unexpected: &[String], error: &ValidationError<'_>, report: &mut Report) {
        let known = self.known_keys(error);
        for key in unexpected {
            let hint = match closest(key, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known keys: {}", listed(known.iter().copied())),
            };
            report.error(&place.key(key), "unknown key", hint);
        }
    }

    fn out_of_bounds(&self, place: &Place, found: &Value, bound: &str, limit: &Value, report: &mut Report) {
        report.error(place, format!("{found} is out of bounds"), format!("{bound} {limit}"));
    }

    /// None of several shapes fits: picks the one that was meant, by its kind.
    fn no_branch(
        &self,
        place: &Place,
        found: &Value,
        branches: &[Vec<ValidationError<'_>>],
        error: &ValidationError<'_>,
        report: &mut Report,
    ) {
        let words = self.shape.schema.pointer(error.schema_path().as_str()).map(words_of).unwrap_or_default();
        if !words.is_empty() {
            return wrong_word(place, found, words, report);
        }
        match self.shape.meant(branches, error) {
            Some(errors) => errors.iter().for_each(|e| self.note(e, report)),
            None => {
                let kinds = branches.iter().flatten().filter_map(|e| match e.kind() {
                    Kind::Type { kind } => Some(kinds(kind)),
                    _ => None,
                });
                let mut kinds: Vec<&str> = kinds.flatten().collect();
                kinds.dedup();
                let hint = hint(&kinds, found, place).unwrap_or_else(|| self.about(error, found));
                report.error(place, wrong_kind(&kinds, found), hint);
            }
        }
    }

    /// A JSON pointer as we write paths.
    fn path(&self, pointer: &str) -> String {
        steps(pointer, self.value).iter().fold(String::new(), |path, step| match step {
            Step::Key(key) => join_key(&path, key),
            Step::Item(index) => join_item(&path, *index),
        })
    }
}

fn wrong_word(place: &Place, found: &Value, words: Vec<&str>, report: &mut Report) {
    let Some(word) = found.as_str() else {
        let expected = listed(words.iter().copied());
        return report.error(place, format!("expected a word, found {}", kind_of(found)), format!("one of {expected}"));
    };
    let hint = match closest(word, words.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? One of {}", listed(words.iter().copied())),
        None => format!("one of {}", listed(words.iter().copied())),
    };
    report.error(place, format!("{} is not known here", place.shown(word)), hint);
}

fn items(found: &Value) -> String {
    match found.as_array().map_or(0, Vec::len) {
        0 => "is empty".to_owned(),
        count => format!("has {count} items"),
    }
}

/// Names in backquotes, with commas.
pub(super) fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| format!("`{n}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::{INCLUDED, MAIN, POLICIES};
    use super::*;

    /// The keywords of a schema, but for those of a table's keys.
    fn keywords<'s>(schema: &'s Value, found: &mut Vec<&'s str>) {
        for (keyword, below) in schema.as_object().into_iter().flatten() {
            found.push(keyword);
            match (keyword.as_str(), below) {
                ("properties" | "$defs", Value::Object(named)) => {
                    named.values().for_each(|below| keywords(below, found));
                }
                ("anyOf" | "oneOf", Value::Array(branches)) => {
                    branches.iter().for_each(|below| keywords(below, found));
                }
                ("items" | "additionalProperties", below) => keywords(below, found),
                _ => {}
            }
        }
    }

    #[test]
    fn every_keyword_that_can_fail_has_words() {
        // These have words in `note`, or cannot fail.
        let known = [
            "additionalProperties",
            "anyOf",
            "const",
            "enum",
            "items",
            "maxItems",
            "maxProperties",
            "maximum",
            "minItems",
            "minProperties",
            "minimum",
            "oneOf",
            "properties",
            "required",
            "type",
            "$defs",
            "$ref",
            "$schema",
            "default",
            "description",
            "format",
            "title",
        ];
        for shape in [&*MAIN, &*INCLUDED, &*POLICIES] {
            let mut found = Vec::new();
            keywords(&shape.schema, &mut found);
            found.retain(|keyword| !known.contains(keyword));
            assert_eq!(found, Vec::<&str>::new());
        }
    }
}
