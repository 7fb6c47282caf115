//! Limits that are constants of the code: nobody sets them, but strangers run into them.
//!
//! Every constant of the gateway whose name ends in `_MAX` is one of them, or is said to bound something else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use stile_tests::workspace;

use super::marked::Test;
use super::{Counted, lines, marked_with, names};

/// Before each of them in the table.
pub(super) const SIGN: &str = "const ";

/// A limit that is a constant of the code, as it is written down.
pub(super) struct Constant {
    /// Its module and name.
    pub(super) path: &'static str,
    value: &'static str,
    bounds: &'static str,
    above: &'static str,
    pub(super) counted: Counted,
}

pub(super) fn all() -> Vec<Constant> {
    let rows = lines().filter_map(|line| line.strip_prefix(SIGN));
    rows.map(|line| {
        let [named, bounds, above, counted] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("`{line}` has not four columns");
        };
        let (path, value) = named.split_once(" = ").expect("a constant has a value");
        Constant { path, value, bounds, above, counted: Counted::parse(counted) }
    })
    .collect()
}

/// The section of the page.
pub(super) fn section(tests: &BTreeMap<String, Vec<Test>>) -> String {
    let mut section = String::from(HEAD);
    for constant in all() {
        let Constant { path, value, bounds, above, counted } = &constant;
        let _ = writeln!(
            section,
            "| `{path}` | {bounds} | {value} | {above} | {} | {} |",
            counted.cell(),
            names(tests.get(*path))
        );
    }
    section
}

const HEAD: &str = "
## Constants of the code

These bound what callers, plugins and other servers send, and nobody has asked for another value yet.

| constant | bounds | value | above it | counter | test |
|---|---|---|---|---|---|
";

#[test]
fn every_constant_of_the_page_has_its_value() {
    for constant in all() {
        let (module, name) = constant.path.rsplit_once("::").expect("a constant is in a module");
        let file = workspace().join("gateway/src").join(module.replace("::", "/")).with_extension("rs");
        let source = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let found = declared(&source).find(|(of, _)| *of == name).map(|(_, value)| value);
        assert_eq!(found, Some(constant.value), "{}", constant.path);
    }
}

#[test]
fn every_constant_that_bounds_something_is_a_limit_or_said_to_be_none() {
    let (limits, others) = (all(), marked_with("~"));
    let is_other = |path: &str| {
        others.iter().any(|other| {
            let (of, _why) = other.split_once(": ").expect("a reason after a colon");
            of.strip_suffix('*').map_or(of == path, |start| path.starts_with(start))
        })
    };
    let mut unnamed = Vec::new();
    for file in sources(&workspace().join("gateway/src")) {
        let source = std::fs::read_to_string(&file).expect("a source");
        let module = file.strip_prefix(workspace().join("gateway/src")).expect("within it").with_extension("");
        let module = module.to_str().expect("our names are text").replace('/', "::");
        for (name, _) in declared(&source).filter(|(name, _)| name.ends_with("_MAX")) {
            let path = format!("{module}::{name}");
            let is_limit = limits.iter().any(|limit| limit.path == path);
            assert!(!(is_limit && is_other(&path)), "`{path}` is both");
            if !is_limit && !is_other(&path) {
                unnamed.push(path);
            }
        }
    }
    assert!(unnamed.is_empty(), "neither a limit nor something else in tests/data/limits.txt: {unnamed:#?}");
}

/// The constants of a source that are declared in one line, with their values as they stand there.
fn declared(source: &str) -> impl Iterator<Item = (&str, &str)> {
    source.lines().filter_map(|line| {
        let (before, declared) = line.trim().split_once("const ")?;
        let (name, value) = declared.split_once(": ")?;
        let (_, value) = value.split_once(" = ")?;
        (before.is_empty() || before.starts_with("pub")).then_some((name, value.trim_end_matches(';')))
    })
}

/// All sources but those of tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut sources = Vec::new();
    for path in entries.filter(|path| path.file_stem().is_some_and(|stem| stem != "tests")) {
        if path.is_dir() {
            sources.extend(self::sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
    sources.sort();
    sources
}
