//! `stile serve`, and `stile check --explain`, which builds the same parts.

use std::io::Write;
use std::path::Path;

use super::progress::Progress;
use super::{Failure, this_program};
use crate::admin;
use crate::app;
use crate::clock::Clock;
use crate::live::Builder;
use crate::live::reload::Reloader;
use crate::model::gateway::Gateway;
use crate::spec;
use crate::store::Store;
use crate::telemetry::log;

/// Reads the configuration, serves until told to stop, and drains.
pub(super) fn serve(path: &Path, err: &mut dyn Write) -> Result<(), Failure> {
    let (gateway, warnings) = spec::read(path).map_err(Failure::usage)?;
    for warning in &warnings {
        // The gateway runs whether or not somebody reads this.
        let _ = writeln!(err, "{warning}");
    }
    log::init(&gateway.log).map_err(Failure::usage)?;
    run(&gateway)
}

/// Runs the gateway until a signal ends it: SIGTERM or SIGINT drains, a second one ends at once, as the first does before
/// anything is served.
fn run(gateway: &Gateway) -> Result<(), Failure> {
    // Signals are caught before a port opens, so that none is lost.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::run)?;
    let _entered = runtime.enter();
    let mut terminate = signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut interrupt = signal(tokio::signal::unix::SignalKind::interrupt())?;
    let mut hang_up = signal(tokio::signal::unix::SignalKind::hangup())?;

    let progress = Progress::new(gateway.plugins.len());
    let (started, mut is_started) = tokio::sync::oneshot::channel::<()>();
    let running = std::thread::scope(|scope| {
        // Plugins may take their time to load.
        let waiting = std::thread::Builder::new().name("stile-signals".to_owned()).spawn_scoped(scope, || {
            runtime.block_on(async {
                tokio::select! {
                    _ = terminate.recv() => ended_early("SIGTERM"),
                    _ = interrupt.recv() => ended_early("SIGINT"),
                    // The sender goes with the start, which is an end as well.
                    _ = &mut is_started => {}
                }
            });
        });
        waiting.map_err(Failure::run)?;
        let running = app::start(gateway, &Clock::system(), this_program(), |plugin| progress.step(plugin));
        drop(started);
        running.map_err(Failure::run)
    })?;
    progress.finish();
    for address in &running.addresses {
        tracing::info!(target: "stile::start", %address, "listening");
    }
    if let Some(address) = running.control() {
        tracing::info!(target: "stile::start", %address, "control port: {}", admin::PATHS);
    }
    let mut next_signal = || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                _ = hang_up.recv() => "SIGHUP",
            }
        })
    };
    let name = loop {
        match next_signal() {
            "SIGHUP" => {
                tracing::info!(target: "stile::start", signal = "SIGHUP", "reloading");
                // What comes of it is in the log.
                if let Some(Err(error)) = running.reloader().map(Reloader::ask) {
                    tracing::warn!(target: "stile::start", %error, "not reloaded");
                }
            }
            name => break name,
        }
    };
    tracing::info!(target: "stile::start", signal = name, "draining; a second signal ends at once");
    let drained = std::thread::scope(|scope| {
        let draining = scope.spawn(|| running.drain());
        while !draining.is_finished() {
            let again = runtime.block_on(async {
                let pause = tokio::time::sleep(DRAIN_LOOK);
                tokio::select! {
                    _ = terminate.recv() => true,
                    _ = interrupt.recv() => true,
                    () = pause => false,
                }
            });
            if again {
                tracing::warn!(target: "stile::start", "ended before requests were");
                std::process::exit(EXIT_INTERRUPTED);
            }
        }
        draining.join()
    });
    if let Ok(drained) = drained {
        tracing::info!(
            target: "stile::start", connections_aborted = drained.connections_aborted, records_lost = drained.records_lost,
            "ended"
        );
    }
    Ok(())
}

/// Ends the process as it was told to: there is nothing to drain.
fn ended_early(signal: &str) -> ! {
    tracing::info!(target: "stile::start", signal, "ended before anything was served");
    std::process::exit(0)
}

fn signal(kind: tokio::signal::unix::SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    tokio::signal::unix::signal(kind).map_err(Failure::run)
}

/// Writes the order of work of each API. Plugins are loaded for it, as for serving.
pub(super) fn explain(gateway: &Gateway, out: &mut dyn Write) -> Result<(), Failure> {
    let prepared = app::prepare(gateway, &Store::in_memory(Clock::system()), this_program());
    let prepared = prepared.map_err(Failure::run)?;
    let progress = Progress::new(gateway.plugins.len());
    let built = Builder::new(&prepared.loader, &prepared.fetcher).build(gateway, |plugin| progress.step(plugin));
    let (snapshot, _) = built.map_err(Failure::usage)?;
    progress.finish();
    for plan in &snapshot.plans {
        writeln!(out, "{plan}").map_err(Failure::Output)?;
    }
    for problem in &snapshot.problems {
        writeln!(out, "error: {}: {}", problem.place, problem.reason).map_err(Failure::Output)?;
    }
    if snapshot.problems.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

const DRAIN_LOOK: std::time::Duration = std::time::Duration::from_millis(20);
/// What shells give a process that a signal ended.
const EXIT_INTERRUPTED: i32 = 130;
