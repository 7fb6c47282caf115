//! Tests that carry the name of a limit, and what each of them looks at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use stile_tests::workspace;

/// A test that carries the name of a limit.
pub(super) struct Test {
    pub(super) name: String,
    file: PathBuf,
    /// The number that it looks at, where it stands within the gateway and sees no metric's name.
    counts: Option<String>,
    /// Its body, and the functions and texts of its file that it names.
    text: String,
}

impl Test {
    /// Whether it looks at a counter: by its name as the page of metrics has it, or within the gateway at the number that
    /// the page reads for it.
    pub(super) fn looks_at(&self, counter: &str) -> bool {
        if names(&self.text, counter) {
            return true;
        }
        self.file.starts_with("gateway/src")
            && self.counts.as_deref().is_some_and(|number| {
                read_for(counter).is_some_and(|read| has_member(read, number)) && has_member(&self.text, number)
            })
    }
}

/// The tests of each limit.
pub(super) fn tests() -> BTreeMap<String, Vec<Test>> {
    let mut found: BTreeMap<String, Vec<Test>> = BTreeMap::new();
    let mut folders = vec![workspace().join("tests/it"), workspace().join("gateway/src")];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> =
            std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source");
                let file = path.strip_prefix(workspace()).expect("within the workspace");
                for (key, test) in marked(file, &text) {
                    found.entry(key).or_default().push(test);
                }
            }
        }
    }
    found
}

/// The tests of a source, each with the limit that it names. One of several limits is there for each.
fn marked(file: &Path, source: &str) -> Vec<(String, Test)> {
    if !source.contains("// limit: ") {
        return Vec::new();
    }
    let lines: Vec<&str> = source.lines().collect();
    let (functions, texts) = (functions(&lines), texts(&lines));
    let mut marked = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    let mut is_test = false;
    for (at, line) in lines.iter().enumerate() {
        if let Some(mark) = line.trim().strip_prefix("// limit: ") {
            open.push(mark);
        } else if line.trim().starts_with("#[test]") || line.trim().starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(name) = function(line) {
            let marks = std::mem::take(&mut open);
            assert!(marks.is_empty() || is_test, "`{name}` of {} is no test, but of {marks:?}", file.display());
            is_test = false;
            for mark in marks {
                let (key, counts) = mark.split_once(" counts: ").map_or((mark, None), |(key, of)| (key, Some(of)));
                let text = seen(body(&lines, at), name, &functions, &texts);
                let (name, file, counts) = (name.to_owned(), file.to_owned(), counts.map(str::to_owned));
                marked.push((key.to_owned(), Test { name, file, counts, text }));
            }
        }
    }
    assert!(open.is_empty(), "no test comes after {open:?} in {}", file.display());
    marked
}

/// A body with the functions of its file that it calls, and the texts that these name. No further: what a test is to be
/// about stands in it, or one step away.
fn seen(body: String, own: &str, functions: &BTreeMap<&str, Vec<String>>, texts: &BTreeMap<&str, &str>) -> String {
    let called = functions.iter().filter(|(name, _)| **name != own && names(&body, &format!("{name}(")));
    let mut seen = called.flat_map(|(_, bodies)| bodies).fold(body.clone(), |seen, called| seen + called);
    let named: Vec<&str> = texts.iter().filter(|(name, _)| names(&seen, name)).map(|(_, text)| *text).collect();
    seen.extend(named);
    seen
}

/// All functions of a source by name.
fn functions<'s>(lines: &[&'s str]) -> BTreeMap<&'s str, Vec<String>> {
    let mut functions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (at, line) in lines.iter().enumerate() {
        if let Some(name) = function(line) {
            functions.entry(name).or_default().push(body(lines, at));
        }
    }
    functions
}

/// All constants of a source that are texts, in one line each.
fn texts<'s>(lines: &[&'s str]) -> BTreeMap<&'s str, &'s str> {
    let constant = |line: &&'s str| line.trim().strip_prefix("const ")?.split_once(": &str = ");
    lines.iter().filter_map(constant).collect()
}

/// The name of the function that begins in a line.
fn function(line: &str) -> Option<&str> {
    let line = line.trim();
    let (before, after) = line.split_once("fn ")?;
    let begins = before.split_whitespace().all(|word| matches!(word, "async" | "const") || word.starts_with("pub"));
    begins.then(|| after.split(['(', '<']).next().unwrap_or(after))
}

/// A function from its first line to its last, without comments. The last is as far in as the first.
fn body(lines: &[&str], at: usize) -> String {
    let first = lines[at];
    let end = format!("{}}}", &first[..first.len() - first.trim_start().len()]);
    let length = match first.ends_with('}') {
        true => 0,
        // What a trait only declares has no body.
        false => lines[at..].iter().position(|line| *line == end).unwrap_or(0),
    };
    let code = lines[at..=at + length].iter().map(|line| line.split(" // ").next().unwrap_or(line));
    code.filter(|line| !line.trim().starts_with("//")).fold(String::new(), |body, line| body + line + "\n")
}

/// What the page of metrics reads for a counter: the source after name and help, up to the next metric's.
fn read_for(counter: &str) -> Option<&'static str> {
    const READERS: &str = include_str!("../../../gateway/src/app/counters.rs");
    let name = counter.strip_prefix("stile_")?.trim_end_matches("_total");
    let (_, after) = READERS.split_once(&format!("\"{name}\""))?;
    let [_, _help, read, ..] = after.split('"').collect::<Vec<_>>()[..] else { return None };
    Some(read)
}

/// Whether a field or method of this name is used.
fn has_member(code: &str, name: &str) -> bool {
    names(code, &format!(".{name}")) || names(code, &format!("::{name}"))
}

/// Whether a name stands in a text as a whole.
fn names(text: &str, name: &str) -> bool {
    let is_part = |of: Option<char>| of.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let begins_within = |at: usize| is_part(name.chars().next()) && is_part(text[..at].chars().next_back());
    let ends_within = |at: usize| is_part(name.chars().next_back()) && is_part(text[at..].chars().next());
    text.match_indices(name).any(|(at, _)| !begins_within(at) && !ends_within(at + name.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
const SHORT: &str = "stile_short_total";

fn counted() -> u64 {
    metric("stile_far_total")
}

fn further() {
    counted();
}

// LIMIT: a.direct
#[test]
fn direct() {
    assert_eq!(metric("stile_near_total"), 1); // stile_beside_total
    // stile_above_total
}

// LIMIT: a.called
// LIMIT: a.other counts: away
#[tokio::test]
async fn called() {
    assert_eq!((counted(), metric(SHORT), store.away), (1, 1, 1));
}

// LIMIT: a.far
#[test]
fn far() {
    further();
}
"#;

    #[test]
    fn a_counter_is_looked_at_in_the_body_or_one_step_away() {
        for (key, counter, is_seen) in [
            ("a.direct", "stile_near_total", true),
            ("a.direct", "stile_near", false),
            ("a.direct", "stile_beside_total", false),
            ("a.direct", "stile_above_total", false),
            ("a.direct", "stile_far_total", false),
            ("a.called", "stile_far_total", true),
            ("a.called", "stile_short_total", true),
            ("a.called", "stile_near_total", false),
            ("a.far", "stile_far_total", false),
            // The number of a unit test is one that the page of metrics reads, and it says so.
            ("a.other", "stile_store_away_total", true),
            ("a.called", "stile_store_away_total", false),
            ("a.other", "stile_store_failed_total", false),
        ] {
            // In capitals above, so that nobody takes them for marks.
            let tests = marked(Path::new("gateway/src/store.rs"), &SOURCE.replace("LIMIT", "limit"));
            let found = tests.iter().filter(|(of, _)| of == key).map(|(_, test)| test.looks_at(counter));
            assert_eq!(found.collect::<Vec<_>>(), [is_seen], "{key} {counter}");
        }
    }

    #[test]
    #[should_panic(expected = "is no test")]
    fn a_mark_is_on_a_test() {
        marked(Path::new("a.rs"), "// limit: a.b\nfn helper() {\n}\n");
    }
}
