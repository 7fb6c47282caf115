//! Whether a configuration fits a plugin's schema.
//!
//! The schema is a stranger's, and so is the work: a few lines with references to one another can keep a validator busy for
//! years. So this runs where it can be ended, as [`Compiler::validate`](super::compile::Compiler::validate) has it.

use serde::{Deserialize, Serialize};

/// A configuration, and the schema that it is to fit: both as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The schema.
    pub schema: String,
    /// The configuration.
    pub config: String,
}

/// Why a configuration does not fit, in words with a stranger's in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Misfit {
    /// The schema is none.
    Schema(String),
    /// The configuration is not as the schema has it.
    Config {
        /// Where in it, as a JSON pointer; empty for all of it.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl Question {
    /// Whether it fits, however long that takes to find out.
    ///
    /// # Errors
    /// It does not fit, or the schema is none.
    pub fn answer(&self) -> Result<(), Misfit> {
        let unusable = |error: &dyn ToString| Misfit::Schema(short(error));
        let misfit = |path: String, error: &dyn ToString| Misfit::Config { path: short(&path), reason: short(error) };
        let config = serde_json::from_str(&self.config).map_err(|error| misfit(String::new(), &error))?;
        let schema: serde_json::Value = serde_json::from_str(&self.schema).map_err(|error| unusable(&error))?;
        // A schema is a stranger's: patterns run in linear time, and nothing is fetched.
        let validator = jsonschema::options()
            .with_pattern_options(jsonschema::PatternOptions::regex())
            .build(&schema)
            .map_err(|error| unusable(&error))?;
        let first = validator.iter_errors(&config).next();
        first.map_or(Ok(()), |error| Err(misfit(error.instance_path().to_string(), &error)))
    }
}

/// As much of it as fits between processes. Whoever shows it escapes it.
fn short(text: &dyn ToString) -> String {
    let mut text = text.to_string();
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

const TEXT_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(schema: &str, config: &str) -> Result<(), Misfit> {
        Question { schema: schema.to_owned(), config: config.to_owned() }.answer()
    }

    #[track_caller]
    fn check(schema: &str, config: &str, path: &str, words: &str) {
        match answer(schema, config) {
            Err(Misfit::Config { path: found, reason }) => {
                assert_eq!(found, path);
                assert!(reason.contains(words), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }

    const SCHEMA: &str =
        r##"{"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"items": {"pattern": "^x"}}}}"##;

    #[test]
    fn a_misfit_is_told_with_its_place() {
        assert_eq!(answer(SCHEMA, r#"{"a": ["x", "xy"]}"#), Ok(()));
        check(SCHEMA, r#"{"a": ["x", "y"]}"#, "/a/1", "does not match");
        check("false", "1", "", "1");
        // What is too deep for a reader does not go on to a plugin either.
        check("true", &"[".repeat(1_000), "", "recursion limit");
    }

    #[test]
    fn what_is_no_schema_is_not_blamed_on_the_configuration() {
        for schema in ["", "{", r#"{"type": 1}"#, r#"{"$ref": "http://127.0.0.1/x"}"#, r##"{"$ref": "#/$defs/x"}"##] {
            assert!(matches!(answer(schema, "{}"), Err(Misfit::Schema(_))), "{schema}");
        }
    }

    #[test]
    fn a_long_reason_is_cut() {
        let long = format!("\"{}\"", "é".repeat(10_000));
        let Err(Misfit::Config { reason, .. }) = answer("false", &long) else { panic!("it fits") };
        assert_eq!(reason.len(), TEXT_BYTES_MAX - 1);
    }
}
