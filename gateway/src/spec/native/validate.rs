//! Checks a value against a schema, and says what is wrong in sentences for people.

use jsonschema::Validator;
use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind as Kind};
use schemars::JsonSchema;
use serde_json::Value;

use super::near::closest;
use super::report::{Place, Report, join_item, join_key};

/// A schema, ready to check values.
pub(super) struct Shape {
    schema: Value,
    validator: Validator,
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

impl Shape {
    /// What must be taken out of a value that is not what the schema says; what needs it may be wrong then.
    pub(super) fn cuts(&self, value: &Value) -> Vec<Vec<Step>> {
        let mut cuts = Vec::new();
        for error in self.validator.iter_errors(value) {
            self.cuts_of(&error, value, &mut cuts);
        }
        cuts
    }

    fn cuts_of(&self, error: &ValidationError<'_>, value: &Value, cuts: &mut Vec<Vec<Step>>) {
        let here = steps(error.instance_path().as_str(), value);
        match error.kind() {
            Kind::AdditionalProperties { unexpected } => {
                let below = |key: &String| here.iter().cloned().chain([Step::Key(key.clone())]).collect();
                cuts.extend(unexpected.iter().map(below));
            }
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => match self.meant(context, error) {
                Some(errors) => errors.iter().for_each(|error| self.cuts_of(error, value, cuts)),
                None => cuts.push(here),
            },
            _ => cuts.push(here),
        }
    }

    /// What is wrong with the one of several shapes that was meant, by its kind; nothing for a list of words.
    fn meant<'e, 'i>(
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
}

/// The steps of a JSON pointer.
fn steps(pointer: &str, value: &Value) -> Vec<Step> {
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
                let about = self.sibling(error, "properties").and_then(|p| p.get(key)?.get("description")?.as_str());
                report.error(&place, format!("`{key}` is missing"), about.unwrap_or_default());
            }
            Kind::Type { kind } => report.error(&place, wrong_type(kind, found), type_hint(kind, found, &place)),
            Kind::Minimum { limit } => self.out_of_bounds(&place, found, "at least", limit, report),
            Kind::Maximum { limit } => self.out_of_bounds(&place, found, "at most", limit, report),
            Kind::Enum { options } => {
                let words = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                wrong_word(&place, found, words, report);
            }
            Kind::MinProperties { .. } | Kind::MaxProperties { .. } => {
                let keys = self.sibling(error, "properties").and_then(Value::as_object);
                let keys = keys.into_iter().flatten().map(|(key, _)| key.as_str());
                report.error(&place, "takes exactly one key", format!("one of {}", listed(keys)));
            }
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                self.no_branch(&place, found, context, error, report);
            }
            _ => report.error(&place, format!("not valid: `{}`", error.kind().keyword()), ""),
        }
    }

    fn unknown_keys(&self, place: &Place, unexpected: &[String], error: &ValidationError<'_>, report: &mut Report) {
        let known = self.sibling(error, "properties").and_then(Value::as_object);
        let known: Vec<&str> = known.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
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
                let mut kinds: Vec<&str> = kinds.flatten().filter(|k| *k != NOTHING).collect();
                kinds.dedup();
                report.error(place, format!("expected {}, found {}", kinds.join(" or "), kind_of(found)), "");
            }
        }
    }

    /// What stands in the schema beside the keyword that failed.
    fn sibling(&self, error: &ValidationError<'_>, keyword: &str) -> Option<&Value> {
        let (parent, _) = error.schema_path().as_str().rsplit_once('/')?;
        self.shape.schema.pointer(parent)?.get(keyword)
    }

    /// A JSON pointer as we write paths.
    fn path(&self, pointer: &str) -> String {
        steps(pointer, self.value).iter().fold(String::new(), |path, step| match step {
            Step::Key(key) => join_key(&path, key),
            Step::Item(index) => join_item(&path, *index),
        })
    }
}

/// The words of a list of constants (`oneOf` of `const` and `enum`).
fn words_of(branches: &Value) -> Vec<&str> {
    let mut words = Vec::new();
    for branch in branches.as_array().into_iter().flatten() {
        words.extend(branch.get("const").and_then(Value::as_str));
        words.extend(branch.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str));
    }
    words
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

fn wrong_type(kind: &TypeKind, found: &Value) -> String {
    let kinds: Vec<&str> = kinds(kind).into_iter().filter(|k| *k != NOTHING).collect();
    format!("expected {}, found {}", kinds.join(" or "), kind_of(found))
}

fn type_hint(kind: &TypeKind, found: &Value, place: &Place) -> String {
    let wants_number = kinds(kind).contains(&INTEGER);
    match found {
        Value::String(_) if wants_number => {
            let example = match place.path().rsplit('_').next() {
                Some("ms") => "milliseconds as a plain number, such as `2500` for two and a half seconds",
                Some("us") => "microseconds as a plain number, such as `500`",
                _ if place.path().contains("bytes") => "bytes as a plain number, such as `1048576` for one MiB",
                _ => "a plain number without quotes and unit, such as `100`",
            };
            example.to_owned()
        }
        Value::Number(_) | Value::Bool(_) if kinds(kind).contains(&STRING) => "put it in quotes".to_owned(),
        Value::Object(_) | Value::String(_) if kinds(kind).contains(&LIST) => "put it in `[` and `]`".to_owned(),
        _ => String::new(),
    }
}

fn kinds(kind: &TypeKind) -> Vec<&'static str> {
    let word = |t: jsonschema::JsonType| match t {
        jsonschema::JsonType::Array => LIST,
        jsonschema::JsonType::Boolean => "true or false",
        jsonschema::JsonType::Integer => INTEGER,
        jsonschema::JsonType::Null => NOTHING,
        jsonschema::JsonType::Number => "a number",
        jsonschema::JsonType::Object => "a table of keys",
        jsonschema::JsonType::String => STRING,
    };
    match kind {
        TypeKind::Single(single) => vec![word(*single)],
        TypeKind::Multiple(set) => set.iter().map(word).collect(),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => NOTHING,
        Value::Bool(_) => "true or false",
        Value::Number(n) if n.is_f64() => "a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table of keys",
    }
}

/// Names in backquotes, with commas.
pub(super) fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| format!("`{n}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

const INTEGER: &str = "a whole number";
const LIST: &str = "a list";
const NOTHING: &str = "nothing";
const STRING: &str = "text";
