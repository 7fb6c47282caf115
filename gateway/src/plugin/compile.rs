//! Hard work on a stranger's input, in a process of its own, under limits: compiling a component, and checking a
//! configuration against its schema.
//!
//! Neither can be stopped, both run deep into the stack and take what memory they like; a process can be ended from
//! outside. Where there is no `stile` binary to start, as in a program that embeds the gateway, a thread must do.

mod child;
pub mod confined;
mod slots;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use wasmtime::component::Component;

use self::slots::Slots;
use super::engine::Engine;
use super::schema::{Misfit, Question};
use crate::model::digest::Digest;
use crate::model::gateway::Runtime;
use crate::model::plugin::Limits;

/// What compiles components and checks configurations. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Compiler(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    way: Way,
    slots: Slots,
    threads: usize,
    numbers: CompileNumbers,
}

#[derive(Debug)]
enum Way {
    /// In a child, which is this program.
    Child(PathBuf),
    /// In a thread, which is left to itself where it takes too long.
    Here,
}

/// How it went so far.
#[derive(Debug, Default)]
pub struct CompileNumbers {
    /// Components that are being compiled, and configurations that are being checked.
    pub running: AtomicU64,
    /// Not compiled or checked, because of `compile_time_max_ms`.
    pub time: AtomicU64,
    /// Because of `compile_memory_bytes_max`.
    pub memory: AtomicU64,
    /// Because of `compiled_bytes_max`.
    pub compiled: AtomicU64,
    /// Because the compiler broke.
    pub broken: AtomicU64,
}

/// A component did not compile, or a configuration was not checked.
#[derive(Debug)]
pub enum CompileError {
    /// The compiler's word for it: text with a stranger's words in it.
    Refused(String),
    /// It took longer than allowed.
    Time,
    /// It took more memory than allowed.
    Memory,
    /// More came of it than allowed.
    Compiled,
    /// The compiler did not get to its end: how that looked from outside, with a stranger's words in it.
    Broken(String),
    /// The compiler could not be started.
    Start(io::Error),
}

impl Compiler {
    /// One that starts this program, a `stile`, for each component; or without it does the work in this process.
    pub fn new(program: Option<&Path>, runtime: &Runtime) -> Self {
        let way = program.map_or(Way::Here, |program| Way::Child(program.to_owned()));
        let (slots, threads) = (Slots::new(runtime.compile_slots), runtime.compile_threads);
        Self(Arc::new(Shared { way, slots, threads, numbers: CompileNumbers::default() }))
    }

    /// How it works, for the log of a start.
    pub fn told(&self) -> String {
        match &self.0.way {
            Way::Child(_) => format!("in processes of their own, {} at one time", self.0.slots.count()),
            Way::Here => {
                "in this process: one that takes too long cannot be stopped, nor its memory be limited".to_owned()
            }
        }
    }

    /// Whether components are compiled in this process.
    pub fn is_here(&self) -> bool {
        matches!(self.0.way, Way::Here)
    }

    /// How it went so far.
    pub fn numbers(&self) -> &CompileNumbers {
        &self.0.numbers
    }

    /// Compiles a component, after those that came before; returns it with the time that took.
    pub fn compile(
        &self,
        engine: &Engine,
        wasm: &[u8],
        digest: &Digest,
        limits: &Limits,
    ) -> Result<(Component, Duration), CompileError> {
        let begun = Instant::now();
        let component = self.work(|way| match way {
            Way::Child(program) => child::compile(program, self.0.threads, engine, wasm, digest, limits),
            Way::Here => compiled_here(engine.wasmtime(), wasm, limits.compile_time_max),
        })?;
        Ok((component, begun.elapsed()))
    }

    /// Checks a configuration, after those that came before.
    pub fn validate(
        &self,
        question: Question,
        time_max: Duration,
        memory_bytes_max: u64,
    ) -> Result<Result<(), Misfit>, CompileError> {
        self.work(|way| match way {
            Way::Child(program) => child::validate(program, &question, time_max, memory_bytes_max),
            Way::Here => here(time_max, move || question.answer()),
        })
    }

    /// Does one piece of work, and counts it.
    fn work<T>(&self, work: impl FnOnce(&Way) -> Result<T, CompileError>) -> Result<T, CompileError> {
        let _slot = self.0.slots.take();
        let numbers = &self.0.numbers;
        numbers.running.fetch_add(1, Ordering::Relaxed);
        let done = work(&self.0.way);
        numbers.running.fetch_sub(1, Ordering::Relaxed);
        let count = match &done {
            Ok(_) | Err(CompileError::Refused(_)) => None,
            Err(CompileError::Time) => Some(&numbers.time),
            Err(CompileError::Memory) => Some(&numbers.memory),
            Err(CompileError::Compiled) => Some(&numbers.compiled),
            Err(CompileError::Broken(_) | CompileError::Start(_)) => Some(&numbers.broken),
        };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        done
    }
}

fn compiled_here(engine: &wasmtime::Engine, wasm: &[u8], time_max: Duration) -> Result<Component, CompileError> {
    let (engine, wasm) = (engine.clone(), wasm.to_vec());
    let compiled = here(time_max, move || Component::new(&engine, wasm))?;
    compiled.map_err(|error| CompileError::Refused(format!("{error:#}")))
}

/// Works in a thread. What bounds it when its time is over is the size of what it was given.
fn here<T: Send + 'static>(time_max: Duration, work: impl FnOnce() -> T + Send + 'static) -> Result<T, CompileError> {
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        // Nobody listens any more when it took too long.
        let _ = sender.send(work());
    };
    let thread = std::thread::Builder::new().name("stile-compile".to_owned()).stack_size(STACK_BYTES).spawn(work);
    thread.map_err(CompileError::Start)?;
    receiver.recv_timeout(time_max).map_err(|ended| match ended {
        RecvTimeoutError::Timeout => CompileError::Time,
        RecvTimeoutError::Disconnected => CompileError::Broken("it panicked".to_owned()),
    })
}

/// Taken as it is used. A schema within its size has some ten thousand references, each of which may lead to the next.
const STACK_BYTES: usize = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    // limit: runtime.compile_slots counts: running
    #[test]
    fn so_many_work_at_one_time() {
        for slots in [1, 2] {
            let folder = std::env::temp_dir().join(format!("stile-slots-{}-{slots}", std::process::id()));
            let (program, begun, end) = (folder.join("compiler"), folder.join("begun"), folder.join("end"));
            std::fs::create_dir_all(&begun).expect("a folder");
            let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/compiler");
            std::os::unix::fs::symlink(fixture, &program).expect("a link");
            // It says that it began, and works until it is told to end.
            let script =
                format!("touch {}/$$; until [ -e {} ]; do sleep 0.01; done; exit 3", begun.display(), end.display());
            std::fs::write(folder.join("compiler.sh"), script).expect("a script");
            let compiler = Compiler::new(Some(&program), &Runtime { compile_slots: slots, ..Runtime::default() });
            let question = || Question { schema: "{}".to_owned(), config: "{}".to_owned() };
            let running = || usize::try_from(compiler.numbers().running.load(Ordering::Relaxed)).expect("few");
            let begun = || std::fs::read_dir(&begun).expect("a folder").count();

            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        let ended = compiler.validate(question(), Duration::from_secs(600), 1 << 30);
                        assert!(matches!(ended, Err(CompileError::Broken(_))), "{ended:?}");
                    });
                }
                while begun() < slots {
                    std::thread::yield_now();
                }
                // Those that have no slot wait.
                for _ in 0..100 {
                    assert_eq!((running(), begun()), (slots, slots));
                    std::thread::yield_now();
                }
                std::fs::write(&end, "").expect("it is written");
            });
            assert_eq!((running(), begun()), (0, 3));
            std::fs::remove_dir_all(&folder).expect("it goes");
        }
    }
}
