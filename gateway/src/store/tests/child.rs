//! A child that works on a store until it is killed: this test binary, started again for one ignored test.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The store's file, in a child; nothing where somebody runs its test by hand.
pub(super) fn file() -> Option<OsString> {
    std::env::var_os(FILE)
}

/// Tells the parent: first [`BEGIN`], once the store is open.
pub(super) fn say(line: &str) {
    // One write each, so that a line is there as a whole or not at all.
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).expect("the parent listens");
}

/// Starts a child for the test of this name, kills it so long after it began, and gives what it said until then.
pub(super) fn killed(test: &str, file: &Path, after: Duration) -> impl Iterator<Item = String> {
    let mut child = Command::new(std::env::current_exe().expect("it runs"))
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads", "1"])
        .env(FILE, file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts again");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some(BEGIN), "it opens after every kill");
    let killer = std::thread::spawn(move || {
        std::thread::sleep(after);
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    });
    let mut killer = Some(killer);
    std::iter::from_fn(move || {
        let line = lines.next();
        if line.is_none()
            && let Some(killer) = killer.take()
        {
            killer.join().expect("it does not panic");
        }
        line
    })
}

/// What a child says when its store is open.
pub(super) const BEGIN: &str = "begin";
const FILE: &str = "STILE_TEST_STORE_FILE";
