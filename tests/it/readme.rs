//! The README does what it says: its commands give the answers beside them, and its first plugin builds and runs. The
//! reference names the metrics that there are.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use stile::app::Running;
use stile::clock::Clock;
use stile_tests::{Folder, guest, workspace};

#[test]
fn the_demo_answers_as_the_readme_says() {
    let (before, _) = parts();
    let (demo, port, _folder) = demo();

    check(&before, &[("localhost:8080", port), ("localhost:8081", control_port(&demo))], 8);
}

#[test]
fn the_first_plugin_of_the_readme_runs() {
    let (_, after) = parts();
    let folder = Folder::new();
    let (_demo, demo_port, _folder) = demo();
    let lines = file(&after, "first/src/lib.rs").lines().count();
    assert!(lines <= 15, "a first plugin should be short, this has {lines} lines");

    let wasm = build(&after, &folder);
    let definition = file(&after, "first/stile.yaml")
        .replace("target/wasm32-wasip2/release/first.wasm", wasm.to_str().expect("a path in UTF-8"))
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{demo_port}"))
        .replace("127.0.0.1:8090", "127.0.0.1:0")
        .replace("127.0.0.1:8091", "127.0.0.1:0");
    let gateway = serve(&folder.write("stile.yaml", definition)).expect("the first plugin is served");

    check(&after, &[("localhost:8090", gateway.addresses.first().expect("it listens").port())], 1);
}

#[test]
fn the_two_commands_of_the_start_are_there() {
    let (before, _) = parts();
    let (_, start) = before.split_once("\n## Start\n").expect("the README has a start");
    let (start, _) = start.split_once("\n## ").expect("more comes after it");
    let commands: Vec<_> = fences(start, "sh").map(str::trim).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        assert!(workspace().join(command).is_file(), "{command}");
    }
}

#[test]
fn metrics_of_the_reference_are_those_of_the_page() {
    let mut named = BTreeSet::new();
    for row in rows("## Metrics") {
        let mut stem = "";
        for name in row.split('`').skip(1).step_by(2) {
            if let Some(end) = name.strip_prefix('…') {
                named.insert(format!("{stem}{end}"));
            } else if name.starts_with("stile_") && !name.ends_with('…') {
                stem = name.rsplit_once('_').map_or(name, |(stem, _)| stem);
                named.insert(name.to_owned());
            }
        }
    }
    let (demo, _, _folder) = demo();
    let page = demo.metrics.render();
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let unnamed: Vec<_> =
        families.filter(|name| !named.contains(*name) && !name.starts_with("stile_plugin_own_")).collect();
    assert!(unnamed.is_empty(), "not in the reference: {unnamed:?}");
    // The page leaves families out that have no values yet.
    let rare = [
        "analytics_bodies_cut",
        "plugin_api_call_seconds",
        "plugin_api_calls",
        "plugin_compile_seconds",
        "plugin_load_failures",
        "plugin_outgoing_requests",
        "plugin_outgoing_seconds",
        "plugin_session_calls",
        "refusals",
        "sessions_not_written_back",
        "upstream_failures",
        "version_requests",
    ]
    .map(|name| format!("stile_{name}"));
    let is_there = |name: &&String| page.contains(&format!("# TYPE {name} ")) || rare.contains(name);
    let unknown: Vec<_> = named.iter().filter(|name| !is_there(name)).collect();
    assert!(unknown.is_empty(), "not on the page: {unknown:?}");
}

/// The rows of the first table after a heading of the reference.
fn rows(heading: &str) -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join("gateway/REFERENCE.md")).expect("the reference is there");
    let (_, section) = text.split_once(&format!("\n{heading}\n")).expect("it has this heading");
    let table = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    table.take_while(|line| line.starts_with('|')).map(str::to_owned).collect()
}

/// The README before its first plugin, and from there.
fn parts() -> (String, String) {
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("the README is there");
    let (before, after) = readme.split_once("\n## A first plugin").expect("the README has a first plugin");
    (before.to_owned(), after.to_owned())
}

/// Serves the demo on ports of its own, from a file in the folder. Its backend is itself, so its port must be known before.
fn demo() -> (Running, u16, Folder) {
    // The first who asks for one builds them all.
    assert!(guest("hello").is_file());
    let text = std::fs::read_to_string(workspace().join("demo/stile.yaml")).expect("the demo is there");
    let target = workspace().join("target/");
    let text =
        text.replace("../target/", target.to_str().expect("a path in UTF-8")).replace("127.0.0.1:8081", "127.0.0.1:0");
    let mut problem = String::new();
    // Somebody else may take the port in between.
    for _ in 0..5 {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("there is a free port").port();
        let folder = Folder::new();
        match serve(&folder.write("stile.yaml", text.replace("127.0.0.1:8080", &format!("127.0.0.1:{port}")))) {
            Ok(running) => return (running, port, folder),
            Err(error) => problem = error,
        }
    }
    panic!("the demo does not start: {problem}")
}

fn serve(file: &Path) -> Result<Running, String> {
    let (model, _) = stile::spec::read(file).map_err(|problems| problems.to_string())?;
    let running = stile::app::start(&model, &Clock::system(), None, |_| {}).map_err(|error| error.to_string())?;
    assert_eq!(running.snapshot().problems, []);
    Ok(running)
}

fn control_port(gateway: &Running) -> u16 {
    gateway.control().expect("it has a control port").port()
}

/// Builds the first plugin from its text, in a folder that has nothing else.
fn build(readme: &str, folder: &Folder) -> PathBuf {
    let root = workspace();
    let sdk = root.join("sdk");
    for name in ["first/Cargo.toml", "first/.cargo/config.toml", "first/src/lib.rs"] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a temporary folder");
        let text = file(readme, name).replace("../sdk", sdk.to_str().expect("a path in UTF-8"));
        std::fs::write(path, text).expect("a temporary file");
    }
    // The versions that the example plugins have, so that nothing is fetched.
    let lock = std::fs::read(root.join("example-plugins/Cargo.lock")).expect("the examples have a lock file");
    folder.write("first/Cargo.lock", lock);
    // With the profile that the other plugins have, all but the plugin itself is built already.
    let target = root.join("target/plugins");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--target", "wasm32-wasip2"])
        .current_dir(folder.path().join("first"))
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    target.join("wasm32-wasip2/release/first.wasm")
}

/// The text of a file: what is fenced and begins with its name in a comment.
fn file<'a>(readme: &'a str, name: &str) -> &'a str {
    let text = ["toml", "rust", "yaml"].into_iter().flat_map(|kind| fences(readme, kind)).find_map(|text| {
        let (head, text) = text.split_once('\n')?;
        (head.trim_start_matches(['#', '/', ' ']) == name).then_some(text)
    });
    text.unwrap_or_else(|| panic!("the README has no {name}"))
}

/// What stands between fences of one kind.
fn fences<'a>(readme: &'a str, kind: &str) -> impl Iterator<Item = &'a str> {
    let open = format!("\n```{kind}\n");
    let mut rest = readme;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&open)?;
        let (text, after) = after.split_once("\n```")?;
        rest = after;
        Some(text)
    })
}

/// Runs each command after `$ ` and compares what it prints with the lines below it.
fn check(readme: &str, ports: &[(&str, u16)], commands: usize) {
    let mut count = 0;
    for session in fences(readme, "console") {
        for step in format!("\n{session}").split("\n$ ").skip(1) {
            let (command, expected) = step.split_once('\n').unwrap_or((step, ""));
            let moved = |text: String, (from, to): &(&str, u16)| text.replace(from, &format!("127.0.0.1:{to}"));
            let output = Command::new("bash")
                .args(["-c", &ports.iter().fold(command.to_owned(), moved)])
                .output()
                .expect("bash runs");
            let printed = String::from_utf8_lossy(&output.stdout).replace('\r', "");
            assert_eq!(
                printed.trim_end(),
                expected.trim_end(),
                "{command}\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
            count += 1;
        }
    }
    assert!(count >= commands, "only {count} commands were found");
}
