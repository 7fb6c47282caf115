//! An attack on a gateway in a process of its own, as its operator starts it: what it writes to its log, and how much memory
//! that took.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::arena::Servers;
use super::attack::{Attack, Case};
use crate::{Call, compiler, memory};

/// What must hold for the process.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Alone {
    /// How many lines of its log hold which words.
    log: std::collections::BTreeMap<String, usize>,
    /// How long a line may be.
    line_bytes_max: Option<usize>,
    /// What it may have taken at most at one time.
    memory_bytes_max: Option<u64>,
}

/// Tries a case at its first hook. What came out otherwise, a line each.
pub(super) async fn tried(attack: &Attack, case: &Case, alone: &Alone) -> Vec<String> {
    let mut wrong = Vec::new();
    for format in ["text", "json"] {
        let (lines, memory_bytes) = process(attack, case, format).await;
        for (words, count) in &alone.log {
            let found = lines.iter().filter(|line| line.contains(words)).count();
            if found != *count {
                wrong.push(format!("{found} and not {count} lines of the log hold `{words}`: {}", lines.join("\n")));
            }
        }
        wrong.extend(lines.iter().filter_map(|line| odd(line, format, alone)));
        if alone.memory_bytes_max.is_some_and(|bytes_max| memory_bytes > bytes_max) {
            wrong.push(format!("the gateway took {memory_bytes} bytes of memory"));
        }
    }
    wrong
}

/// What is the matter with a line that a plugin could have had a hand in.
fn odd(line: &str, format: &str, alone: &Alone) -> Option<String> {
    let is_event = match format {
        "json" => serde_json::from_str::<Value>(line).is_ok(),
        // The time of the gateway, which is no time of a plugin's.
        _ => line.starts_with("20"),
    };
    let is_hidden = line.chars().any(|c| c.is_control() || "\u{202e}\u{2028}".contains(c));
    if !is_event || is_hidden {
        return Some(format!("a line of the log is {line:?}"));
    }
    let is_long = alone.line_bytes_max.is_some_and(|bytes_max| line.len() > bytes_max);
    is_long.then(|| format!("a line of the log has {} bytes", line.len()))
}

/// The log of the process, and the most memory that it took.
async fn process(attack: &Attack, case: &Case, format: &str) -> (Vec<String>, u64) {
    let servers = Servers::start();
    let builder = servers.builder(attack, case, None).recording().set("/log/format", format);
    let mut builder = builder.set("/log/filter", "warn,stile=debug");
    let file = builder.write();
    let process = Command::new(compiler().expect("cargo builds it with the tests"))
        .args(["serve", "--config"])
        .arg(file)
        .env_remove("STILE_LOG")
        .stderr(Stdio::piped())
        .spawn();
    let mut process = Ended(process.expect("it starts"));
    let log = BufReader::new(process.0.stderr.take().expect("it is piped"));
    let (sender, lines) = mpsc::channel();
    // Read all the time: a gateway that cannot write its log would wait.
    std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let (hook, answer) = case.first();
    let until = Instant::now() + PATIENCE;
    let (mut log, address) = read_until(&lines, until, |line| {
        let (_, rest) = line.split_once("listening")?.1.split_once("127.0.0.1:")?;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u16>().ok()
    });
    let address = address.unwrap_or_else(|| panic!("{} does not listen: {log:?}", attack.name));
    let call = Call::new(([127, 0, 0, 1], address).into(), None, "GET", &format!("/{hook}-reject/1"));
    // It may break off.
    let _ = call.try_send().await;
    if hook != "load" && !answer.ends_with('-') {
        let (more, _) =
            read_until(&lines, Instant::now() + PATIENCE, |line| line.contains("plugin failed").then_some(()));
        log.extend(more);
    }
    let memory_bytes = memory::peak_kib(process.0.id()) * 1024;
    drop(process);
    // The rest comes with the end.
    log.extend(lines.iter());
    (log, memory_bytes)
}

/// The lines up to the first one that has it, and what that has.
fn read_until<T>(
    lines: &Receiver<String>,
    until: Instant,
    find: impl Fn(&str) -> Option<T>,
) -> (Vec<String>, Option<T>) {
    let mut read = Vec::new();
    while let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
        let found = find(&line);
        read.push(line);
        if found.is_some() {
            return (read, found);
        }
    }
    (read, None)
}

/// A process that nobody waits for to drain.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
