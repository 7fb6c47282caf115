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
        Duration::from_nanos(grain_begin(nanoseconds(now), self.0))
    }
}

impl HostMonotonicClock for CoarseClock {
    fn resolution(&self) -> u64 {
        nanoseconds(self.0)
    }

    fn now(&self) -> u64 {
        grain_begin(monotonic(), self.0)
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
        let (now, grain) = (monotonic(), self.limits.clock_grain);
        // What is over by the guest's own clock is over.
        if when <= grain_begin(now, grain) {
            return self.clocks().subscribe_duration(0);
        }
        self.clocks().subscribe_duration(grain_end(when, grain).saturating_sub(now))
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        if duration == 0 {
            return self.clocks().subscribe_duration(0);
        }
        let (now, grain) = (monotonic(), self.limits.clock_grain);
        self.clocks().subscribe_duration(grain_end(now.saturating_add(duration), grain).saturating_sub(now))
    }
}

/// Nanoseconds of the system's monotonic clock.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanoseconds = now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec);
    u64::try_from(nanoseconds).unwrap_or(0)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The begin of the grain that a time is in.
fn grain_begin(time: u64, grain: Duration) -> u64 {
    time - time % nanoseconds(grain).max(1)
}

/// The begin of the first grain that is not before a time.
fn grain_end(time: u64, grain: Duration) -> u64 {
    time.div_ceil(nanoseconds(grain).max(1)).saturating_mul(nanoseconds(grain).max(1))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_lies_in_its_grain() {
        let grain = Duration::from_millis(1);
        for (time, begin, end) in
            [(0, 0, 0), (1, 0, 1_000_000), (999_999, 0, 1_000_000), (1_000_000, 1_000_000, 1_000_000)]
        {
            assert_eq!((grain_begin(time, grain), grain_end(time, grain)), (begin, end), "{time}");
        }
        assert_eq!(grain_end(u64::MAX, grain), u64::MAX);
    }
}
