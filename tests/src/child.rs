//! Tests that a test starts in a process of their own.

use std::process::{Command, Stdio};

/// What an ignored test of the running binary, by its whole name, wrote to its log; it must succeed.
#[must_use]
pub fn log_of(test: &str) -> String {
    let output = Command::new(std::env::current_exe().expect("it runs"))
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads", "1"])
        .env_remove("STILE_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("it starts again");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{log}");
    log
}
