//! A JSON object that is read field by field; what nobody asked for is left over.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::JsonInvalid;

/// What is left of an object.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn of(value: Value, what: &str) -> Result<Self, JsonInvalid> {
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Err(wrong(what, "an object")),
        }
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, JsonInvalid> {
        Self::of(serde_json::from_slice(bytes).map_err(|error| JsonInvalid(error.to_string()))?, "record")
    }

    /// A field that is there and not null.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn put_back(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    pub(super) fn peek(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(super) fn text(&mut self, name: &str) -> Result<String, JsonInvalid> {
        match self.take(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(wrong(name, "a text")),
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<bool, JsonInvalid> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(wrong(name, "true or false")),
        }
    }

    pub(super) fn number(&mut self, name: &str) -> Result<f64, JsonInvalid> {
        let Some(value) = self.take(name) else { return Ok(0.0) };
        value.as_f64().ok_or_else(|| wrong(name, "a number"))
    }

    pub(super) fn integer(&mut self, name: &str) -> Result<i64, JsonInvalid> {
        let Some(value) = self.take(name) else { return Ok(0) };
        value.as_i64().ok_or_else(|| wrong(name, "a whole number"))
    }

    pub(super) fn list(&mut self, name: &str) -> Result<Vec<Value>, JsonInvalid> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(wrong(name, "a list")),
        }
    }

    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, JsonInvalid> {
        let text = |value| match value {
            Value::String(text) => Ok(text),
            _ => Err(wrong(name, "a list of texts")),
        };
        self.list(name)?.into_iter().map(text).collect()
    }

    pub(super) fn map(&mut self, name: &str) -> Result<Map<String, Value>, JsonInvalid> {
        match self.take(name) {
            None => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map),
            Some(_) => Err(wrong(name, "an object")),
        }
    }

    pub(super) fn values(&mut self, name: &str) -> Result<BTreeMap<String, Value>, JsonInvalid> {
        Ok(self.map(name)?.into_iter().collect())
    }

    /// What nobody asked for, each value as JSON.
    pub(super) fn rest(self) -> Vec<(String, Vec<u8>)> {
        self.0.into_iter().map(|(name, value)| (name, value.to_string().into_bytes())).collect()
    }
}

pub(super) fn wrong(name: &str, expected: &str) -> JsonInvalid {
    JsonInvalid(format!("`{name}` is not {expected}"))
}

/// An object that is written.
pub(super) struct Object(Map<String, Value>);

impl Object {
    /// Begins with what is not ours. A name of ours cannot come in that way, nor what is not JSON.
    pub(super) fn with_extra(extra: &[(String, Vec<u8>)], ours: &[&str]) -> Self {
        let foreign = extra.iter().filter(|(name, _)| !ours.contains(&name.as_str()));
        Self(foreign.filter_map(|(name, bytes)| Some((name.clone(), serde_json::from_slice(bytes).ok()?))).collect())
    }

    pub(super) fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Leaves out what is empty, false or zero: Tyk reads a missing field as that.
    pub(super) fn put_unless_empty(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        let is_empty = match &value {
            Value::Null => true,
            Value::Bool(flag) => !flag,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
        };
        if !is_empty {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// Takes out what came in with the extra fields and must not.
    pub(super) fn drop_if(&mut self, name: &str, is_wrong: impl FnOnce(&Value) -> bool) {
        if self.0.get(name).is_some_and(is_wrong) {
            self.0.remove(name);
        }
    }

    pub(super) fn finish(self) -> Value {
        Value::Object(self.0)
    }
}

/// A number as Tyk writes it: whole ones without a point.
pub(super) fn number(number: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "compared with what it came from")]
    let whole = number as i64;
    #[expect(clippy::cast_precision_loss, reason = "compared with what it came from")]
    let is_whole = whole as f64 == number && whole.unsigned_abs() < 1 << 53;
    if is_whole { whole.into() } else { serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number) }
}
