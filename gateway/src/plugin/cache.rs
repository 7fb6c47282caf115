//! Compiled components on disk, keyed by digest and engine settings.
//!
//! A compiled file is native code, so the folder belongs to the gateway alone, and each file carries a code made with a key
//! that lies beside it: a file that was cut, swapped or written by somebody else is compiled anew.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::component::Component;

use super::description::Description;
use super::seal::Seal;
use crate::files;
use crate::model::digest::Digest;

/// A component that is ready to be linked, with its answer to `describe`.
pub struct Artifact {
    /// The compiled component.
    pub component: Component,
    /// What it says of itself.
    pub description: Description,
}

/// The folder of compiled components. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cache(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    seal: Seal,
    bytes_max: u64,
    hits: AtomicU64,
    misses: AtomicU64,
    evicted: AtomicU64,
}

impl Cache {
    /// Opens the folder, or makes it. Refuses one that others may write to.
    pub fn open(path: &Path, bytes_max: u64) -> io::Result<Self> {
        files::own_folder(path)?;
        let seal = Seal::new(key(path)?);
        let [hits, misses, evicted] = [(); 3].map(|()| AtomicU64::new(0));
        Ok(Self(Arc::new(Folder { path: path.to_owned(), seal, bytes_max, hits, misses, evicted })))
    }

    /// Times that a component was found, and was not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.0.hits.load(Ordering::Relaxed), self.0.misses.load(Ordering::Relaxed))
    }

    /// Files that went to make room for others.
    pub fn evicted(&self) -> u64 {
        self.0.evicted.load(Ordering::Relaxed)
    }

    /// The compiled component of this digest, if it is there and whole.
    pub fn get(&self, engine: &wasmtime::Engine, digest: &Digest) -> Option<Artifact> {
        let artifact = self.read(engine, digest);
        let counter = if artifact.is_some() { &self.0.hits } else { &self.0.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        artifact
    }

    fn read(&self, engine: &wasmtime::Engine, digest: &Digest) -> Option<Artifact> {
        let bytes = fs::read(self.file(engine, digest)).ok()?;
        let (length, rest) = self.0.seal.open(digest, &bytes)?.split_at(LENGTH_BYTES)?;
        let length = u64::from_le_bytes(length.try_into().ok()?);
        let (description, compiled) = rest.split_at(usize::try_from(length).ok()?)?;
        let description = serde_json::from_slice(description).ok()?;
        let component = compiled.component(engine).ok()?;
        Some(Artifact { component, description })
    }

    /// Keeps a compiled component. What goes wrong is logged: the gateway runs without its cache.
    pub fn put(&self, engine: &wasmtime::Engine, digest: &Digest, artifact: &Artifact) {
        if let Err(error) = self.write(engine, digest, artifact) {
            tracing::warn!(path = %self.0.path.display(), %error, "compiled plugin not cached");
        }
    }

    fn write(&self, engine: &wasmtime::Engine, digest: &Digest, artifact: &Artifact) -> io::Result<()> {
        let description = serde_json::to_vec(&artifact.description)?;
        let mut rest = u64::try_from(description.len()).unwrap_or(u64::MAX).to_le_bytes().to_vec();
        rest.extend_from_slice(&description);
        rest.extend(artifact.component.serialize().map_err(io::Error::other)?);
        let code = self.0.seal.code(digest, &rest);
        let bytes = u64::try_from(code.len().saturating_add(rest.len())).unwrap_or(u64::MAX);
        if bytes > self.0.bytes_max {
            return Err(io::Error::other(format!("it has {bytes} bytes, more than `runtime.cache_bytes_max`")));
        }
        self.make_room(bytes)?;
        let target = self.file(engine, digest);
        // Renamed into place: a reader has the old file or the new one, never a part.
        let temporary = target.with_extension(format!("tmp{}", std::process::id()));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&code)?;
        file.write_all(&rest)?;
        fs::rename(&temporary, &target)
    }

    /// Deletes the files that were used longest ago until so many bytes more fit.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut files: Vec<(std::time::SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.0.path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if entry.path().extension().is_some_and(|extension| extension == EXTENSION) {
                files.push((metadata.accessed().or_else(|_| metadata.modified())?, metadata.len(), entry.path()));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, size, path) in files {
            if total.saturating_add(bytes) <= self.0.bytes_max {
                break;
            }
            fs::remove_file(path)?;
            self.0.evicted.fetch_add(1, Ordering::Relaxed);
            total -= size;
        }
        Ok(())
    }

    fn file(&self, engine: &wasmtime::Engine, digest: &Digest) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        RULES.hash(&mut hasher);
        self.0.path.join(format!("{}-{:016x}.{EXTENSION}", digest.hex(), hasher.finish()))
    }
}

fn key(folder: &Path) -> io::Result<[u8; 32]> {
    let file = folder.join("key");
    if let Some(key) = fs::read(&file).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()) {
        return Ok(key);
    }
    let seal = Seal::random()?;
    let temporary = folder.join(format!("key.tmp{}", std::process::id()));
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?
        .write_all(seal.key())?;
    fs::rename(&temporary, &file)?;
    // Another gateway may have done the same: what stands there now counts.
    fs::read(&file)?.try_into().map_err(|_| io::Error::other("key file has a wrong size"))
}

const EXTENSION: &str = "cwasm";
/// What descriptions were held to before they were kept. To be raised with the rules: what is here is not checked again.
const RULES: u32 = 2;
/// Of the description, which stands before the component.
const LENGTH_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gateway::Runtime;
    use crate::plugin::engine::Engine;
    use crate::plugin::machine::Machine;

    #[test]
    fn what_has_no_room_at_all_pushes_nothing_out() {
        let folder = std::env::temp_dir().join(format!("stile-cache-{}", std::process::id()));
        let runtime = Runtime { instances_max: Some(8), ..Runtime::default() };
        let (engine, _) = Engine::new(&runtime, &Machine::read()).expect("an engine");
        let engine = engine.wasmtime();
        let artifact = |words: &str| Artifact {
            component: Component::new(engine, b"\0asm\x0d\0\x01\0").expect("an empty component"),
            description: Description {
                name: "empty".to_owned(),
                version: "1".to_owned(),
                functions: Vec::new(),
                capabilities: Vec::new(),
                metrics: Vec::new(),
                config_schema: Some(words.to_owned()),
            },
        };
        let (small, large) = (Digest::of(b"small"), Digest::of(b"large"));
        Cache::open(&folder, 1 << 30).expect("a folder").put(engine, &small, &artifact(""));
        let size = |digest| {
            let cache = Cache::open(&folder, 1 << 30).expect("a folder");
            fs::metadata(cache.file(engine, digest)).map(|metadata| metadata.len()).ok()
        };
        let bytes = size(&small).expect("it is kept");

        let cache = Cache::open(&folder, bytes).expect("a folder");
        cache.put(engine, &large, &artifact("x"));
        assert_eq!((size(&small), size(&large), cache.evicted()), (Some(bytes), None, 0));
        let cache = Cache::open(&folder, bytes + 1).expect("a folder");
        cache.put(engine, &large, &artifact("x"));
        assert_eq!((size(&small), size(&large), cache.evicted()), (None, Some(bytes + 1), 1));
        fs::remove_dir_all(folder).expect("it goes");
    }
}
