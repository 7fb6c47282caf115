//! The other side: a process that reads a component and compiles it, or a configuration and checks it, writes what comes of
//! it, and can do little else.
//!
//! It takes its limits upon itself before it reads a byte.

use std::io::{self, Read, Write};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal};

use crate::model::digest::Digest;
use crate::plugin::engine::CodeSettings;
use crate::plugin::schema::Question;
use crate::plugin::seal::Seal;

/// The command of `stile` that does so. It is not for people.
pub const COMMAND: &str = "compile-plugin";

/// What to do, and what that may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// What to do.
    pub work: Work,
    /// Wall time, which the gateway watches; here as time of a processor for each thread.
    pub time_max: Duration,
    /// Memory.
    pub memory_bytes_max: u64,
    /// Threads.
    pub threads: usize,
}

/// What such a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// To compile a component, for an engine with these settings.
    Compile(CodeSettings),
    /// To answer a question about a configuration.
    Validate,
}

impl Work {
    fn word(self) -> String {
        match self {
            Self::Compile(code) => code.word(),
            Self::Validate => VALIDATE.to_owned(),
        }
    }

    fn parse(word: &str) -> Option<Self> {
        if word == VALIDATE { Some(Self::Validate) } else { CodeSettings::parse(word).map(Self::Compile) }
    }
}

impl Order {
    /// As arguments of the command.
    pub fn arguments(&self) -> [String; 4] {
        let seconds = self.time_max.as_secs();
        [self.work.word(), seconds.to_string(), self.memory_bytes_max.to_string(), self.threads.to_string()]
    }

    /// Reads what [`Order::arguments`] wrote.
    pub fn parse(arguments: &[String]) -> Option<Self> {
        let [work, seconds, memory_bytes_max, threads] = arguments else { return None };
        Some(Self {
            work: Work::parse(work)?,
            time_max: Duration::from_secs(seconds.parse().ok()?),
            memory_bytes_max: memory_bytes_max.parse().ok()?,
            threads: threads.parse().ok()?,
        })
    }
}

/// The first byte of what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The compiled component comes after it.
    Compiled = 1,
    /// The reason comes after it.
    Refused = 2,
    /// What was found comes after it, as JSON.
    Validated = 3,
}

impl Outcome {
    pub(super) fn parse(byte: &[u8]) -> Option<Self> {
        [Self::Compiled, Self::Refused, Self::Validated].into_iter().find(|outcome| [*outcome as u8] == byte)
    }
}

/// Does what the process is for: reads a key and what to work on, writes the sealed outcome.
pub fn run(order: &Order, input: &mut dyn Read, output: &mut dyn Write) -> io::Result<()> {
    confine(order)?;
    let mut key = [0; 32];
    input.read_exact(&mut key)?;
    let mut given = Vec::new();
    input.read_to_end(&mut given)?;
    let (outcome, content) = match order.work {
        Work::Compile(code) => match compile(code, order.threads, &given) {
            Ok(compiled) => (Outcome::Compiled, compiled),
            Err(error) => (Outcome::Refused, cut(format!("{error:#}")).into_bytes()),
        },
        Work::Validate => {
            let question: Question = serde_json::from_slice(&given)?;
            (Outcome::Validated, serde_json::to_vec(&question.answer())?)
        }
    };
    let mut sealed = content;
    sealed.insert(0, outcome as u8);
    output.write_all(&Seal::new(key).code(&Digest::of(&given), &sealed))?;
    output.write_all(&sealed)?;
    output.flush()
}

fn compile(code: CodeSettings, threads: usize, wasm: &[u8]) -> wasmtime::Result<Vec<u8>> {
    let mut config = code.config();
    config.parallel_compilation(threads > 1);
    wasmtime::Engine::new(&config)?.precompile_component(wasm)
}

fn cut(mut text: String) -> String {
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= REASON_BYTES_MAX).last().unwrap_or(0);
    if text.len() > REASON_BYTES_MAX {
        text.truncate(end);
    }
    text
}

/// Takes the limits upon this process: after it nothing here can be more than the operator allowed.
fn confine(order: &Order) -> io::Result<()> {
    // Should the gateway be killed, this ends as well.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // Where the gateway itself has less already, this has too.
    let _ = rustix::process::setpriority_process(None, NICE);
    let threads = u64::try_from(order.threads).unwrap_or(u64::MAX);
    let cpu_seconds = order.time_max.as_secs().saturating_add(1).saturating_mul(threads);
    let mapped = mapped_bytes()?;
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, 0, 0)?;
    limit(Resource::Nofile, FILES_MAX, FILES_MAX)?;
    // First a signal that tells what it is for, then one that cannot be caught.
    limit(Resource::Cpu, cpu_seconds, cpu_seconds.saturating_add(1))?;
    limit(Resource::Data, order.memory_bytes_max, order.memory_bytes_max)?;
    // What is mapped already is the program itself; on systems that do not count data, this counts.
    let mapped_max = mapped.saturating_add(order.memory_bytes_max);
    limit(Resource::As, mapped_max, mapped_max)
}

/// Sets a limit, and lifts none that is lower.
fn limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let now = rustix::process::getrlimit(resource);
    let lower = |new: u64, now: Option<u64>| Some(now.map_or(new, |now| new.min(now)));
    let maximum = lower(hard, now.maximum);
    let current = lower(soft, maximum);
    Ok(rustix::process::setrlimit(resource, Rlimit { current, maximum })?)
}

/// What this process has mapped.
fn mapped_bytes() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages = text.split_whitespace().next().and_then(|pages| pages.parse::<u64>().ok());
    let page_bytes = u64::try_from(rustix::param::page_size()).unwrap_or(u64::MAX);
    pages
        .map(|pages| pages.saturating_mul(page_bytes))
        .ok_or_else(|| io::Error::other("`/proc/self/statm` is not a number"))
}

/// No engine has settings of this name.
const VALIDATE: &str = "validate";
/// Requests come first.
const NICE: i32 = 15;
/// The three that it was given, and what the library reads about the machine.
const FILES_MAX: u64 = 16;
const REASON_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_written() {
        for work in [Work::Compile(CodeSettings::parse("tight:65536").expect("settings")), Work::Validate] {
            let time_max = Duration::from_secs(60);
            let order = Order { work, time_max, memory_bytes_max: 1 << 30, threads: 2 };
            assert_eq!(Order::parse(&order.arguments()), Some(order));
        }
        assert_eq!(Order::parse(&[]), None);
        assert_eq!(Outcome::parse(&[2]), Some(Outcome::Refused));
        assert_eq!(Outcome::parse(&[0]), None);
        assert_eq!(cut("é".repeat(2000)).len(), REASON_BYTES_MAX);
    }
}
