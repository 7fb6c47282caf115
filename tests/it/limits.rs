//! Every limit is told, and tested: `docs/limits.md` is made of the configuration's types, of what is written down in
//! `tests/data/limits.txt`, and of the tests that carry the name of a limit.
//!
//! A test that passes just below a limit, fails just above, and looks at its counter says so in the line before it:
//! `// limit: plugin_limits.fuel`. The counter's name must stand in the body of the test, or in a function of its file that
//! the body calls. A test within the gateway, which sees no page of metrics, names the number that it looks at:
//! `// limit: limits.header_count_max counts: heads_too_large`, which must be the one that the page of metrics reads.
//! With `UPDATE_LIMITS=1` the page is written anew.

mod constants;
mod marked;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use stile_tests::workspace;

use self::marked::{Test, tests};

const TABLE: &str = include_str!("../data/limits.txt");

/// A limit as it is written down.
struct Limit {
    key: &'static str,
    above: &'static str,
    counted: Counted,
}

/// How a limit that bites is seen from outside.
enum Counted {
    /// By these metrics.
    By(Vec<&'static str>),
    /// By none, for the reason that these words give.
    Not(&'static str),
}

impl Counted {
    fn parse(text: &'static str) -> Self {
        match text.starts_with("stile_") {
            true => Self::By(text.split(", ").collect()),
            false => Self::Not(text),
        }
    }

    fn cell(&self) -> String {
        match self {
            Self::By(counters) => counters.iter().map(|counter| format!("`{counter}`")).collect::<Vec<_>>().join(", "),
            Self::Not(words) => (*words).to_owned(),
        }
    }

    /// What is wrong with these tests of a limit: each looks at a counter, and each counter is looked at.
    fn unseen(&self, tests: &[Test]) -> Vec<String> {
        let Self::By(counters) = self else { return Vec::new() };
        let blind = tests.iter().filter(|test| !counters.iter().any(|counter| test.looks_at(counter)));
        let blind = blind.map(|test| format!("`{}` looks at none of {counters:?}", test.name));
        let alone = counters.iter().filter(|counter| !tests.iter().any(|test| test.looks_at(counter)));
        blind.chain(alone.map(|counter| format!("no test looks at `{counter}`"))).collect()
    }
}

fn lines() -> impl Iterator<Item = &'static str> {
    TABLE.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn limits() -> Vec<Limit> {
    let rows = lines().filter(|line| line.contains('|') && !line.starts_with(constants::SIGN));
    rows.map(|line| {
        let [key, above, counted] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("`{line}` has not three columns");
        };
        Limit { key, above, counted: Counted::parse(counted) }
    })
    .collect()
}

/// What stands after a sign.
fn marked_with(sign: &'static str) -> BTreeSet<&'static str> {
    lines().filter_map(|line| line.strip_prefix(sign)).map(str::trim).collect()
}

/// Limits without a test.
fn untested() -> BTreeSet<&'static str> {
    marked_with("!")
}

/// A number of the configuration.
struct Number {
    description: String,
    default: String,
}

/// All numbers of the configuration, by the path of their key.
fn numbers() -> BTreeMap<String, Number> {
    let schema = stile::spec::schema();
    let mut found = BTreeMap::new();
    walk(&schema, "", &schema, &mut Vec::new(), &mut found);
    // They are those of `plugin_limits` and `plugin_quarantine`, for one plugin.
    found.retain(|key, _| !["plugins.*.limits.", "plugins.*.quarantine."].iter().any(|of| key.starts_with(of)));
    found
}

fn walk<'s>(
    root: &'s Value,
    path: &str,
    schema: &'s Value,
    within: &mut Vec<&'s str>,
    found: &mut BTreeMap<String, Number>,
) {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        if !within.contains(&name) {
            within.push(name);
            walk(root, path, &root["$defs"][name], within, found);
            within.pop();
        }
        return;
    }
    for choice in ["anyOf", "oneOf"].iter().flat_map(|of| schema[*of].as_array().into_iter().flatten()) {
        walk(root, path, choice, within, found);
    }
    let is = |kind: &str| match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(|of| of == kind),
        of => of == kind,
    };
    if is("integer") || is("number") {
        let description = schema["description"].as_str().unwrap_or_default().to_owned();
        found.insert(path.to_owned(), Number { default: default(&schema["default"], &description), description });
    }
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        walk(root, &path, property, within, found);
    }
    if schema["items"].is_object() {
        walk(root, &format!("{path}[]"), &schema["items"], within, found);
    }
    if schema["additionalProperties"].is_object() {
        walk(root, &format!("{path}.*"), &schema["additionalProperties"], within, found);
    }
}

/// The default as a number, or in the words of the description where that says it.
fn default(value: &Value, description: &str) -> String {
    if let Some(number) = value.as_u64() {
        return grouped(number);
    }
    if !value.is_null() {
        return value.to_string();
    }
    let Some((_, said)) = description.split_once("Default: ") else { return "none".to_owned() };
    let said = said.trim_end_matches('.').replace('\n', " ").replace('|', "/");
    said.parse().map_or_else(|_| said.clone(), grouped)
}

/// A number as people write it here: `10_000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

fn unit(key: &str) -> &'static str {
    let name = key.rsplit('.').next().unwrap_or(key);
    let of = |part: &str| name.split('_').any(|word| word == part);
    match () {
        () if of("ms") => "ms",
        () if of("us") => "µs",
        () if of("seconds") => "s",
        () if of("bytes") && !of("fuel") => "bytes",
        () if of("percent") => "%",
        () if of("fuel") => "fuel",
        () => "",
    }
}

fn page() -> String {
    let (numbers, tests) = (numbers(), tests());
    let mut page = String::from(HEAD);
    let mut section = "";
    for limit in limits() {
        let (of, _) = limit.key.split_once('.').expect("a key has a section");
        if of != section {
            section = of;
            let _ = write!(page, "\n## `{}`\n\n{COLUMNS}", section.trim_end_matches("[]"));
        }
        let Some(number) = numbers.get(limit.key) else { panic!("there is no key `{}`", limit.key) };
        let (bounds, _) = number.description.split_once("Default: ").unwrap_or((&number.description, ""));
        let bounds = bounds.replace('\n', " ").replace('|', "/");
        let (key, above, counter) = (limit.key, limit.above, limit.counted.cell());
        let tests = names(tests.get(limit.key));
        let _ = writeln!(
            page,
            "| `{key}` | {} | {} | {} | {above} | {counter} | {tests} |",
            bounds.trim(),
            number.default,
            unit(key)
        );
    }
    page + &constants::section(&tests)
}

/// The names of tests in a cell.
fn names(tests: Option<&Vec<Test>>) -> String {
    let names = tests.into_iter().flatten().map(|test| format!("`{}`", test.name));
    Some(names.collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty()).unwrap_or("–".to_owned())
}

const HEAD: &str = "# Limits

Everything that can grow has a limit, with a default that is safe. This page is made of the configuration's types and of the tests by
`UPDATE_LIMITS=1 cargo test --workspace --test it limits::`, and a test keeps it true. What is under `plugin_limits` and
`plugin_quarantine` here holds for every plugin and can be set for one under `plugins.NAME.limits` and `plugins.NAME.quarantine`.

A test in the last column passes just below the limit, fails just above, and looks at the counter, which a check reads in the test. Counts and bytes are met
to the unit. Times of the system's clock are not: there a test has several times what it needs, or a small part of it. Where there is no
test, it is still to be written.
";
const COLUMNS: &str = "| key | bounds | default | unit | above it | counter | test |\n|---|---|---|---|---|---|---|\n";

#[test]
fn the_page_of_limits_is_true() {
    let file = workspace().join("docs/limits.md");
    let page = page();
    if std::env::var_os("UPDATE_LIMITS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap_or(Path::new("."))).expect("a folder");
        std::fs::write(&file, &page).expect("it is written");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    for (line, (found, made)) in found.lines().zip(page.lines()).enumerate() {
        assert_eq!(found, made, "line {} of docs/limits.md: see its head for how it is made", line + 1);
    }
    assert!(found == page, "docs/limits.md ends too early or too late: see its head for how it is made");
}

#[test]
fn every_number_of_the_configuration_is_a_limit_or_a_setting() {
    let (limits, settings) = (limits(), marked_with("="));
    let is_setting = |key: &str| {
        settings.iter().any(|setting| match setting.strip_suffix('*') {
            Some(start) => key.starts_with(start),
            None => key == *setting,
        })
    };
    let numbers = numbers();
    let unnamed: Vec<_> =
        numbers.keys().filter(|key| !is_setting(key) && !limits.iter().any(|limit| limit.key == *key)).collect();
    assert!(unnamed.is_empty(), "neither a limit nor a setting in tests/data/limits.txt: {unnamed:?}");
    for limit in &limits {
        assert!(!is_setting(limit.key), "`{}` is both", limit.key);
    }
}

#[test]
fn every_limit_has_a_test_or_is_told_to_have_none() {
    let (tests, untested) = (tests(), untested());
    let keys: BTreeSet<&str> = counted().into_iter().map(|(key, _)| key).collect();
    let unknown: Vec<_> = tests.keys().filter(|key| !keys.contains(key.as_str())).collect();
    assert!(unknown.is_empty(), "tests of limits that are not in tests/data/limits.txt: {unknown:?}");
    let unknown: Vec<_> = untested.iter().filter(|key| !keys.contains(*key)).collect();
    assert!(unknown.is_empty(), "not limits: {unknown:?}");
    let without: Vec<_> = keys.iter().filter(|key| !tests.contains_key(**key) && !untested.contains(*key)).collect();
    assert!(without.is_empty(), "no test says `// limit: KEY` for: {without:#?}");
    let with: Vec<_> = untested.iter().filter(|key| tests.contains_key(**key)).collect();
    assert!(with.is_empty(), "tested by now: {with:?}");
}

#[test]
fn every_test_of_a_limit_looks_at_its_counter() {
    let tests = tests();
    let of = |key: &str| tests.get(key).map_or(&[][..], Vec::as_slice);
    let unseen = counted().into_iter().flat_map(|(key, counted)| {
        let unseen = if of(key).is_empty() { Vec::new() } else { counted.unseen(of(key)) };
        unseen.into_iter().map(move |problem| format!("{key}: {problem}"))
    });
    let unseen: Vec<_> = unseen.collect();
    assert!(unseen.is_empty(), "{unseen:#?}");
}

/// All limits, those of the configuration and those of the code, and how each is seen.
fn counted() -> Vec<(&'static str, Counted)> {
    let configured = limits().into_iter().map(|limit| (limit.key, limit.counted));
    configured.chain(constants::all().into_iter().map(|constant| (constant.path, constant.counted))).collect()
}
