//! Keeps the floors of `gateway/ARCHITECTURE.md`: a module uses lower floors only, and some words stay where they belong.
//!
//! It reads the sources as text: what it knows is `crate::…` and `super::…`, which is how our modules name each other.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Floor by floor, the lowest first. Modules of one floor do not see each other.
const FLOORS: &[&[&str]] = &[
    &["model"],
    &["clock", "files", "message", "random", "telemetry", "tyk"],
    &["analytics", "net", "router", "spec", "store", "upstream"],
    &["fetch", "plugin"],
    &["pipeline"],
    &["fuzzing", "live"],
    &["admin", "server"],
    &["app"],
    &["cli"],
];

/// Uses against the floors that have a good reason: from, to, why. There are none.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Words that stay out of a module, but for some of its files, and why.
const ABSENCES: &[(&str, &str, &[&str], &str)] = &[
    ("model", "std::fs", &[], "`model` does no I/O"),
    ("model", "tokio", &[], "`model` does no I/O"),
    ("model", "wasmtime", &[], "`model` holds values only"),
    ("spec", "wasmtime", &[], "`spec` looks for plugins, but does not open them"),
    ("tyk", "std::fs", &[], "`tyk` has the shapes of JSON, and reads no file"),
    ("store", "http::", &[], "`store` knows no HTTP"),
    ("store", "hyper", &[], "`store` knows no HTTP"),
    ("plugin", "hyper", &[], "`plugin` is driven without HTTP"),
    // `host` implements what guests import, `call` calls what they export; all other values are our own.
    ("plugin", "v0_1::bindings", &["plugin/v0_1.rs", "plugin/v0_1/", "plugin/host"], GENERATED),
    ("plugin", "hooks::", &["plugin/v0_1.rs", "plugin/v0_1/", "plugin/call.rs"], GENERATED),
    ("pipeline", "wasmtime", &[], "what runs plugins is the matter of `plugin`"),
    ("pipeline", "v0_1", &[], GENERATED),
    ("live", "v0_1", &[], GENERATED),
    ("cli", "v0_1", &[], GENERATED),
    // `finish` asks which answers have no body.
    (
        "pipeline",
        "StatusCode::",
        &["pipeline/reject.rs", "pipeline/finish.rs"],
        "only `pipeline/reject` picks status codes",
    ),
    ("upstream", "StatusCode::BAD_GATEWAY", &[], "only `pipeline/reject` picks status codes"),
];

const GENERATED: &str = "what is made from `wit/` stays in `plugin`, where versions meet";

#[test]
fn modules_use_lower_floors_only() {
    let mut wrong = String::new();
    for source in sources() {
        let Some(floor) = floor(&source.module) else { continue };
        for used in source.uses() {
            let is_below = self::floor(&used).is_some_and(|below| below < floor) || used == source.module;
            let is_excepted = EXCEPTIONS.iter().any(|(from, to, _)| *from == source.module && *to == used);
            if !is_below && !is_excepted {
                let _ = writeln!(wrong, "{}: `{}` uses `{used}`, which is not below it", source.name, source.module);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_module_has_a_floor() {
    let without: Vec<_> =
        sources().filter(|source| floor(&source.module).is_none()).map(|source| source.name).collect();
    assert!(without.is_empty(), "{without:?}: say where it stands in FLOORS and ARCHITECTURE.md");
}

#[test]
fn words_stay_where_they_belong() {
    let mut wrong = String::new();
    for source in sources() {
        for (module, word, but, why) in ABSENCES {
            let is_meant = source.module == *module && !but.iter().any(|but| source.name.starts_with(but));
            if is_meant && source.code_but_tests().contains(word) {
                let _ = writeln!(wrong, "{}: `{word}`, but {why}", source.name);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn uses_are_found_in_every_form() {
    check("use crate::model::id::ApiId;", 1, &["model"]);
    check("use crate::{model::{api::Api, id::ApiId}, net, store::kv};", 1, &["model", "net", "store"]);
    check("let plan = crate::pipeline::plan::Plan::new(); // crate::cli", 1, &["pipeline"]);
    check("//! See [`crate::app`].\n/// And `crate::live`.", 1, &[]);
    check("pub(in crate::plugin) fn f() {}", 1, &["plugin"]);
    check("use super::live::Live;", 1, &["live"]);
    check("use super::kv::Kv;", 2, &[]);
    check("use super::super::live::Live;", 2, &["live"]);
}

#[track_caller]
fn check(code: &str, depth: usize, expected: &[&str]) {
    let source = Source { name: "x".to_owned(), module: "x".to_owned(), depth, code: without_comments(code) };
    assert_eq!(source.uses(), expected, "{code}");
}

/// A file of `gateway/src`.
struct Source {
    /// Its path below `src`.
    name: String,
    module: String,
    /// How many modules lie between it and the crate, itself included.
    depth: usize,
    code: String,
}

impl Source {
    /// The modules of the crate that it names.
    fn uses(&self) -> Vec<String> {
        let mut paths: Vec<&str> = self.code.split("crate::").skip(1).collect();
        // Only at the beginning of a line: deeper in, `super` starts from a module within the file.
        let climbs = format!("use {}", "super::".repeat(self.depth));
        paths.extend(self.code.lines().filter_map(|line| line.strip_prefix(&climbs)));
        paths.into_iter().flat_map(heads).collect()
    }

    fn code_but_tests(&self) -> &str {
        let is_test = self.name.ends_with("/tests.rs") || self.name.contains("/tests/");
        if is_test { "" } else { self.code.split("#[cfg(test)]\nmod ").next().unwrap_or("") }
    }
}

/// The first names of a path, or of a group of paths in braces.
fn heads(path: &str) -> Vec<String> {
    let name = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut item, mut items) = (0, String::new(), Vec::new());
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            _ => {}
        }
        if character != ',' || depth > 0 {
            item.push(character);
        }
    }
    items.push(item);
    items.iter().map(|item| name(item)).filter(|name| !name.is_empty()).collect()
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

fn sources() -> impl Iterator<Item = Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > FLOORS.len(), "the sources were found");
    files.into_iter().filter_map(move |file| {
        let name =
            file.strip_prefix(&root).expect("it was found there").to_str().expect("our names are text").to_owned();
        let module = name.split(['/', '.']).next().unwrap_or_default().to_owned();
        let code = without_comments(&std::fs::read_to_string(&file).expect("it was listed"));
        let is_root = matches!(name.as_str(), "lib.rs" | "main.rs");
        (!is_root).then(|| Source { depth: name.split('/').count(), name, module, code })
    })
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The lines without what follows `//`. A text that has two slashes loses its end, which names no module.
fn without_comments(code: &str) -> String {
    code.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}
