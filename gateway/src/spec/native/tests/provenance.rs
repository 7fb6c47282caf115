//! Where plugins must come from.

use super::folder::Folder;
use super::{check, check_all, plugin};

const KEYS: &str = "trusted_keys: { release: MCowBQYDK2VwAyEAu6iFWBCUpVozPHRudZPCvjUkQbtSfS42nq0xtFCDVwE= }\n";

/// A plugin with these keys in a file with these on top has this one problem.
#[track_caller]
fn has(top: &str, keys: &str, expected: &str) {
    check(&format!("{top}{}", plugin(&format!("file: a.wasm, {keys}"))), expected);
}

#[test]
fn pins_and_keys_must_be_such() {
    has("", "sha256: abc", "error plugins.a.sha256: `abc` is not a sha256 | 64 hexadecimal digits");
    has(
        "trusted_keys: { release: release.pem }\n",
        "signed_by: [release]",
        "error trusted_keys.release: `release.pem` is not a public key of ed25519: it is neither PEM, nor 32 bytes",
    );
    has(KEYS, "signed_by: [other]", "error plugins.a.signed_by[0]: there is no key `other` under `trusted_keys`");
    has("trusted_keys: 1\n", "signed_by: [other]", "error trusted_keys: ");
    has(KEYS, "signed_by: []", "error plugins.a.signed_by: the list is empty");
    has(KEYS, "signature: a.sig", "warning plugins.a.signature: is not used | name keys under `signed_by`");
}

#[test]
fn what_is_required_of_every_plugin_is_missed_where_it_is_missing() {
    let signed = format!("plugins_require: signed\n{KEYS}");
    let pin = format!("sha256: {}", "ab".repeat(32));
    has(
        "plugins_require: pinned\n",
        "grants: []",
        "error plugins.a.sha256: is missing: `plugins_require` is `pinned` | add `sha256: …`",
    );
    has(
        &signed,
        &pin,
        "error plugins.a.signed_by: is missing: `plugins_require` is `signed` | add `signed_by: [release]`",
    );
}

#[test]
fn a_signature_is_beside_its_file_or_where_it_is_said_to_be() {
    for (keys, expected) in [("", "a.wasm.sig"), ("signature: sigs/a, ", "sigs/a")] {
        let folder = Folder::new();
        folder.write("a.wasm", "");
        let keys = format!("{keys}signed_by: [release], sha256: {}, file: a.wasm", "ab".repeat(32));
        folder.write("stile.yaml", &format!("plugins_require: signed\n{KEYS}{}", plugin(&keys)));
        let (gateway, warnings) = crate::spec::read(&folder.path("stile.yaml")).expect("it is good");
        let signed = gateway.plugins.first().and_then(|plugin| plugin.provenance.signed.as_ref());
        assert_eq!(warnings, []);
        assert!(signed.is_some_and(|signed| signed.file == Some(folder.path(expected))), "{signed:?}");
    }
}

#[test]
fn a_file_elsewhere_is_named_by_a_url() {
    let of = |file: &str, keys: &str| plugin(&format!("file: \"{file}\"{keys}"));
    let pin = format!(", sha256: {}", "ab".repeat(32));
    check(&of("ftp://a/x.wasm", ""), "error plugins.a.file: `ftp://a/x.wasm` is not a source: it is not `https://` or");
    check(&of("http://a.test/x.wasm", ""), "error plugins.a.file: anybody on the way could send another file over");
    check(&of("oci://a.test", ""), "error plugins.a.file: `oci://a.test` is not a source: it names no repository");
    for (file, keys) in [
        ("http://a.test/x.wasm", &*pin),
        ("http://127.0.0.1:9/x", ""),
        ("https://a.test/x", ""),
        ("oci://a.test/x", ""),
    ] {
        check_all(&of(file, keys), &[]);
    }
    let digest = format!("oci://a.test/x@sha256:{}", "ab".repeat(32));
    check_all(&format!("plugins_require: pinned\n{}", of(&digest, "")), &[]);
}
