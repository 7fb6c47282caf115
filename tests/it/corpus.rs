//! The corpus of hostile plugins: each comes to what its folder says, with its guards and without them.

use std::collections::BTreeSet;
use stile_tests::corpus::{Attack, check};
use stile_tests::workspace;

async fn comes_to_what_its_folder_says(name: &str) {
    let wrong = check(&Attack::named(name)).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// A test for each folder.
include!(concat!(env!("OUT_DIR"), "/corpus.rs"));

/// The nouns of the table, each with its attacks.
fn table() -> Vec<(String, Vec<String>)> {
    let file = workspace().join("tests/plugins/corpus/README.md");
    let text = std::fs::read_to_string(file).expect("the corpus has a README");
    let (_, section) = text.split_once("## What they try").expect("it says what they try");
    let (section, _) = section.split_once("\n## ").expect("something comes after it");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    let names = |attacks: &str| attacks.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    rows.skip(1).map(|(what, attacks)| (what.to_owned(), names(attacks))).collect()
}

#[test]
fn every_attack_is_found_by_what_it_tries() {
    let attacks: BTreeSet<String> = Attack::all().into_iter().map(|attack| attack.name).collect();
    let mut listed = BTreeSet::new();
    for (what, names) in table() {
        assert!(!names.is_empty(), "nothing tries {what}");
        listed.extend(names);
    }
    assert_eq!(listed, attacks);
    assert!(attacks.len() >= 40, "{}", attacks.len());
}

#[test]
fn every_attack_says_why_and_what_becomes_of_it_without_its_guards() {
    let (mut lifted, mut nones) = (0, 0);
    for attack in Attack::all() {
        assert!(!attack.why.is_empty() && !attack.why.contains('\n'), "{}", attack.name);
        assert!(!attack.cases.is_empty() && !attack.guards.is_empty(), "{}", attack.name);
        for guard in &attack.guards {
            // One of them, so that a guard that has a key is lifted, and one that is code is taken out: `just guards`.
            let ways = [guard.is_lifted(), !guard.out.is_empty(), guard.none.is_some()];
            let count = ways.iter().filter(|is_it| **is_it).count();
            assert_eq!(count, 1, "{}, {}: it is lifted, taken out or neither: {ways:?}", attack.name, guard.by);
            lifted += usize::from(guard.is_lifted());
            nones += usize::from(guard.none.is_some());
        }
    }
    assert!(lifted >= 40, "{lifted} guards are lifted");
    assert!(nones <= NONES_MAX, "{nones} guards cannot be taken out");
}

#[test]
fn every_guard_in_the_code_is_where_its_attack_says() {
    for attack in Attack::all() {
        for place in attack.guards.iter().flat_map(|guard| &guard.out) {
            assert!(place.file.starts_with("gateway/src/"), "{}: {}", attack.name, place.file);
            let text = std::fs::read_to_string(workspace().join(&place.file)).unwrap_or_default();
            let count = text.matches(&place.code).count();
            assert_eq!(count, 1, "{}: in {} is: {}", attack.name, place.file, place.code);
        }
    }
}

/// Of what wasmtime does whatever it is told.
const NONES_MAX: usize = 5;
