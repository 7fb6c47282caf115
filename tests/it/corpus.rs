//! The corpus of hostile plugins: each comes to what its folder says, with its guards and without them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;
use stile_tests::corpus::{Attack, check};
use stile_tests::{Gateway, Upstream, api, compiler};

async fn comes_to_what_its_folder_says(name: &str) {
    let wrong = check(&Attack::named(name)).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// A test for each folder.
include!(concat!(env!("OUT_DIR"), "/corpus.rs"));

/// A gateway as its operator starts it, and what it writes to its log while this plugin attacks.
fn logged(attack: &str, format: &str) -> Vec<String> {
    let upstream = Upstream::start();
    let mut builder = Gateway::with(api("orders").upstream(&upstream).pre(attack)).grant(attack, ["log"]);
    builder = builder.set("/log/format", format).set("/log/filter", "debug");
    let file = builder.write();
    let mut process = Command::new(compiler().expect("cargo builds it with the tests"))
        .args(["serve", "--config"])
        .arg(file)
        .env_remove("STILE_LOG")
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines = until_it_failed(BufReader::new(process.stderr.take().expect("it is piped")));
    // It is a test's, and nobody waits for it to drain.
    process.kill().expect("it runs");
    process.wait().expect("it ends");
    lines
}

/// Calls the API as soon as the gateway listens, and reads on until the plugin has failed.
fn until_it_failed(log: impl BufRead) -> Vec<String> {
    let mut lines = Vec::new();
    for line in log.lines() {
        let line = line.expect("it is text");
        let address = line.split_once("listening").and_then(|(_, rest)| rest.split_once("127.0.0.1:"));
        if let Some((_, rest)) = address {
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            let answer = Command::new("curl").args(["-s", &format!("http://127.0.0.1:{port}/orders/1")]).output();
            assert!(answer.expect("curl runs").status.success());
        }
        let is_last = line.contains("plugin failed");
        lines.push(line);
        if is_last {
            break;
        }
    }
    lines
}

#[test]
fn no_line_of_the_log_is_a_plugins_own() {
    for format in ["text", "json"] {
        let lines = logged("log-forgery", format);
        // What it logged, what it printed, and how it failed.
        let its: Vec<_> = lines.iter().filter(|line| line.contains("forged")).collect();
        assert!(its.len() >= 2, "{lines:?}");
        for line in &lines {
            assert!(!line.starts_with("2999"), "{line:?}");
            assert!(!line.chars().any(|c| c.is_control() || "\u{202e}\u{2028}".contains(c)), "{line:?}");
            assert!(format == "text" || serde_json::from_str::<Value>(line).is_ok(), "{line:?}");
        }
    }
}

/// The nouns of the table, each with its attacks.
fn table() -> Vec<(String, Vec<String>)> {
    let file = stile_tests::workspace().join("tests/plugins/corpus/README.md");
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
fn every_attack_says_why_and_what_stands_against_it() {
    let (mut lifted, mut code) = (0, 0);
    for attack in Attack::all() {
        assert!(!attack.why.is_empty() && !attack.why.contains('\n'), "{}", attack.name);
        assert!(!attack.cases.is_empty() && !attack.guards.is_empty(), "{}", attack.name);
        let count = attack.guards.iter().filter(|guard| guard.is_lifted()).count();
        (lifted, code) = (lifted + count, code + attack.guards.len() - count);
    }
    // So that a guard that has a key is lifted.
    assert!(lifted >= 40, "{lifted} guards are lifted, {code} are code");
}
