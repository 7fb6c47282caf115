//! Records in real files: rotated, full, written in part.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU32;

use super::*;

/// A folder for one test, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("stile-analytics-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(path: &Path) -> Sink {
    Sink::start(&AnalyticsSink { target: AnalyticsTarget::File(path.to_owned()), queue_max: 100, batch_max: 10 })
        .unwrap()
}

fn record(id: &str) -> Record {
    Record { request_id: id.to_owned(), ..Record::default() }
}

/// The ids of the whole lines of a file.
fn ids(text: &str) -> Vec<String> {
    let id = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(record.get("request_id")?.as_str()?.to_owned())
    };
    text.lines().filter_map(id).collect()
}

#[track_caller]
fn wait_for(happened: impl Fn() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it did not happen");
        std::thread::yield_now();
    }
}

// limit: analytics.queue_max counts: dropped
#[test]
fn so_many_records_wait_to_be_written() {
    let folder = Folder::new();
    let sink = start(&folder.path("records.jsonl"));
    let records = |count: usize| (0..count).map(|number| record(&number.to_string())).collect();
    let dropped = || sink.counters().dropped.load(Ordering::Relaxed);

    sink.send(records(100));
    wait_for(|| sink.0.waiting.load(Ordering::Relaxed) == 0);
    assert_eq!((sink.counters().written.load(Ordering::Relaxed), dropped()), (100, 0));
    sink.send(records(101));
    assert_eq!((dropped(), sink.0.waiting.load(Ordering::Relaxed)), (101, 0));
}

#[test]
fn a_file_that_was_renamed_or_removed_is_opened_again() {
    let folder = Folder::new();
    let (path, rotated) = (folder.path("records.jsonl"), folder.path("records.jsonl.1"));
    let sink = start(&path);
    let written = |count| wait_for(|| sink.counters().written.load(Ordering::Relaxed) == count);
    sink.send(vec![record("a"), record("b")]);
    written(2);

    std::fs::rename(&path, &rotated).unwrap();
    sink.send(vec![record("c")]);
    written(3);

    assert_eq!(ids(&std::fs::read_to_string(&rotated).unwrap()), ["a", "b"]);
    assert_eq!(ids(&std::fs::read_to_string(&path).unwrap()), ["c"]);

    std::fs::remove_file(&path).unwrap();
    sink.send(vec![record("d")]);
    written(4);

    assert_eq!(ids(&std::fs::read_to_string(&path).unwrap()), ["d"]);
    assert_eq!(sink.close(Duration::from_secs(10)), 0);
}

#[test]
fn a_full_disk_costs_its_records_and_no_others() {
    let folder = Folder::new();
    let path = folder.path("records.jsonl");
    symlink("/dev/full", &path).unwrap();
    let sink = start(&path);
    sink.send(vec![record("a"), record("b")]);
    wait_for(|| sink.counters().failed.load(Ordering::Relaxed) == 2);

    std::fs::remove_file(&path).unwrap();
    sink.send(vec![record("c")]);
    wait_for(|| sink.counters().written.load(Ordering::Relaxed) == 1);

    assert_eq!(ids(&std::fs::read_to_string(&path).unwrap()), ["c"]);
    assert_eq!(sink.counters().failed.load(Ordering::Relaxed), 2);
}

/// A buffer kept what was counted as lost, and wrote it with the next records.
#[test]
fn records_that_were_counted_as_lost_are_not_written_later() {
    let folder = Folder::new();
    let path = folder.path("records.jsonl");
    std::fs::write(&path, "").unwrap();
    // A socket takes a part and then nothing, until somebody reads.
    let (mut reader, writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    reader.set_nonblocking(true).unwrap();
    let inode = std::fs::metadata(&path).unwrap().ino();
    let mut file = LogFile { path, file: OwnedFd::from(writer).into(), inode, is_torn: false };
    let many: Vec<Record> = (0..1000).map(|n| Record { path: "x".repeat(3000), ..record(&n.to_string()) }).collect();

    let (first, ended) = file.write(&many);
    assert!(ended.is_err() && (1..1000).contains(&first), "{first} {ended:?}");
    let mut text = Vec::new();
    assert!(reader.read_to_end(&mut text).is_err(), "there is more to come");
    let (second, ended) = file.write(&[record("last")]);
    assert!(ended.is_ok() && second == 1, "{second} {ended:?}");
    drop(file);
    reader.read_to_end(&mut text).unwrap();

    let mut expected: Vec<String> = (0..first).map(|n| n.to_string()).collect();
    expected.push("last".to_owned());
    assert_eq!(ids(&String::from_utf8(text).unwrap()), expected);
}
