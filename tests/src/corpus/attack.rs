//! What a folder of the corpus says: `attack.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::alone::Alone;
use super::made;
use super::out::Place;
use crate::{guest, workspace};

/// A hostile plugin and what it must come to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attack {
    /// The folder's name, and the plugin's.
    #[serde(skip)]
    pub name: String,
    #[serde(skip)]
    folder: PathBuf,
    /// What it would bring the attacker.
    pub why: String,
    /// How its component is made, where it is none that can be written down.
    #[serde(default)]
    made: Option<String>,
    /// The attack whose guest this is, with other words or other limits.
    #[serde(default)]
    guest: Option<String>,
    /// Keys of the plugin in the configuration: limits, grants.
    #[serde(default)]
    pub(super) plugin: Map<String, Value>,
    /// Keys of its APIs, by their path with slashes.
    #[serde(default)]
    pub(super) api: Map<String, Value>,
    /// Keys of the gateway, by their path with slashes.
    #[serde(default)]
    pub(super) gateway: Map<String, Value>,
    /// Keys that the operator made, by name.
    #[serde(default)]
    pub(super) keys: BTreeMap<String, Value>,
    /// What is tried.
    #[serde(rename = "case")]
    pub cases: Vec<Case>,
    /// What stands against it.
    #[serde(rename = "guard")]
    pub guards: Vec<Guard>,
}

/// One way to try it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its name, where there are several.
    #[serde(default)]
    pub name: String,
    /// The plugin's configuration.
    #[serde(default)]
    pub(super) config: Value,
    /// Keys of the plugin, beside those of the attack.
    #[serde(default)]
    pub(super) plugin: Map<String, Value>,
    /// Who calls which API; without any, one caller once.
    #[serde(default)]
    pub(super) calls: Vec<Step>,
    /// Status and kind of failure by hook, such as `500 fuel`; `-` where nothing failed. `request` stands for `pre`, `post_auth`,
    /// `endpoint` and `post`, and `load` for a plugin that does not load.
    answers: BTreeMap<String, String>,
    /// What the last caller reads, with anything for each `…`.
    #[serde(default)]
    pub(super) body: Option<String>,
    /// Outcomes of the plugin's own requests, of those that there were; one of several with `|` between them.
    #[serde(default)]
    pub(super) requests: Vec<String>,
    /// Metrics by name and labels: `name{label=value}`.
    #[serde(default)]
    pub(super) counts: BTreeMap<String, f64>,
    /// What must hold where the gateway is a process of its own.
    #[serde(default)]
    pub(super) alone: Option<Alone>,
    /// Words that the operator is told of a plugin that does not load.
    #[serde(default)]
    pub(super) problems: Vec<String>,
}

/// A call of an API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// Which of the APIs that are alike.
    #[serde(default)]
    pub(super) api: String,
    /// Who calls.
    #[serde(default = "anybody")]
    pub(super) caller: String,
}

/// What stands against the attack, and what becomes of it without.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// A key of the configuration, or where in the code it is.
    pub by: String,
    /// The case that shows it; without, the first one.
    #[serde(default)]
    pub case: Option<String>,
    /// The guard lifted: keys of the plugin.
    #[serde(default)]
    pub(super) lifted: Option<Map<String, Value>>,
    /// The guard gone round, which shows that the attack is one: other calls.
    #[serde(default)]
    pub(super) calls: Option<Vec<Step>>,
    /// Status and kind of failure then.
    #[serde(default)]
    pub answer: Option<String>,
    /// What the last caller reads then.
    #[serde(default)]
    pub(super) body: Option<String>,
    /// Words of the problem then, which were not there before.
    #[serde(default)]
    pub(super) problem: Option<String>,
    /// Metrics then.
    #[serde(default)]
    pub(super) counts: BTreeMap<String, f64>,
    /// A guard in the code cannot be lifted: where it is, and what would stand there without it. Places that stand one behind
    /// the other are taken out together.
    #[serde(default)]
    pub out: Vec<Place>,
    /// Why it can be neither lifted nor taken out.
    #[serde(default)]
    pub none: Option<String>,
    /// The test of a guard in the code alone, as `FILE: NAME`.
    #[serde(default)]
    pub test: Option<String>,
}

fn anybody() -> String {
    "key".to_owned()
}

impl Attack {
    /// All of them, by name.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut folders: Vec<PathBuf> =
            ["guests", "components"].iter().flat_map(|kind| entries(&corpus().join(kind))).collect();
        folders.sort_by_key(|folder| folder.file_name().map(ToOwned::to_owned));
        folders.iter().map(|folder| Self::read(folder)).collect()
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let folders = ["guests", "components"].map(|kind| corpus().join(kind).join(name));
        let folder = folders.iter().find(|folder| folder.is_dir());
        Self::read(folder.unwrap_or_else(|| panic!("the corpus has no `{name}`")))
    }

    fn read(folder: &Path) -> Self {
        let name = folder.file_name().and_then(|name| name.to_str()).expect("our names are text");
        let text = std::fs::read_to_string(folder.join("attack.toml"));
        let text = text.unwrap_or_else(|error| panic!("`{name}` does not say what it must come to: {error}"));
        let attack: Self = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}/attack.toml: {error}"));
        Self { name: name.to_owned(), folder: folder.to_owned(), ..attack }
    }

    /// What a guard is called where it is taken out: its attack and its number there.
    #[must_use]
    pub fn guard_name(&self, index: usize) -> String {
        format!("{} {}", self.name, index + 1)
    }

    /// The component.
    #[must_use]
    pub fn component(&self) -> Vec<u8> {
        let text = |name| {
            let file = self.folder.join(name);
            let parse = |file| wat::parse_file(file).unwrap_or_else(|error| panic!("{}: {error}", self.name));
            file.is_file().then(|| parse(&file))
        };
        if let Some(component) = text("component.wat") {
            return component;
        }
        if let Some(module) = text("beside.wat") {
            return made::beside(&module);
        }
        match &self.made {
            Some(recipe) => made::component(recipe),
            None => std::fs::read(guest(self.guest.as_deref().unwrap_or(&self.name))).expect("it was built"),
        }
    }
}

impl Case {
    /// What is expected at each hook.
    pub fn answers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.answers.iter().flat_map(|(hook, answer)| {
            let hooks: &[&str] = if hook == "request" { &REQUEST_HOOKS } else { std::slice::from_ref(hook_of(hook)) };
            hooks.iter().map(move |hook| (*hook, answer.as_str()))
        })
    }
}

impl Guard {
    /// Whether the attack is tried without it too.
    #[must_use]
    pub fn is_lifted(&self) -> bool {
        self.lifted.is_some() || self.calls.is_some()
    }
}

impl Case {
    /// The hook that stands for all: `pre` where it is among them.
    #[must_use]
    pub fn first(&self) -> (&str, &str) {
        let first = self.answers().find(|(hook, _)| *hook == "pre").or_else(|| self.answers().next());
        first.expect("a case has an answer")
    }
}

/// The hook of this name, as long as the program.
fn hook_of(name: &str) -> &'static &'static str {
    HOOKS.iter().find(|hook| **hook == name).unwrap_or_else(|| panic!("`{name}` is no hook"))
}

fn corpus() -> PathBuf {
    workspace().join("tests/plugins/corpus")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect()
}

const REQUEST_HOOKS: [&str; 4] = ["pre", "post_auth", "endpoint", "post"];
const HOOKS: [&str; 8] = ["pre", "auth", "post_auth", "endpoint", "post", "response", "analytics", "load"];
