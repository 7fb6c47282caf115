//! What a component may do once it is granted what it asks for, and how one version differs from another in that.

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderName;

use super::check;
use super::description::{ContextReads, HeaderSelection, Reads};
use super::load::Generation;
use crate::model::plugin::{Capability, Hook};

/// What a component asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// The capabilities that it imports or wants, each with the author's reason where there is one.
    pub capabilities: BTreeMap<Capability, Option<String>>,
    /// What it imports. Without versions: those change with the tools that build it.
    imports: BTreeSet<String>,
    functions: BTreeMap<(Hook, String), Reads>,
}

/// One thing that a component may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// Of what kind it is.
    pub kind: Kind,
    /// What it is.
    pub what: String,
    /// Why, in the author's words.
    pub why: Option<String>,
}

/// The kinds of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A capability, which must be granted.
    Capability,
    /// An import.
    Import,
    /// A function at a hook: what it returns there is acted upon.
    Function,
    /// Something that a function is handed.
    Reads,
}

impl Kind {
    /// Its name for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Capability => "capability",
            Self::Import => "import",
            Self::Function => "function",
            Self::Reads => "reads",
        }
    }
}

impl Rights {
    /// Those of a loaded version.
    pub fn of(generation: &Generation) -> Self {
        let description = &generation.description;
        let imported = generation.imports.iter().filter_map(|import| check::capability(import));
        let mut capabilities: BTreeMap<Capability, Option<String>> = imported.map(|of| (of, None)).collect();
        for wanted in &description.capabilities {
            capabilities.insert(wanted.capability, Some(wanted.reason.clone()).filter(|reason| !reason.is_empty()));
        }
        let name = |import: &String| import.split('@').next().unwrap_or(import).to_owned();
        let functions = description.functions.iter().map(|function| ((function.hook, function.name.clone()), function));
        Self {
            capabilities,
            imports: generation.imports.iter().map(name).collect(),
            functions: functions.map(|(key, function)| (key, function.reads.clone())).collect(),
        }
    }

    /// The rights that are here and not in another version.
    pub fn beyond(&self, other: &Self) -> Vec<Right> {
        let capabilities =
            self.capabilities.iter().filter(|(capability, _)| !other.capabilities.contains_key(capability));
        let right = |kind, what| Right { kind, what, why: None };
        let mut rights: Vec<Right> = capabilities
            .map(|(capability, why)| Right {
                why: why.clone(),
                ..right(Kind::Capability, capability.as_str().to_owned())
            })
            .collect();
        rights.extend(self.imports.difference(&other.imports).map(|import| right(Kind::Import, import.clone())));
        let nothing = nothing();
        for (key, reads) in &self.functions {
            let function = format!("{} {}", key.0, key.1);
            let before = other.functions.get(key);
            if before.is_none() {
                rights.push(right(Kind::Function, function.clone()));
            }
            let more = beyond(reads, before.unwrap_or(&nothing)).into_iter();
            rights.extend(more.map(|what| right(Kind::Reads, format!("{function}: {what}"))));
        }
        rights
    }
}

/// What a function is handed that another one is not.
fn beyond(reads: &Reads, other: &Reads) -> Vec<String> {
    let mut more = headers("", &reads.headers, &other.headers);
    if reads.body_bytes_max > other.body_bytes_max {
        more.extend(reads.body_bytes_max.map(|bytes_max| format!("body up to {bytes_max} bytes")));
    }
    more.extend(headers("request ", &reads.request_headers, &other.request_headers));
    if reads.session && !other.session {
        more.push("session".to_owned());
    }
    let parts = reads.context.parts().into_iter().zip(other.context.parts());
    more.extend(parts.filter(|((here, _), (there, _))| *here && !there).map(|((_, name), _)| name.to_owned()));
    more
}

fn headers(of: &str, here: &HeaderSelection, there: &HeaderSelection) -> Vec<String> {
    let named = |selection: &HeaderSelection| match selection {
        HeaderSelection::Named(names) => names.clone(),
        HeaderSelection::None | HeaderSelection::All => Vec::new(),
    };
    match (here, there) {
        (_, HeaderSelection::All) | (HeaderSelection::None, _) => Vec::new(),
        (HeaderSelection::All, _) => vec![format!("all {of}headers")],
        (HeaderSelection::Named(names), there) => {
            let known = named(there);
            let more = names.iter().filter(|name| !known.contains(name)).map(HeaderName::as_str);
            more.map(|name| format!("{of}header {name}")).collect()
        }
    }
}

/// What a function is handed that asks for nothing.
fn nothing() -> Reads {
    Reads {
        headers: HeaderSelection::None,
        body_bytes_max: None,
        request_headers: HeaderSelection::None,
        session: false,
        context: ContextReads::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&'static str]) -> HeaderSelection {
        HeaderSelection::Named(names.iter().map(|name| HeaderName::from_static(name)).collect())
    }

    #[track_caller]
    fn check(old: &Reads, new: &Reads, gained: &[&str], lost: &[&str]) {
        assert_eq!(beyond(new, old), gained);
        assert_eq!(beyond(old, new), lost);
    }

    #[test]
    fn what_functions_read_is_compared_piece_by_piece() {
        let some = Reads { headers: named(&["accept", "host"]), body_bytes_max: Some(10), ..nothing() };
        check(&some, &some, &[], &[]);
        check(&nothing(), &some, &["header accept", "header host", "body up to 10 bytes"], &[]);
        let other = Reads { headers: named(&["host", "cookie"]), body_bytes_max: Some(11), ..nothing() };
        check(&some, &other, &["header cookie", "body up to 11 bytes"], &["header accept"]);
        let all = Reads { headers: HeaderSelection::All, session: true, ..some.clone() };
        check(&some, &all, &["all headers", "session"], &[]);
        let context = ContextReads { vars: true, host: true, ..ContextReads::default() };
        let answered = Reads { request_headers: named(&["accept"]), context, ..nothing() };
        check(&nothing(), &answered, &["request header accept", "host", "vars"], &[]);
    }

    #[test]
    fn rights_are_what_is_asked_for_and_not_how_it_is_built() {
        let rights = |capability, import: &str, hook| Rights {
            capabilities: [(capability, Some("to count".to_owned()))].into(),
            imports: [import.to_owned()].into(),
            functions: [((hook, "f".to_owned()), nothing())].into(),
        };
        let (old, new) = (rights(Capability::Log, "a:b/log", Hook::Pre), rights(Capability::Kv, "a:b/kv", Hook::Auth));
        assert_eq!(old.beyond(&old), []);
        let told: Vec<String> =
            new.beyond(&old).iter().map(|right| format!("{} {}", right.kind.as_str(), right.what)).collect();
        assert_eq!(told, ["capability kv", "import a:b/kv", "function auth f"]);
    }
}
