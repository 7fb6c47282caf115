//! Watches the files that a gateway was made of: says that something may have changed, and leaves it to others to look.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::model::gateway::Reload;

/// The watched files. Without help of the system they are looked at every so often.
pub(super) struct Watch {
    settings: Reload,
    system: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    names: Arc<Mutex<Names>>,
    told: mpsc::Receiver<()>,
    poll: tokio::time::Interval,
}

/// What events are about that matter.
#[derive(Default)]
struct Names {
    /// Files, as they are named and as they really are. Folders are in one spelling: the system has one watch for each of them,
    /// however it is named.
    files: BTreeSet<PathBuf>,
    /// Folders whose every change matters: those of patterns, and those with a link on the way to a file.
    folders: BTreeSet<PathBuf>,
}

impl Watch {
    /// Watches nothing yet. Must be made within a runtime.
    pub(super) fn new(settings: &Reload) -> Self {
        let (tell, told) = mpsc::channel(1);
        let names: Arc<Mutex<Names>> = Arc::default();
        let heard = names.clone();
        let system = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error may have been anything.
            if event.as_ref().is_ok_and(|event| !heard.lock().unwrap_or_else(PoisonError::into_inner).concerns(event)) {
                return;
            }
            // One note that waits is as good as many.
            let _ = tell.try_send(());
        });
        let system = system
            .inspect_err(|error| {
                tracing::warn!(%error, poll_ms = settings.poll.as_millis(), "the system tells of no changed files: they are looked at every so often");
            })
            .ok();
        let mut poll = tokio::time::interval_at(Instant::now() + settings.poll, settings.poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { settings: settings.clone(), system, folders: BTreeSet::new(), names, told, poll }
    }

    /// Watches these files, and folders of which every file counts, in place of those before.
    pub(super) fn set(&mut self, paths: &BTreeSet<PathBuf>) {
        let mut names = Names::default();
        for path in paths {
            names.add(path);
        }
        let wanted: BTreeSet<PathBuf> = names
            .files
            .iter()
            .filter_map(|file| file.parent().map(folder))
            .chain(names.folders.iter().cloned())
            .collect();
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        let Some(system) = &mut self.system else { return };
        for gone in self.folders.difference(&wanted) {
            // It may be gone itself.
            let _ = system.unwatch(gone);
        }
        let mut watched = BTreeSet::new();
        for folder in wanted {
            if self.folders.contains(&folder) {
                watched.insert(folder);
                continue;
            }
            match system.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(watched.insert(folder)),
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "cannot be watched: its files are looked at every so often");
                }
            }
        }
        self.folders = watched;
    }

    /// Waits until something may have changed and was left alone for a moment. Dropping it loses nothing.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            told = self.told.recv() => if told.is_none() { std::future::pending().await },
            _ = self.poll.tick() => return,
        }
        let latest = Instant::now() + self.settings.settle.saturating_mul(SETTLES_MAX);
        while Instant::now() < latest {
            match tokio::time::timeout(self.settings.settle, self.told.recv()).await {
                Ok(Some(())) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}

impl Names {
    fn add(&mut self, path: &Path) {
        let real = path.canonicalize();
        if path.is_dir() {
            self.folders.insert(real.unwrap_or_else(|_| path.to_owned()));
            return;
        }
        let parent = folder(path.parent().unwrap_or(path));
        let parent = parent.canonicalize().or_else(|_| std::path::absolute(&parent)).unwrap_or(parent);
        let named = path.file_name().map_or_else(|| parent.clone(), |name| parent.join(name));
        // Where a link leads elsewhere, its change is one of the file: as with a mounted volume whose `..data` is swapped.
        if let Ok(real) = real
            && real != named
        {
            self.folders.insert(parent);
            self.files.insert(real);
        }
        self.files.insert(named);
    }

    fn concerns(&self, event: &notify::Event) -> bool {
        let is_change = match event.kind {
            // Reading is no change.
            EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
            _ => true,
        };
        // The queue of events was too short, or so.
        if event.need_rescan() {
            return true;
        }
        is_change
            && event.paths.iter().any(|path| {
                self.files.contains(path)
                    || self.folders.contains(path)
                    || path.parent().is_some_and(|parent| self.folders.contains(parent))
            })
    }
}

fn folder(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() }
}

/// Someone who writes without a pause is not waited for longer than so many settling times.
const SETTLES_MAX: u32 = 25;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings(poll: Duration) -> Reload {
        Reload { watch: true, settle: Duration::from_millis(1), poll }
    }

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("stile-watch-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        folder
    }

    async fn is_told(watch: &mut Watch) {
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.expect("the change is told");
    }

    #[tokio::test]
    async fn a_file_written_over_or_renamed_over_is_told() {
        let folder = scratch("file");
        let file = folder.join("a.wasm");
        std::fs::write(&file, "one").expect("it is written");
        let mut watch = Watch::new(&settings(Duration::from_secs(3600)));
        watch.set(&BTreeSet::from([file.clone()]));

        std::fs::write(&file, "two").expect("it is written");
        is_told(&mut watch).await;

        std::fs::write(folder.join("b"), "three").expect("it is written");
        std::fs::rename(folder.join("b"), &file).expect("it is renamed");
        is_told(&mut watch).await;
        std::fs::remove_dir_all(folder).expect("it was made");
    }

    #[tokio::test]
    async fn a_link_that_leads_elsewhere_is_told() {
        let folder = scratch("link");
        for version in ["v1", "v2"] {
            std::fs::create_dir_all(folder.join(version)).expect("it is made");
            std::fs::write(folder.join(version).join("a.wasm"), version).expect("it is written");
        }
        std::os::unix::fs::symlink("v1/a.wasm", folder.join("a.wasm")).expect("it is linked");
        let mut watch = Watch::new(&settings(Duration::from_secs(3600)));
        watch.set(&BTreeSet::from([folder.join("a.wasm")]));

        std::os::unix::fs::symlink("v2/a.wasm", folder.join("new")).expect("it is linked");
        std::fs::rename(folder.join("new"), folder.join("a.wasm")).expect("it is renamed");
        is_told(&mut watch).await;
        std::fs::remove_dir_all(folder).expect("it was made");
    }

    #[tokio::test]
    async fn a_file_that_was_gone_is_told_however_its_folder_is_spelled() {
        let folder = scratch("gone");
        std::fs::create_dir_all(folder.join("below")).expect("it is made");
        let file = folder.join("below/../a.wasm");
        std::fs::write(&file, "one").expect("it is written");
        let mut watch = Watch::new(&settings(Duration::from_secs(3600)));
        // As with a file beside it, whose folder is spelled otherwise.
        let files = BTreeSet::from([file.clone(), folder.join("b")]);
        watch.set(&files);
        std::fs::remove_file(&file).expect("it was there");
        is_told(&mut watch).await;
        watch.set(&files);

        std::fs::write(&file, "two").expect("it is written");
        is_told(&mut watch).await;
        std::fs::remove_dir_all(folder).expect("it was made");
    }

    #[test]
    fn what_other_files_of_the_folder_do_is_of_no_concern() {
        let folder = scratch("other");
        std::fs::write(folder.join("a.wasm"), "").expect("it is written");
        let mut names = Names::default();
        names.add(&folder.join("a.wasm"));
        let event = |kind, name: &str| notify::Event::new(kind).add_path(folder.join(name));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let read = EventKind::Access(AccessKind::Close(AccessMode::Read));

        assert!(names.concerns(&event(written, "a.wasm")));
        assert!(!names.concerns(&event(read, "a.wasm")));
        assert!(!names.concerns(&event(written, "records.jsonl")));
        std::fs::remove_dir_all(folder).expect("it was made");
    }
}
