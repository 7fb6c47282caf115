//! Definitions and records.

use std::path::PathBuf;
use std::sync::LazyLock;

use crate::model::key::HashAlgorithm;
use crate::model::policy::PolicyId;
use crate::tyk;

/// A definition file. Its first line says which: `yaml`, `toml`, `json`, or `tyk` for a file of Tyk's policies.
pub fn definition(bytes: &[u8]) {
    // A folder of this process alone: functions of one target may run at one time.
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = std::env::temp_dir().join(format!("stile-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    });
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (kind, text) = bytes.split_at(end);
    let text = text.strip_prefix(b"\n").unwrap_or_default();
    let thread = format!("{:?}", std::thread::current().id());
    let write = |name: &str, text: &[u8]| {
        let file = FOLDER.join(format!("{thread}-{name}"));
        std::fs::write(&file, text).expect("it is written");
        file
    };
    let (main, of_tyk) = match kind {
        b"yaml" => (write("main.yaml", text), None),
        b"toml" => (write("main.toml", text), None),
        b"json" => (write("main.json", text), None),
        b"tyk" => {
            let policies = write("policies.json", text);
            let main = format!("policies: {{ tyk_file: {:?} }}", policies.display().to_string());
            (write("tyk.yaml", main.as_bytes()), Some(policies))
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
    [Some(main), of_tyk].into_iter().flatten().for_each(|file| _ = std::fs::remove_file(file));
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
