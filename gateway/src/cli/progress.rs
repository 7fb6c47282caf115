//! A bar on the terminal while plugins load.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The progress of loading. It writes to standard error, only where that is a terminal, and only once loading has taken
/// longer than a second. Dropping it takes the bar away.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// Dropped with the rest: tells the thread that would show the bar.
    _shown_later: Option<Sender<()>>,
}

impl Progress {
    /// Progress over `total` steps.
    pub fn new(total: usize) -> Self {
        let bar = ProgressBar::with_draw_target(u64::try_from(total).ok(), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("loading {pos}/{len} [{bar:30}] {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        let shown_later = io::stderr().is_terminal().then(|| show_later(bar.clone()));
        Self { bar, _shown_later: shown_later }
    }

    /// A step begins; the ones before are done.
    pub fn step(&self, name: &str) {
        if !self.bar.message().is_empty() {
            self.bar.inc(1);
        }
        self.bar.set_message(name.to_owned());
    }

    /// All steps are done.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Shows the bar after a while from a thread of its own: a single step may be the one that takes long.
fn show_later(bar: ProgressBar) -> Sender<()> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        if receiver.recv_timeout(QUIET) == Err(RecvTimeoutError::Timeout) {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            // A bar that was finished meanwhile draws nothing.
            bar.tick();
        }
    });
    sender
}

const QUIET: Duration = Duration::from_secs(1);
