//! Definitions and records.

use std::path::PathBuf;

use crate::model::key::HashAlgorithm;
use crate::model::policy::PolicyId;
use crate::tyk;

/// A definition file. Its first line says which: `yaml`, `toml`, `json`, or `tyk` for a file of Tyk's policies.
pub fn definition(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (kind, text) = bytes.split_at(end);
    let text = text.strip_prefix(b"\n").unwrap_or_default();
    let folder = Folder::new();
    let main = match kind {
        b"yaml" => folder.write("main.yaml", text),
        b"toml" => folder.write("main.toml", text),
        b"json" => folder.write("main.json", text),
        b"tyk" => {
            let policies = folder.write("policies.json", text);
            let main = format!("policies: {{ tyk_file: {:?} }}", policies.display().to_string());
            folder.write("tyk.yaml", main.as_bytes())
        }
        _ => return,
    };

    let read = crate::spec::read_with(&main, &|name| (name == "SET").then(|| "a secret word".to_owned()));

    let told = match &read {
        Ok((_, warnings)) => warnings.iter().map(ToString::to_string).collect(),
        Err(problems) => problems.to_string(),
    };
    // A person reads it in a terminal.
    let is_plain = |character: char| !character.is_control() || character == '\n';
    assert!(told.chars().all(is_plain), "{told:?}");
    assert!(!told.contains("a secret word"), "{told}");
}

/// A folder of this thread alone, as functions of one target may run at one time. It goes with its value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let (process, thread) = (std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(format!("stile-fuzz-{process}-{thread:?}"));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn write(&self, name: &str, text: &[u8]) -> PathBuf {
        let file = self.0.join(name);
        std::fs::write(&file, text).expect("it is written");
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A session of a store, which Tyk may have written: what is read is written so that it is read again as the same.
pub fn tyk_session(bytes: &[u8]) {
    let Ok(session) = tyk::session::read(bytes) else { return };
    let written = tyk::session::write(&session, HashAlgorithm::Sha256);
    let again = tyk::session::read(&written).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again, session, "{}", String::from_utf8_lossy(&written));
}

/// The same for a policy.
pub fn tyk_policy(bytes: &[u8]) {
    let id = PolicyId::parse("gold").expect("an id");
    let Ok(policy) = tyk::policy::read(id.clone(), bytes) else { return };
    let written = tyk::policy::write(&policy);
    let again = tyk::policy::read(id, &written).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again, policy, "{}", String::from_utf8_lossy(&written));
}
