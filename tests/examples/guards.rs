//! Takes every guard of the corpus that is code out of the code, one at a time, and runs its attack's test, which must fail
//! then. Run by `just guards`; arguments are names of attacks, all without. Fails where a test passes without its guard.
//!
//! All guards are taken out of one copy of the gateway, which is built once: in it, each place asks the environment whether
//! its guard is out. Nothing of the copy is in what is built otherwise.
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use stile_tests::corpus::{Attack, Guard, Place, with_guards_to_take_out};
use stile_tests::{guest, workspace};

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let is_meant = |attack: &&Attack| names.is_empty() || names.contains(&attack.name);
    let all = Attack::all();
    let attacks: Vec<&Attack> = all.iter().filter(is_meant).collect();
    // Before anything is measured by time; and the copy has none of its own.
    assert!(guest("hello").is_file());
    // What is built is the same whichever attacks are meant.
    let tests = built(&all);
    println!("{:<20} {:<60} the attack's test without it", "attack", "guard");
    let (mut taken_out, mut wrong, mut nones) = (0, 0, 0);
    for attack in attacks {
        let guards: Vec<(usize, &Guard)> = attack.guards.iter().enumerate().collect();
        if guards.iter().any(|(_, guard)| !guard.out.is_empty())
            && let Some(failure) = failure(&tests, attack, "")
        {
            row(attack, "with all guards", &format!("WRONG: it fails: {failure}"));
            wrong += 1;
            continue;
        }
        for (index, guard) in guards {
            if let Some(why) = &guard.none {
                nones += 1;
                row(attack, &guard.by, &format!("cannot be taken out: {why}"));
            } else if !guard.out.is_empty() {
                taken_out += 1;
                let said = failure(&tests, attack, &attack.guard_name(index));
                wrong += usize::from(said.is_none());
                row(attack, &guard.by, said.as_deref().unwrap_or("WRONG: it passes"));
            }
        }
    }
    println!("{taken_out} guards were taken out, {wrong} are wrong; {nones} cannot be taken out");
    if wrong == 0 && taken_out + nones > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn row(attack: &Attack, guard: &str, said: &str) {
    println!("{:<20} {:<60} {}", attack.name, cut(guard, 60), cut(said, 160));
}

fn cut(text: &str, length: usize) -> String {
    text.chars().take(length).collect()
}

/// How the attack's test fails without this guard; `None` where it passes.
fn failure(tests: &Path, attack: &Attack, guard: &str) -> Option<String> {
    let test = format!("corpus::{}", attack.name.replace('-', "_"));
    let mut command = Command::new(tests);
    command.args([&test, "--exact", "--nocapture"]).env(TAKEN_OUT, guard).env_remove("RUST_BACKTRACE");
    let Some(output) = output(&mut command) else { return Some(format!("not over after {} s", TIME_MAX.as_secs())) };
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if let Some(signal) = output.status.signal() {
        return Some(format!("the process ended with signal {signal}"));
    }
    if output.status.success() {
        assert!(told.contains("1 passed"), "there is no test {test}");
        return None;
    }
    // A panic of the test itself, rather than one within the gateway.
    let panicked = |begin: &str| {
        let mut lines = errors.lines().skip_while(|line| !(line.contains("panicked at") && line.contains(begin)));
        lines.nth(1).map(str::to_owned)
    };
    Some(panicked("tests/").or_else(|| panicked("")).unwrap_or_else(|| format!("it ended with {}", output.status)))
}

/// What a command told; `None` where it took too long.
fn output(command: &mut Command) -> Option<Output> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.process_group(0).spawn().expect("it starts");
    let group = child.id().to_string();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(TIME_MAX) {
        Ok(output) => Some(output.expect("it ends")),
        Err(_) => {
            // With the compilers that it started.
            let killed = Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).status();
            assert!(killed.is_ok_and(|status| status.success()), "it is not over, and cannot be ended");
            None
        }
    }
}

/// Builds the copy, and returns its tests, with the compiler beside them.
fn built(attacks: &[Attack]) -> PathBuf {
    let program = std::env::current_exe().expect("it runs");
    // Of `target/debug/examples/guards`.
    let target = program.ancestors().nth(3).expect("cargo built it");
    let folder = target.join("guards");
    let copy = folder.join("src");
    write_copy(attacks, &copy);
    let output = Command::new(env!("CARGO"))
        .args(["test", "--workspace", "--test", "it", "--no-run", "--message-format", "json-render-diagnostics"])
        .current_dir(&copy)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        // What is not the workspace's own is not built again.
        .env("CARGO_BUILD_BUILD_DIR", target)
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "the copy does not build");
    let artifacts = String::from_utf8_lossy(&output.stdout);
    let artifacts = artifacts.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let executable = |name: &str| {
        let mut of_it = artifacts.clone().filter(|artifact| artifact.pointer("/target/name") == Some(&name.into()));
        let file = of_it.find_map(|artifact| artifact.get("executable")?.as_str().map(PathBuf::from));
        file.unwrap_or_else(|| panic!("cargo built no `{name}`"))
    };
    let programs = folder.join("programs");
    fs::create_dir_all(&programs).expect("a folder");
    for name in ["it", "stile-of-tests"] {
        let place = programs.join(name);
        let _ = fs::remove_file(&place);
        fs::hard_link(executable(name), place).expect("a link");
    }
    programs.join("it")
}

/// Makes the copy: links to all that stays as it is, and the gateway's code with its guards to be taken out.
fn write_copy(attacks: &[Attack], copy: &Path) {
    let mut places: BTreeMap<PathBuf, Vec<(String, &Place)>> = BTreeMap::new();
    for attack in attacks {
        for (index, guard) in attack.guards.iter().enumerate() {
            for place in &guard.out {
                let file = workspace().join(&place.file);
                places.entry(file).or_default().push((attack.guard_name(index), place));
            }
        }
    }
    link_all_but(&["target", ".git", "Cargo.toml", "Cargo.lock", "gateway"], workspace(), copy);
    link_all_but(&["src"], &workspace().join("gateway"), &copy.join("gateway"));
    // Compiled plugins are its own: they may be made without a guard.
    link_all_but(&["cache"], &workspace().join("target/plugins"), &copy.join("target/plugins"));
    // Another version, so that cargo does not take it for the workspace itself, whose files it would write.
    let manifest = fs::read_to_string(workspace().join("Cargo.toml")).expect("there is one");
    let version = concat!("version = \"", env!("CARGO_PKG_VERSION"));
    write(&copy.join("Cargo.toml"), &manifest.replacen(version, &format!("{version}+guards"), 1));
    fs::copy(workspace().join("Cargo.lock"), copy.join("Cargo.lock")).expect("there is one");
    let code = workspace().join("gateway/src");
    write_code(&code, &copy.join("gateway/src"), &places);
    assert!(places.keys().all(|file| file.starts_with(&code)), "guards are in gateway/src: {:?}", places.keys());
}

fn write_code(from: &Path, to: &Path, places: &BTreeMap<PathBuf, Vec<(String, &Place)>>) {
    for (name, file) in entries(from) {
        let place = to.join(&name);
        if file.is_dir() {
            write_code(&file, &place, places);
            continue;
        }
        let mut text = fs::read_to_string(&file).expect("code is text");
        if let Some(places) = places.get(&file) {
            text =
                with_guards_to_take_out(&text, places, "crate::is_taken_out").unwrap_or_else(|wrong| panic!("{wrong}"));
        }
        if file.ends_with("gateway/src/lib.rs") {
            text = format!("#![allow(warnings)]\n{text}{}", IS_TAKEN_OUT.replace("TAKEN_OUT", TAKEN_OUT));
        }
        if file.ends_with("plugin/compile/child.rs") {
            // The process that compiles has no environment but this.
            let (clear, with) = (
                ".env_clear()",
                format!(".env_clear().envs(std::env::vars().filter(|(name, _)| name == {TAKEN_OUT:?}))"),
            );
            assert_eq!(text.matches(clear).count(), 1, "{}", file.display());
            text = text.replace(clear, &with);
        }
        write(&place, &text);
    }
}

fn link_all_but(names: &[&str], from: &Path, to: &Path) {
    for (name, file) in entries(from) {
        if !names.contains(&name.as_str()) {
            link(&file, &to.join(name));
        }
    }
}

fn link(file: &Path, place: &Path) {
    fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
    let _ = fs::remove_file(place);
    symlink(file, place).expect("a link");
}

/// Writes a file where it is not the same: cargo goes by its time.
fn write(place: &Path, text: &str) {
    if fs::read_to_string(place).is_ok_and(|before| before == text) {
        return;
    }
    fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
    fs::write(place, text).expect("it is written");
}

fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .map(|file| (file.file_name().and_then(|name| name.to_str()).expect("our names are text").to_owned(), file))
        .collect()
}

/// The variable that holds the guard's name.
const TAKEN_OUT: &str = "STILE_GUARD_OUT";

const IS_TAKEN_OUT: &str = r#"
pub(crate) fn is_taken_out(guard: &str) -> bool {
    static OUT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    OUT.get_or_init(|| std::env::var("TAKEN_OUT").unwrap_or_default()) == guard
}
"#;

/// Many times what the slowest test takes.
const TIME_MAX: Duration = Duration::from_secs(120);
