//! The plugins that tests load: built once for each process, and compiled once for all gateways.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The component of a plugin in `example-plugins` or `tests/plugins`, by the name of its folder.
///
/// The first one who asks builds them all.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let file = BUILT.get_or_init(build).join(format!("{}.wasm", name.replace('-', "_")));
    assert!(file.is_file(), "there is no plugin `{name}` in `example-plugins` or `tests/plugins`");
    file
}

/// The command that compiles plugins for gateways. It is beside the tests where cargo built them, and not beside a program
/// that stands alone: then gateways do so themselves.
#[must_use]
pub fn compiler() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folders = program.ancestors().skip(1).take(2);
    folders.map(|folder| folder.join("stile-of-tests")).find(|file| file.is_file())
}

/// The folder of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("`tests` is in the workspace")
}

/// Where compiled components are kept for all gateways of all runs.
pub(crate) fn cache() -> PathBuf {
    target().join("cache")
}

fn target() -> PathBuf {
    workspace().join("target/plugins")
}

fn build() -> PathBuf {
    for folder in ["example-plugins", "tests/plugins"] {
        // Run in the folder: the linker's arguments come from its `.cargo/config.toml`.
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--target", TARGET])
            .current_dir(workspace().join(folder))
            .env("CARGO_TARGET_DIR", target())
            // What `cargo test` was told for itself is not for guests.
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("RUSTFLAGS")
            .output()
            .expect("cargo runs");
        assert!(built.status.success(), "`{folder}` does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    }
    target().join(TARGET).join("release")
}

const TARGET: &str = "wasm32-wasip2";
