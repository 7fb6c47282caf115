//! The gateway's side of a process that compiles or checks: starts it, gives it what to work on, waits for what comes of it,
//! ends it.
//!
//! Nothing that the process does is believed but bytes that carry the seal, whose key it was given with its work.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal, kill_process_group};
use wasmtime::component::Component;

use super::CompileError;
use super::confined::{COMMAND, Order, Outcome, Work};
use crate::model::digest::Digest;
use crate::model::plugin::Limits;
use crate::plugin::engine::Engine;
use crate::plugin::schema::{Misfit, Question};
use crate::plugin::seal::{Opened, Seal};

/// Has `program` compile a component.
pub(super) fn compile(
    program: &Path,
    threads: usize,
    engine: &Engine,
    wasm: &[u8],
    digest: &Digest,
    limits: &Limits,
) -> Result<Component, CompileError> {
    let order = Order {
        work: Work::Compile(engine.code()),
        time_max: limits.compile_time_max,
        memory_bytes_max: limits.compile_memory_bytes_max,
        threads,
    };
    let bytes_max = limits.compiled_bytes_max;
    ask(program, &order, wasm, digest, bytes_max, |outcome, content| match outcome {
        Outcome::Refused => Err(CompileError::Refused(String::from_utf8_lossy(content.bytes()).into_owned())),
        // Reading stopped a little above the limit, because of what is around it.
        Outcome::Compiled if u64::try_from(content.bytes().len()).is_ok_and(|bytes| bytes > bytes_max) => {
            Err(CompileError::Compiled)
        }
        Outcome::Compiled => content
            .component(engine.wasmtime())
            .map_err(|error| CompileError::Broken(format!("what it made cannot be loaded: {error:#}"))),
        Outcome::Validated => Err(broken()),
    })
}

/// Has `program` answer a question.
pub(super) fn validate(
    program: &Path,
    question: &Question,
    time_max: Duration,
    memory_bytes_max: u64,
) -> Result<Result<(), Misfit>, CompileError> {
    let order = Order { work: Work::Validate, time_max, memory_bytes_max, threads: 1 };
    let asked = serde_json::to_vec(question).map_err(|error| CompileError::Start(error.into()))?;
    ask(program, &order, &asked, &Digest::of(&asked), ANSWER_BYTES_MAX, |outcome, content| match outcome {
        Outcome::Validated => serde_json::from_slice(content.bytes()).map_err(|_| broken()),
        Outcome::Compiled | Outcome::Refused => Err(broken()),
    })
}

/// Has `program` carry out an order, and reads what it wrote.
fn ask<T>(
    program: &Path,
    order: &Order,
    given: &[u8],
    digest: &Digest,
    answer_bytes_max: u64,
    read: impl FnOnce(Outcome, Opened<'_>) -> Result<T, CompileError>,
) -> Result<T, CompileError> {
    let seal = Seal::random().map_err(CompileError::Start)?;
    let input = input(&seal, given).map_err(CompileError::Start)?;
    let answer = run(program, order, input, answer_bytes_max)?;
    let (outcome, content) = seal.open(digest, &answer).and_then(|opened| opened.split_at(1)).ok_or_else(broken)?;
    read(Outcome::parse(outcome).ok_or_else(broken)?, content)
}

fn broken() -> CompileError {
    CompileError::Broken("what it wrote is not whole".to_owned())
}

/// What the process reads: memory that both see, so that neither waits for the other.
fn input(seal: &Seal, given: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("stile-compile", MemfdFlags::CLOEXEC)?);
    file.write_all(seal.key())?;
    file.write_all(given)?;
    file.rewind()?;
    Ok(file)
}

/// A process, which does not outlive this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        if let (Ok(None), Ok(group)) = (self.0.try_wait(), i32::try_from(self.0.id())) {
            // With whatever it started, against all expectation.
            let _ = Pid::from_raw(group).map(|group| kill_process_group(group, Signal::KILL));
        }
        // Waited for, so that nothing of it is left.
        let _ = self.0.wait();
    }
}

/// Runs the program to its end, and returns what it wrote.
fn run(program: &Path, order: &Order, input: File, answer_bytes_max: u64) -> Result<Vec<u8>, CompileError> {
    let deadline = Instant::now() + order.time_max;
    let child = Command::new(program)
        .arg(COMMAND)
        .args(order.arguments())
        .env_clear()
        // The allocator would begin with a gigabyte, which counts as taken whether it is used or not.
        .env("MIMALLOC_ARENA_RESERVE", "0")
        // Otherwise it would have one for each processor as soon as there may be more than one.
        .env("RAYON_NUM_THREADS", order.threads.to_string())
        .current_dir("/")
        // A signal from the terminal is for the gateway, which ends its children itself.
        .process_group(0)
        .stdin(Stdio::from(input))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut process = Process(child.map_err(CompileError::Start)?);
    let read_max = answer_bytes_max.saturating_add(ANSWER_BYTES_SPARE);
    let (Some(output), Some(errors)) = (process.0.stdout.take(), process.0.stderr.take()) else {
        return Err(CompileError::Start(io::ErrorKind::BrokenPipe.into()));
    };
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        let (mut answer, mut words) = (Vec::new(), Vec::new());
        // One byte more than allowed shows that there is more.
        let is_read = output.take(read_max.saturating_add(1)).read_to_end(&mut answer);
        let is_read = is_read.and_then(|_| errors.take(WORDS_BYTES_MAX).read_to_end(&mut words));
        // Nobody listens any more when it took too long.
        let _ = sender.send(is_read.map(|_| (answer, words)));
    };
    let thread = std::thread::Builder::new().name("stile-compile".to_owned()).spawn(read);
    thread.map_err(CompileError::Start)?;
    let (answer, words) = match receiver.recv_timeout(order.time_max) {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => return Err(CompileError::Broken(format!("it cannot be read: {error}"))),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Err(CompileError::Time),
    };
    if u64::try_from(answer.len()).unwrap_or(u64::MAX) > read_max {
        return Err(CompileError::Compiled);
    }
    let status = ended(&mut process, deadline)?;
    if status.success() { Ok(answer) } else { Err(failed(status, &String::from_utf8_lossy(&words))) }
}

/// Waits for the end of a process that has closed what it writes to.
fn ended(process: &mut Process, deadline: Instant) -> Result<ExitStatus, CompileError> {
    loop {
        if let Some(status) = process.0.try_wait().map_err(CompileError::Start)? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(CompileError::Time);
        }
        std::thread::sleep(LOOK);
    }
}

/// Why a process did not succeed, by its end and its last words.
fn failed(status: ExitStatus, words: &str) -> CompileError {
    // The time of its processor is limited as well, and bites first where it has several threads.
    if status.signal() == Some(Signal::XCPU.as_raw()) {
        return CompileError::Time;
    }
    // What Rust says before it aborts, and what the system says where memory was asked for otherwise.
    if ["memory allocation of", "Cannot allocate memory", "os error 12"].iter().any(|said| words.contains(said)) {
        return CompileError::Memory;
    }
    CompileError::Broken(format!("it ended with {status}: {}", words.trim()))
}

const LOOK: Duration = Duration::from_millis(1);
const WORDS_BYTES_MAX: u64 = 4096;
/// More than a path and a reason, as they are cut.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// For the seal, and for the words of a refusal.
const ANSWER_BYTES_SPARE: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gateway::Runtime;
    use crate::plugin::machine::Machine;

    /// A shell script in the place of the compiler.
    fn compiled_by(script: &str, time_max: Duration, threads: usize) -> CompileError {
        // Written to a file that is not started itself: a file that is open for writing, in a child of another test
        // perhaps, cannot be.
        let folder = std::env::temp_dir().join(format!(
            "stile-child-{}-{}",
            std::process::id(),
            Digest::of(format!("{threads} {script}").as_bytes()).short()
        ));
        std::fs::create_dir_all(&folder).expect("a folder");
        let program = folder.join("compiler");
        let _ = std::fs::remove_file(&program);
        std::os::unix::fs::symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/compiler"), &program)
            .expect("a link");
        std::fs::write(folder.join("compiler.sh"), script).expect("a script");
        let runtime = Runtime { instances_max: Some(8), ..Runtime::default() };
        let (engine, _) = Engine::new(&runtime, &Machine::read()).expect("an engine");
        let limits = Limits { compile_time_max: time_max, compiled_bytes_max: 10_000, ..Limits::default() };
        let error = compile(&program, threads, &engine, b"\0asm", &Digest::of(b"\0asm"), &limits);
        std::fs::remove_dir_all(folder).expect("it goes");
        error.expect_err("no component")
    }

    fn check(script: &str, is_expected: fn(&CompileError) -> bool) {
        let error = compiled_by(script, Duration::from_secs(30), 1);
        assert!(is_expected(&error), "{script}: {error:?}");
    }

    #[test]
    fn what_is_not_sealed_is_not_loaded() {
        check("head -c 5000 /dev/urandom", |error| matches!(error, CompileError::Broken(_)));
        check("exit 0", |error| matches!(error, CompileError::Broken(_)));
        // The key alone is no seal.
        check("head -c 32; head -c 100 /dev/zero", |error| matches!(error, CompileError::Broken(_)));
    }

    #[test]
    fn the_end_of_a_compiler_says_what_was_wrong() {
        check("kill -9 $$", |error| matches!(error, CompileError::Broken(reason) if reason.contains("signal: 9")));
        check("kill -XCPU $$", |error| matches!(error, CompileError::Time));
        check("echo memory allocation of 8 bytes failed >&2; kill -ABRT $$", |e| matches!(e, CompileError::Memory));
        check("echo no >&2; exit 3", |error| matches!(error, CompileError::Broken(reason) if reason.ends_with(": no")));
        let gone = Path::new("/there/is/no/such/compiler");
        let order =
            Order { work: Work::Validate, time_max: Duration::from_secs(1), memory_bytes_max: 1 << 30, threads: 1 };
        let input = input(&Seal::new([0; 32]), b"").expect("memory");
        assert!(matches!(run(gone, &order, input, 1), Err(CompileError::Start(_))));
    }

    #[test]
    fn a_compiler_is_told_how_many_threads_it_may_have() {
        for threads in [1, 3] {
            let script = "echo threads: $RAYON_NUM_THREADS >&2; exit 3";
            let error = compiled_by(script, Duration::from_secs(30), threads);
            let told = format!(": threads: {threads}");
            assert!(matches!(&error, CompileError::Broken(reason) if reason.ends_with(&told)), "{error:?}");
        }
    }

    #[test]
    fn a_compiler_that_writes_without_end_is_cut_off() {
        check("cat /dev/zero", |error| matches!(error, CompileError::Compiled));
    }

    #[test]
    fn a_compiler_that_does_not_end_is_ended() {
        for script in ["exec sleep 1000", "exec sleep 1000 >&- 2>&-", "sleep 1000 & exec sleep 1000"] {
            let begun = Instant::now();
            let error = compiled_by(script, Duration::from_millis(200), 1);
            assert!(matches!(error, CompileError::Time), "{script}: {error:?}");
            assert!(begun.elapsed() < Duration::from_secs(60), "{script}");
        }
    }
}
