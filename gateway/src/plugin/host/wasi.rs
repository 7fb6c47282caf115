//! WASI as plugins get it: coarse clocks, bounded randomness, output into the log; no files, network or environment.
//!
//! The state is made when a guest first asks for it: most calls never do.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::component::{HasData, HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random};
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};

use super::Host;
use crate::model::plugin::Limits;
use crate::plugin::grain;

/// WASI state of one instance.
pub(super) struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = made(&mut self.wasi, &mut self.output, &self.limits);
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}

impl Host {
    /// What the guest has handles for.
    pub(super) fn table(&mut self) -> &mut ResourceTable {
        table(&mut self.wasi, &mut self.output, &self.limits)
    }
}

/// The state, made at the first time.
fn made<'w>(wasi: &'w mut Option<Box<Wasi>>, output: &mut Option<Output>, limits: &Limits) -> &'w mut Wasi {
    wasi.get_or_insert_with(|| {
        let output = output.get_or_insert_default();
        let mut table = ResourceTable::new();
        table.set_max_capacity(super::RESOURCES_MAX);
        let context = WasiCtx::builder()
            .stdout(output.clone())
            .stderr(output.clone())
            .wall_clock(CoarseClock(limits.clock_grain))
            .monotonic_clock(CoarseClock(limits.clock_grain))
            .max_random_size(limits.random_bytes_max)
            .build();
        Box::new(Wasi { context, table })
    })
}

/// The table of what the guest has handles for, which outgoing requests share with streams.
pub(super) fn table<'w>(
    wasi: &'w mut Option<Box<Wasi>>,
    output: &mut Option<Output>,
    limits: &Limits,
) -> &'w mut ResourceTable {
    &mut made(wasi, output, limits).table
}

/// Links the part of WASI that plugins get. Sockets are not in it.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    type H = Host;
    io::error::add_to_linker::<H, HasTable>(linker, Host::table)?;
    io::poll::add_to_linker::<H, HasTable>(linker, Host::table)?;
    io::streams::add_to_linker::<H, HasSelf<H>>(linker, |host| host)?;
    clocks::wall_clock::add_to_linker::<H, WasiClocks>(linker, H::clocks)?;
    clocks::monotonic_clock::add_to_linker::<H, HasSelf<H>>(linker, |host| host)?;
    random::random::add_to_linker::<H, HasSelf<H>>(linker, |host| host)?;
    random::insecure::add_to_linker::<H, HasSelf<H>>(linker, |host| host)?;
    random::insecure_seed::add_to_linker::<H, HasSelf<H>>(linker, |host| host)?;
    filesystem::preopens::add_to_linker::<H, WasiFilesystem>(linker, H::filesystem)?;
    filesystem::types::add_to_linker::<H, WasiFilesystem>(linker, H::filesystem)?;
    cli::environment::add_to_linker::<H, WasiCli>(linker, H::cli)?;
    cli::exit::add_to_linker::<H, WasiCli>(linker, H::cli)?;
    cli::stdin::add_to_linker::<H, WasiCli>(linker, H::cli)?;
    cli::stdout::add_to_linker::<H, WasiCli>(linker, H::cli)?;
    cli::stderr::add_to_linker::<H, WasiCli>(linker, H::cli)?;
    cli::terminal_input::add_to_linker::<H, WasiCli>(linker, H::cli)?;
    cli::terminal_output::add_to_linker::<H, WasiCli>(linker, H::cli)?;
    cli::terminal_stdin::add_to_linker::<H, WasiCli>(linker, H::cli)?;
    cli::terminal_stdout::add_to_linker::<H, WasiCli>(linker, H::cli)?;
    cli::terminal_stderr::add_to_linker::<H, WasiCli>(linker, H::cli)?;
    Ok(())
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// Tells the time in grains of this size, so that a guest cannot time its neighbours.
struct CoarseClock(Duration);

impl HostWallClock for CoarseClock {
    fn resolution(&self) -> Duration {
        self.0
    }

    fn now(&self) -> Duration {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Duration::from_nanos(grain::begin(grain::nanoseconds(now), self.0))
    }
}

impl HostMonotonicClock for CoarseClock {
    fn resolution(&self) -> u64 {
        grain::nanoseconds(self.0)
    }

    fn now(&self) -> u64 {
        grain::begin(grain::monotonic(), self.0)
    }
}

/// Pauses end with a grain: one that ended a moment after it began would tell a finer time than the clocks.
impl clocks::monotonic_clock::Host for Host {
    fn now(&mut self) -> wasmtime::Result<u64> {
        self.clocks().now()
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        self.clocks().resolution()
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let (now, grain) = (grain::monotonic(), self.limits.clock_grain);
        // What is over by the guest's own clock is over.
        if when <= grain::begin(now, grain) {
            return self.clocks().subscribe_duration(0);
        }
        self.clocks().subscribe_duration(grain::end(when, grain).saturating_sub(now))
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        if duration == 0 {
            return self.clocks().subscribe_duration(0);
        }
        let whole = grain::until_end(duration, self.limits.clock_grain);
        self.clocks().subscribe_duration(whole)
    }
}

/// What a guest prints, the last of it: a `panic!` tells its message and place here.
#[derive(Debug, Clone, Default)]
pub struct Output(Arc<Mutex<VecDeque<u8>>>);

impl Output {
    /// Takes what was printed.
    pub fn take(&self) -> Vec<u8> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_empty() { Vec::new() } else { std::mem::take(&mut *kept).into() }
    }

    fn print(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tail = bytes.len().saturating_sub(OUTPUT_BYTES_MAX);
        kept.extend(bytes.iter().skip(tail));
        let over = kept.len().saturating_sub(OUTPUT_BYTES_MAX);
        kept.drain(..over);
    }
}

const OUTPUT_BYTES_MAX: usize = 4096;

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.print(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(OUTPUT_BYTES_MAX)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.print(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
