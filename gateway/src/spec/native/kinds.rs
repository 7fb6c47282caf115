//! Kinds of values, in words for people.

use jsonschema::error::TypeKind;
use serde_json::Value;

use super::report::Place;

/// What was expected and what is there.
pub(super) fn wrong_kind(expected: &[&str], found: &Value) -> String {
    format!("expected {}, found {}", expected.join(" or "), kind_of(found))
}

/// How to write what was expected. Nothing where only the key itself can tell.
pub(super) fn hint(expected: &[&str], found: &Value, place: &Place) -> Option<String> {
    let wants = |kind| expected.contains(&kind);
    let hint = match found {
        Value::String(_) if wants(INTEGER) => match place.path().rsplit('_').next() {
            Some("ms") => "milliseconds as a plain number, such as `2500` for two and a half seconds",
            Some("us") => "microseconds as a plain number, such as `500`",
            _ if place.path().contains("bytes") => "bytes as a plain number, such as `1048576` for one MiB",
            _ => "a plain number without quotes and unit, such as `100`",
        },
        Value::Number(_) | Value::Bool(_) if wants(STRING) => "put it in quotes",
        Value::Object(_) | Value::String(_) | Value::Number(_) if wants(LIST) && !wants(TABLE) => {
            "put it in `[` and `]`"
        }
        _ if wants(INTEGER) => "a plain number, such as `100`",
        _ if wants(NUMBER) => "a plain number, such as `100` or `0.5`",
        _ if wants(BOOLEAN) => "`true` or `false`, without quotes",
        _ if wants(STRING) && !wants(TABLE) => "one text, such as `key: text`",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// The kinds that a schema takes, but for nothing.
pub(super) fn kinds(kind: &TypeKind) -> Vec<&'static str> {
    let word = |t: jsonschema::JsonType| match t {
        jsonschema::JsonType::Array => LIST,
        jsonschema::JsonType::Boolean => BOOLEAN,
        jsonschema::JsonType::Integer => INTEGER,
        jsonschema::JsonType::Null => NOTHING,
        jsonschema::JsonType::Number => NUMBER,
        jsonschema::JsonType::Object => TABLE,
        jsonschema::JsonType::String => STRING,
    };
    let mut kinds = match kind {
        TypeKind::Single(single) => vec![word(*single)],
        TypeKind::Multiple(set) => set.iter().map(word).collect(),
    };
    kinds.retain(|kind| *kind != NOTHING);
    kinds
}

/// The kind of a value.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => NOTHING,
        Value::Bool(_) => BOOLEAN,
        Value::Number(n) if n.is_f64() => "a fraction",
        Value::Number(_) => NUMBER,
        Value::String(_) => STRING,
        Value::Array(_) => LIST,
        Value::Object(_) => TABLE,
    }
}

const BOOLEAN: &str = "true or false";
const INTEGER: &str = "a whole number";
const LIST: &str = "a list";
const NOTHING: &str = "nothing";
const NUMBER: &str = "a number";
const STRING: &str = "text";
const TABLE: &str = "a table of keys";
