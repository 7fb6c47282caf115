//! From text to a JSON value: YAML or TOML by extension, then `${NAME}` from the environment.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::report::{join_item, join_key};

/// Reads the text of a file: null where it has nothing but spaces and comments. The error is a sentence for people, with line and
/// column.
pub(super) fn parse(file: &Path, text: &str) -> Result<Value, String> {
    let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let mut value = match extension {
        "yaml" | "yml" => yaml(text)?,
        "toml" => match toml::from_str::<Map<String, Value>>(text).map_err(|e| toml_error(text, &e))? {
            // TOML has no other way to say nothing.
            nothing if nothing.is_empty() => Value::Null,
            table => with_times_as_text(Value::Object(table)),
        },
        "json" => serde_json::from_str(text).map_err(|e| format!("not valid JSON: {e}"))?,
        _ => return Err("the file's extension says neither YAML nor TOML".to_owned()),
    };
    drop_nulls(&mut value);
    Ok(value)
}

fn yaml(text: &str) -> Result<Value, String> {
    // `off` is a word here, not a boolean: `target: off`. Duplicate keys are errors and `!include` does not exist by
    // default; the budget is made small because definitions are: it bounds what aliases may unfold to.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_aliases: 1_000,
            max_anchors: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: REPLAYED_MAX,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let text = error.without_snippet().render_with_formatter(&serde_saphyr::UserMessageFormatter);
        format!("not valid YAML: {}", text.lines().next().unwrap_or_default())
    })
}

fn toml_error(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("not valid TOML: {} at line {line}, column {column}", error.message())
}

/// TOML has times as values of their own; here they are text, as in YAML.
fn with_times_as_text(mut value: Value) -> Value {
    match &mut value {
        Value::Object(map) => {
            if map.len() == 1
                && let Some(time) = map.get_mut(TOML_TIME)
            {
                return time.take();
            }
            map.values_mut().for_each(|v| *v = with_times_as_text(v.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| *v = with_times_as_text(v.take())),
        _ => {}
    }
    value
}

/// The key under which `toml` hides a time.
const TOML_TIME: &str = "$__toml_private_datetime";

/// A key without a value is a key that is not there: what stays when everything below it is commented out.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            // The configuration of a plugin is the plugin's own affair.
            map.iter_mut().filter(|(key, _)| *key != "config").for_each(|(_, v)| drop_nulls(v));
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Puts the environment into every string; one for which that is impossible becomes null. Gives the paths that it changed and
/// the problems as (path, sentence).
pub(super) fn expand(
    value: &mut Value,
    environment: &dyn Fn(&str) -> Option<String>,
) -> (BTreeSet<String>, Vec<(String, String)>) {
    let mut expansion = Expansion { environment, changed: BTreeSet::new(), problems: Vec::new() };
    expansion.visit(value, String::new());
    (expansion.changed, expansion.problems)
}

struct Expansion<'e> {
    environment: &'e dyn Fn(&str) -> Option<String>,
    changed: BTreeSet<String>,
    problems: Vec<(String, String)>,
}

impl Expansion<'_> {
    fn visit(&mut self, value: &mut Value, path: String) {
        match value {
            Value::String(text) if text.contains("${") => match self.expanded(text) {
                Ok((expanded, changed)) => {
                    *text = expanded;
                    if changed {
                        self.changed.insert(path);
                    }
                }
                Err(problem) => {
                    // Nobody knows what it would be.
                    *value = Value::Null;
                    self.problems.push((path, problem));
                }
            },
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.visit(item, join_item(&path, index));
                }
            }
            Value::Object(map) => {
                for (key, item) in map.iter_mut() {
                    self.visit(item, join_key(&path, key));
                }
            }
            _ => {}
        }
    }

    /// The text with its names replaced, and whether there were any. What comes in is not looked at again.
    fn expanded(&self, text: &str) -> Result<(String, bool), String> {
        let mut out = String::new();
        let mut changed = false;
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                out.push_str(before);
                out.push_str("${");
                rest = after;
                continue;
            }
            let (name, after) = after.split_once('}').ok_or("`${` has no `}`")?;
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(plain) {
                return Err(format!("`${{{}}}` is not a variable's name", name.escape_debug()));
            }
            let value =
                (self.environment)(name).ok_or_else(|| format!("the environment variable `{name}` is not set"))?;
            out.push_str(before);
            out.push_str(&value);
            changed = true;
            rest = after;
        }
        out.push_str(rest);
        Ok((out, changed))
    }
}

const DEPTH_MAX: usize = 64;
const NODES_MAX: usize = 500_000;
const REPLAYED_MAX: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let mut value = Value::String(text.to_owned());
        let environment = |name: &str| (name == "NAME").then(|| "a${NAME}".to_owned());
        let (_, problems) = expand(&mut value, &environment);
        let found = problems.first().map_or_else(|| Ok(value.as_str().expect("a string")), |(_, p)| Err(p.as_str()));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn names_of_the_environment_are_replaced_once() {
        check("${NAME}", Ok("a${NAME}"));
        check("x${NAME}y${NAME}", Ok("xa${NAME}ya${NAME}"));
        check("$NAME $${NAME} $$${NAME}", Ok("$NAME ${NAME} $${NAME}"));
        check("${OTHER}", Err("the environment variable `OTHER` is not set"));
        check("${NAME", Err("`${` has no `}`"));
        check("${a b}", Err("`${a b}` is not a variable's name"));
    }

    #[track_caller]
    fn check_yaml(text: &str, expected: &str) {
        let found = parse(Path::new("x.yaml"), text).map_or_else(|e| e, |v| v.to_string());
        assert!(found.contains(expected), "{text}: {found}");
    }

    #[test]
    fn yaml_is_read_strictly() {
        check_yaml("a: off", r#"{"a":"off"}"#);
        check_yaml("a: 1_000", r#"{"a":1000}"#);
        check_yaml("a:\nb: 1", r#"{"b":1}"#);
        check_yaml("{}", "{}");
        for nothing in ["", " \n", "# a: 1\n", "---\n", "--- # a\n...\n"] {
            check_yaml(nothing, "null");
        }
        check_yaml("a: 1\na: 2", "duplicate mapping key `a` is not allowed here at line 2, column 1");
        check_yaml("a: 1\n---\nb: 1", "not valid YAML");
        check_yaml("a: !x 1", "not valid YAML");
        check_yaml("a: [", "not valid YAML");
    }

    #[test]
    fn toml_without_a_key_is_nothing() {
        for (text, expected) in [("", "null"), ("\n # a = 1\n", "null"), ("[a]", r#"{"a":{}}"#)] {
            let found = parse(Path::new("x.toml"), text).expect("it is TOML");
            assert_eq!(found.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn a_bomb_of_aliases_does_not_unfold() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let alias = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{alias}]\n"));
        }
        check_yaml(&text, "not valid YAML");
    }

    #[test]
    fn a_toml_error_names_its_line() {
        let error = parse(Path::new("x.toml"), "a = 1\na = 2").expect_err("a duplicate key");
        assert!(error.contains("line 2, column 1"), "{error}");
    }
}
