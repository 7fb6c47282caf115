//! What a user of the command sees.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

mod control;

use std::io;

use super::*;

#[test]
fn arguments_are_consistent() {
    Cli::command().debug_assert();
}

/// Runs a command, gives what it wrote to standard output.
fn output(arguments: &[&str]) -> (String, Result<(), Failure>) {
    let cli = Cli::try_parse_from(std::iter::once("stile").chain(arguments.iter().copied())).expect("arguments");
    let mut out = Vec::new();
    let result = execute(cli.command, &mut out);
    (String::from_utf8(out).expect("text"), result)
}

fn data(file: &str) -> String {
    format!("{}/../tests/data/definitions/{file}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn check_lists_problems_and_a_summary() {
    let (text, result) = output(&["check", "-c", &data("broken.yaml")]);
    assert!(matches!(result, Err(Failure::Told)));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().any(|l| l.starts_with("error: ") && l.contains("broken.yaml: workers: 0 is out")), "{text}");
    assert!(lines.contains(&"  hint: at least 1"), "{text}");
    assert!(lines.last().is_some_and(|l| l.ends_with("broken.yaml: 2 errors, 1 warning")), "{text}");
}

#[test]
fn check_denies_warnings_when_told_to() {
    let (text, result) = output(&["check", "-c", &data("warned.yaml")]);
    assert!(result.is_ok(), "{text}");
    assert!(text.ends_with("warned.yaml: good: 0 APIs, 0 plugins; 0 errors, 1 warning\n"), "{text}");
    let (text, result) = output(&["check", "--deny-warnings", "-c", &data("warned.yaml")]);
    assert!(matches!(result, Err(Failure::Told)), "{text}");
}

#[test]
fn check_looks_at_files_that_are_pinned() {
    let folder = std::env::temp_dir().join(format!("stile-check-pinned-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    std::fs::write(folder.join("a.wasm"), "a component").expect("it is ours");
    let api = "apis: [ { id: x, listen: { path: / }, upstream: { url: \"http://a\" }, hooks: { pre: [a] } } ]";
    let check = |content: &[u8]| {
        let pin = crate::model::digest::Digest::of(content).hex();
        let file = folder.join("stile.yaml");
        std::fs::write(&file, format!("plugins: {{ a: {{ file: a.wasm, sha256: {pin} }} }}\n{api}"))
            .expect("it is ours");
        output(&["check", "-c", file.to_str().expect("our names are text")])
    };

    assert!(check(b"a component").1.is_ok());
    let (text, result) = check(b"another");
    assert!(matches!(result, Err(Failure::Told)), "{text}");
    assert!(text.contains("error: plugins.a: plugin `a`: its file has the sha256 "), "{text}");
    std::fs::remove_dir_all(folder).expect("it was made");
}

#[test]
fn exit_codes_tell_bad_usage_from_success() {
    let code = |arguments: &[&str]| {
        let arguments = std::iter::once("stile").chain(arguments.iter().copied());
        format!("{:?}", run(arguments.map(OsString::from)))
    };
    let expected = |code: u8| format!("{:?}", ExitCode::from(code));
    assert_eq!(code(&["--version"]), expected(0));
    assert_eq!(code(&["check", "-c", &data("none.yaml")]), expected(2));
    assert_eq!(code(&["serve", "-c", &data("none.yaml")]), expected(2));
    assert_eq!(code(&["serve", "--no-such-option"]), expected(2));
}

#[test]
fn the_schema_is_json_and_completions_are_written() {
    let (text, result) = output(&["schema"]);
    assert!(result.is_ok());
    let schema: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(schema.pointer("/properties/listen").is_some());
    let (text, result) = output(&["completions", "bash"]);
    assert!(result.is_ok());
    assert!(text.contains("stile"));
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for arguments in [["stile", "schema"].as_slice(), &["stile", "completions", "zsh"]] {
        let cli = Cli::try_parse_from(arguments).expect("arguments");
        match execute(cli.command, &mut Closed) {
            Err(Failure::Output(error)) => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn progress_counts_without_a_terminal() {
    let progress = progress::Progress::new(2);
    progress.step("a");
    progress.step("b");
    progress.finish();
}
