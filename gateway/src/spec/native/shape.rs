//! A schema, ready to check values: what of a value must go, and what must stand in for what is missing.

use jsonschema::Validator;
use jsonschema::error::{ValidationError, ValidationErrorKind as Kind};
use schemars::JsonSchema;
use serde_json::{Value, json};

/// A schema, ready to check values.
pub(super) struct Shape {
    pub(super) schema: Value,
    pub(super) validator: Validator,
}

impl Shape {
    /// The shape of a raw type.
    pub(super) fn of<T: JsonSchema>() -> Self {
        let schema = schemars::schema_for!(T).to_value();
        let validator = jsonschema::validator_for(&schema).expect("a derived schema is a schema");
        Self { schema, validator }
    }
}

/// A step from a value to one inside it. A list is ordered by its items, and what is inside comes after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    Item(usize),
}

/// What brings a value nearer to its schema.
#[derive(Debug)]
pub(super) struct Mend {
    /// Where.
    pub(super) steps: Vec<Step>,
    /// What stands in there; nothing where what is there must go.
    pub(super) stand_in: Option<Value>,
}

impl Shape {
    /// What must be done to a value that is not what the schema says; more may be wrong then.
    pub(super) fn mends(&self, value: &Value) -> Vec<Mend> {
        let mut mends = Vec::new();
        for error in self.validator.iter_errors(value) {
            self.mends_of(&error, value, &mut mends);
        }
        mends
    }

    fn mends_of(&self, error: &ValidationError<'_>, value: &Value, mends: &mut Vec<Mend>) {
        let here = steps(error.instance_path().as_str(), value);
        let below = |key: &str| here.iter().cloned().chain([Step::Key(key.to_owned())]).collect();
        match error.kind() {
            Kind::AdditionalProperties { unexpected } => {
                mends.extend(unexpected.iter().map(|key| Mend { steps: below(key), stand_in: None }));
            }
            Kind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                let schema = self.beside(error, "properties").and_then(|properties| properties.get(key));
                match schema.and_then(|schema| self.stand_in(schema, DEPTH_MAX)) {
                    Some(stand_in) => mends.push(Mend { steps: below(key), stand_in: Some(stand_in) }),
                    None => mends.push(Mend { steps: here, stand_in: None }),
                }
            }
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => match self.meant(context, error) {
                Some(errors) => errors.iter().for_each(|error| self.mends_of(error, value, mends)),
                None => mends.push(Mend { steps: here, stand_in: None }),
            },
            _ => mends.push(Mend { steps: here, stand_in: None }),
        }
    }

    /// Something of the shape that a schema asks for, or nearly.
    fn stand_in(&self, schema: &Value, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            return self.stand_in(self.schema.pointer(target.strip_prefix('#')?)?, depth);
        }
        if let Some(word) = schema.get("const").or_else(|| schema.get("enum")?.get(0)) {
            return Some(word.clone());
        }
        let branches = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
        if let Some(branches) = branches {
            return branches.iter().find_map(|branch| self.stand_in(branch, depth));
        }
        match schema.get("type")?.as_str()? {
            "string" => Some(json!("")),
            "array" => Some(json!([])),
            "object" => Some(json!({})),
            "integer" | "number" => Some(schema.get("minimum").cloned().unwrap_or_else(|| json!(0))),
            "boolean" => Some(json!(false)),
            _ => None,
        }
    }

    /// What is wrong with the one of several shapes that was meant, by its kind; nothing for a list of words.
    pub(super) fn meant<'e, 'i>(
        &self,
        branches: &'e [Vec<ValidationError<'i>>],
        error: &ValidationError<'_>,
    ) -> Option<&'e Vec<ValidationError<'i>>> {
        if self.schema.pointer(error.schema_path().as_str()).is_some_and(|branches| !words_of(branches).is_empty()) {
            return None;
        }
        let here = error.instance_path().as_str();
        let is_wrong_kind =
            |e: &ValidationError<'_>| matches!(e.kind(), Kind::Type { .. }) && e.instance_path().as_str() == here;
        branches.iter().find(|errors| !errors.iter().any(is_wrong_kind))
    }

    /// What stands in the schema beside the keyword that failed.
    pub(super) fn beside(&self, error: &ValidationError<'_>, keyword: &str) -> Option<&Value> {
        let (parent, _) = error.schema_path().as_str().rsplit_once('/')?;
        self.schema.pointer(parent)?.get(keyword)
    }
}

/// The steps of a JSON pointer.
pub(super) fn steps(pointer: &str, value: &Value) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut value = value;
    for token in pointer.split('/').skip(1) {
        let key = token.replace("~1", "/").replace("~0", "~");
        let (step, next) = match value {
            Value::Array(items) => {
                let index = key.parse().unwrap_or(usize::MAX);
                (Step::Item(index), items.get(index))
            }
            _ => {
                let next = value.get(&key);
                (Step::Key(key), next)
            }
        };
        steps.push(step);
        value = next.unwrap_or(&Value::Null);
    }
    steps
}

/// The words of a list of constants (`oneOf` of `const` and `enum`).
pub(super) fn words_of(branches: &Value) -> Vec<&str> {
    let mut words = Vec::new();
    for branch in branches.as_array().into_iter().flatten() {
        words.extend(branch.get("const").and_then(Value::as_str));
        words.extend(branch.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str));
    }
    words
}

/// Deeper than schemas refer to each other.
const DEPTH_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::native::{INCLUDED, MAIN, POLICIES};

    /// Every table of a schema that has keys which must be there.
    fn tables<'s>(schema: &'s Value, found: &mut Vec<&'s serde_json::Map<String, Value>>) {
        match schema {
            Value::Object(map) => {
                if map.get("required").is_some_and(Value::is_array) {
                    found.push(map);
                }
                map.values().for_each(|below| tables(below, found));
            }
            Value::Array(list) => list.iter().for_each(|below| tables(below, found)),
            _ => {}
        }
    }

    #[test]
    fn something_can_stand_in_for_each_key_that_must_be_there() {
        for shape in [&*MAIN, &*INCLUDED, &*POLICIES] {
            let mut found = Vec::new();
            tables(&shape.schema, &mut found);
            assert!(!found.is_empty());
            for table in found {
                let properties = table.get("properties").and_then(Value::as_object).expect("its keys");
                for key in table.get("required").and_then(Value::as_array).into_iter().flatten() {
                    let key = key.as_str().expect("a name");
                    let of_key = properties.get(key).expect("its schema");
                    let stand_in = shape.stand_in(of_key, DEPTH_MAX).unwrap_or_else(|| panic!("none for `{key}`"));
                    let schema = json!({ "$defs": shape.schema.get("$defs"), "allOf": [of_key] });
                    let validator = jsonschema::validator_for(&schema).expect("a schema");
                    // What is missing in it in turn is the next round's.
                    let is_missing = |e: &ValidationError<'_>| matches!(e.kind(), Kind::Required { .. });
                    let fits = validator.iter_errors(&stand_in).all(|error| is_missing(&error));
                    assert!(fits, "`{key}`: {stand_in}");
                }
            }
        }
    }
}
