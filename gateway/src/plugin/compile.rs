//! Compiling a component within a time limit.
//!
//! The compiler cannot be stopped: where it takes too long, its thread is left to end by itself and its result is thrown
//! away. What bounds it then is the size of the file.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use wasmtime::Engine;
use wasmtime::component::Component;

/// A component did not compile.
#[derive(Debug)]
pub enum CompileError {
    /// The compiler's word for it: text with a stranger's words in it.
    Refused(String),
    /// It took longer than allowed.
    Time,
}

/// Compiles a component; returns it with the time that took.
pub fn compile(engine: &Engine, wasm: &[u8], time_max: Duration) -> Result<(Component, Duration), CompileError> {
    let begun = Instant::now();
    let (sender, receiver) = mpsc::channel();
    let (engine, wasm) = (engine.clone(), wasm.to_vec());
    let compile = move || {
        // Nobody listens any more when it took too long.
        let _ = sender.send(Component::new(&engine, wasm));
    };
    let thread = std::thread::Builder::new().name("stile-compile".to_owned()).spawn(compile);
    thread.map_err(|error| CompileError::Refused(format!("cannot start a thread: {error}")))?;
    match receiver.recv_timeout(time_max) {
        Ok(Ok(component)) => Ok((component, begun.elapsed())),
        Ok(Err(error)) => Err(CompileError::Refused(format!("{error:#}"))),
        Err(RecvTimeoutError::Timeout) => Err(CompileError::Time),
        Err(RecvTimeoutError::Disconnected) => Err(CompileError::Refused("the compiler panicked".to_owned())),
    }
}
