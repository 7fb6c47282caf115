//! What is known of the configurations of one loaded version of a plugin: which of them fit its schema.
//!
//! Finding out is left to a process that can be ended. A schema that takes long does so once for a plugin, however many APIs
//! use it, and one configuration of many APIs is checked once.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::compile::{CompileError, Compiler};
use super::failure::{LoadError, escaped_reason};
use super::schema::{Misfit, Question};
use crate::model::digest::Digest;
use crate::model::id::PluginName;
use crate::model::plugin::Limits;

/// What was found out so far.
#[derive(Debug, Default)]
pub(super) struct Configs(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    /// Of configurations that fit.
    fitting: HashSet<Digest>,
    /// The time of those checks that were slow.
    slow: Duration,
}

impl Configs {
    /// That a configuration fits the schema, if there is one. Takes a while, so not on a thread that serves requests.
    pub(super) fn check(
        &self,
        compiler: &Compiler,
        (plugin, limits): (&PluginName, &Limits),
        schema: Option<&str>,
        config: &serde_json::Value,
    ) -> Result<(), LoadError> {
        let misfit = |path: &str, reason: &str| {
            let path = if path.is_empty() { String::new() } else { format!(" `{}`", escaped_reason(path)) };
            LoadError::Config { plugin: plugin.clone(), path, reason: escaped_reason(reason) }
        };
        let unusable =
            |reason: &str| LoadError::ConfigSchema { plugin: plugin.clone(), reason: escaped_reason(reason) };
        let Some(schema) = schema else {
            return if config.is_null() { Ok(()) } else { Err(misfit("", "this plugin takes no configuration")) };
        };
        if schema.len() > SCHEMA_BYTES_MAX {
            return Err(unusable("it is larger than 256 KiB"));
        }
        // Where a definition gives no configuration, the plugin's defaults must do.
        let config = if config.is_null() { "{}".to_owned() } else { config.to_string() };
        let digest = Digest::of(config.as_bytes());
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.fitting.contains(&digest) {
            return Ok(());
        }
        let question = Question { schema: schema.to_owned(), config };
        match found.ask(compiler, limits, question) {
            Ok(Ok(())) => {
                if found.fitting.len() < FITTING_MAX {
                    found.fitting.insert(digest);
                }
                Ok(())
            }
            Ok(Err(Misfit::Config { path, reason })) => Err(misfit(&path, &reason)),
            Ok(Err(Misfit::Schema(reason))) => Err(unusable(&reason)),
            Err(error) => Err(unusable(&not_checked(limits, &error))),
        }
    }
}

impl Found {
    fn ask(
        &mut self,
        compiler: &Compiler,
        limits: &Limits,
        question: Question,
    ) -> Result<Result<(), Misfit>, CompileError> {
        let time_max = limits.compile_time_max.saturating_sub(self.slow);
        if time_max.is_zero() {
            return Err(CompileError::Time);
        }
        let begun = Instant::now();
        let answer = compiler.validate(question, time_max, limits.compile_memory_bytes_max);
        let took = begun.elapsed();
        // Good schemas take a few milliseconds, and there may be many configurations.
        if took > SLOW || matches!(answer, Err(CompileError::Time)) {
            self.slow += took;
        }
        answer
    }
}

/// Why a configuration was not checked, for the operator.
fn not_checked(limits: &Limits, error: &CompileError) -> String {
    match error {
        CompileError::Time => format!(
            "to check configurations against it takes longer than {} ms; raise `limits.compile_time_max_ms` if you trust it",
            limits.compile_time_max.as_millis()
        ),
        CompileError::Memory => format!(
            "to check a configuration against it takes more than {} bytes of memory; raise `limits.compile_memory_bytes_max` \
             if you trust it",
            limits.compile_memory_bytes_max
        ),
        CompileError::Broken(reason) | CompileError::Refused(reason) => {
            format!("the check of a configuration against it did not get to its end: {reason}")
        }
        CompileError::Compiled => "what came of a check against it is too long".to_owned(),
        CompileError::Start(error) => format!("the check of a configuration against it does not start: {error}"),
    }
}

const SCHEMA_BYTES_MAX: usize = 256 << 10;
/// More are checked each time that their APIs change.
const FITTING_MAX: usize = 10_000;
const SLOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::model::gateway::Runtime;

    fn compiler() -> Compiler {
        Compiler::new(None, &Runtime::default())
    }

    fn check(
        configs: &Configs,
        compiler: &Compiler,
        time_max: Duration,
        schema: &str,
        config: &serde_json::Value,
    ) -> Result<(), String> {
        let plugin = PluginName::parse("puzzle").expect("a name");
        let limits = Limits { compile_time_max: time_max, ..Limits::default() };
        let checked = configs.check(compiler, (&plugin, &limits), Some(schema), config);
        checked.map_err(|error| error.to_string())
    }

    /// A definition for each of so many, which asks the next one so many times.
    fn chain(length: u32, times: usize) -> String {
        let mut definitions = String::new();
        for of in 0..length {
            let next = vec![format!(r##"{{"$ref":"#/$defs/{}"}}"##, of + 1); times].join(",");
            // Writing to a `String` cannot fail.
            let _ = write!(definitions, r#""{of}":{{"anyOf":[{next}]}},"#);
        }
        format!(r##"{{"$defs":{{{definitions}"{length}":false}},"not":{{"$ref":"#/$defs/0"}}}}"##)
    }

    #[test]
    fn a_schema_without_an_end_is_tried_once() {
        let (configs, compiler) = (Configs::default(), compiler());
        // Three to the power of fifteen: not for ever, as the thread that looks for its end is a test's.
        let (schema, time_max) = (chain(15, 3), Duration::from_millis(20));
        for number in 0..5 {
            let told = check(&configs, &compiler, time_max, &schema, &number.into()).expect_err("nobody knows");
            assert!(told.contains("plugin `puzzle`") && told.contains("`limits.compile_time_max_ms`"), "{told}");
        }
        assert_eq!(compiler.numbers().time.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_configuration_that_fits_is_checked_once() {
        let (configs, compiler) = (Configs::default(), compiler());
        let (hour, schema) = (Duration::from_secs(3600), r#"{"type": "object", "required": []}"#);
        assert_eq!(check(&configs, &compiler, hour, schema, &serde_json::Value::Null), Ok(()));
        // It is known: there is no time to find out.
        assert_eq!(check(&configs, &compiler, Duration::ZERO, schema, &serde_json::json!({})), Ok(()));
        let told = check(&configs, &compiler, Duration::ZERO, schema, &serde_json::json!({ "a": 1 }));
        assert!(told.is_err_and(|told| told.contains("`limits.compile_time_max_ms`")));
        let told = check(&configs, &compiler, hour, schema, &serde_json::json!([]));
        assert!(told.is_err_and(|told| told.contains("configuration: [] is not of type")));
    }

    // limit: plugin::configs::SCHEMA_BYTES_MAX
    #[test]
    fn a_schema_has_so_many_bytes() {
        let (configs, compiler) = (Configs::default(), compiler());
        let (hour, schema) = (Duration::from_secs(3600), |bytes: usize| " ".repeat(bytes - 4) + "true");
        let config = serde_json::json!({});
        assert_eq!(check(&configs, &compiler, hour, &schema(SCHEMA_BYTES_MAX), &config), Ok(()));
        let told = check(&configs, &compiler, hour, &schema(SCHEMA_BYTES_MAX + 1), &config);
        assert!(told.is_err_and(|told| told.contains("256 KiB")));
    }

    // limit: plugin::configs::FITTING_MAX
    #[test]
    fn so_many_configurations_are_known_to_fit() {
        let (configs, compiler) = (Configs::default(), compiler());
        let check = |config: u32, time_max| self::check(&configs, &compiler, time_max, "true", &config.into());
        let known = || configs.0.lock().unwrap_or_else(PoisonError::into_inner).fitting.len();
        let digests = (1..FITTING_MAX).map(|number| Digest::of(format!("another {number}").as_bytes()));
        configs.0.lock().unwrap_or_else(PoisonError::into_inner).fitting.extend(digests);
        for config in [1, 2] {
            assert_eq!(check(config, Duration::from_secs(3600)), Ok(()));
            assert_eq!(known(), FITTING_MAX);
        }
        // The first is known; there is no time to find out about the second.
        assert_eq!(check(1, Duration::ZERO), Ok(()));
        assert!(check(2, Duration::ZERO).is_err());
    }

    #[test]
    fn a_schema_within_its_size_does_not_end_the_stack() {
        let (configs, compiler) = (Configs::default(), compiler());
        let schema = chain(6_000, 1);
        assert!((SCHEMA_BYTES_MAX * 3 / 4..SCHEMA_BYTES_MAX).contains(&schema.len()), "{}", schema.len());
        assert_eq!(check(&configs, &compiler, Duration::from_secs(600), &schema, &serde_json::json!({})), Ok(()));
    }
}
