//! The reference configuration `example.yaml` stays true: every key is in it, with its default and a comment.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::super::{raw, text};
use super::folder::Folder;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/example.yaml");

fn value(text: &str) -> Value {
    text::parse(Path::new("example.yaml"), text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// The reference with every setting switched on: `#key: value` and `#- item` lose their sign, and the empty lists and
/// tables that they fill go.
fn switched_on() -> String {
    let text = std::fs::read_to_string(EXAMPLE).expect("the reference");
    let is_setting = |line: &str| {
        let line = line.trim_start().strip_prefix('#').unwrap_or(" ");
        line.starts_with("- ") || (line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(':'))
    };
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        let indent = |line: &str| line.len() - line.trim_start().len();
        let next = lines[index + 1..].iter().find(|l| !l.trim_start().starts_with("# "));
        let is_filled = next.is_some_and(|next| is_setting(next) && indent(next) > indent(line));
        let mut line = if is_setting(line) { line.replacen('#', "", 1) } else { (*line).to_owned() };
        if is_filled {
            for empty in [": []", ": {}"] {
                line = line.replacen(empty, ":", 1);
            }
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// Every property of every type of the schema, as `Type.key`.
fn keys(schema: &Value) -> Vec<(String, Value)> {
    let types = schema["$defs"].as_object().expect("types").iter();
    types
        .map(|(name, schema)| (name.as_str(), schema))
        .chain([("File", schema)])
        .flat_map(|(name, schema)| {
            let properties = schema["properties"].as_object().into_iter().flatten();
            properties.map(move |(key, property)| (format!("{name}.{key}"), property.clone()))
        })
        .collect()
}

/// Walks value and schema together; calls back for each key with its type, the schema of the key, and the value.
fn walk(root: &Value, name: &str, schema: &Value, value: &Value, note: &mut dyn FnMut(String, &Value, &Value)) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().expect("a name");
        return walk(root, name, &root["$defs"][name], value, note);
    }
    for branch in schema["anyOf"].as_array().into_iter().flatten() {
        walk(root, name, branch, value, note);
    }
    if let (Some(properties), Value::Object(map)) = (schema["properties"].as_object(), value) {
        for (key, value) in map {
            let property = properties.get(key).unwrap_or(&Value::Null);
            note(format!("{name}.{key}"), property, value);
            walk(root, name, property, value, note);
        }
    }
    if let (Value::Object(_), Value::Object(map)) = (&schema["additionalProperties"], value) {
        map.values().for_each(|v| walk(root, name, &schema["additionalProperties"], v, note));
    }
    for item in value.as_array().into_iter().flatten() {
        walk(root, name, &schema["items"], item, note);
    }
}

#[test]
fn every_key_has_a_description() {
    for (key, property) in keys(&crate::spec::schema()) {
        assert!(property["description"].as_str().is_some_and(|d| d.len() > 10), "{key} has none");
    }
}

#[test]
fn the_reference_is_a_good_configuration() {
    let (gateway, warnings) = crate::spec::read(Path::new(EXAMPLE)).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(warnings, []);
    assert_eq!(gateway.apis.len(), 1);
}

#[test]
fn the_reference_is_good_with_everything_switched_on() {
    let folder = Folder::new();
    for file in ["cert.pem", "key.pem", "ca.pem", "plugins/headers.wasm"] {
        folder.write(file, "");
    }
    folder.write("signer.secret", "of the file\n");
    folder.write("plugins.password", "of the file\n");
    let more = "apis: [ { id: more, listen: { path: / }, upstream: { url: \"http://a\" } } ]";
    folder.write("apis/more.yaml", more);
    folder.write("example.yaml", &switched_on());
    let environment = |name: &str| {
        ["TOKEN_SERVER_SECRET", "REGISTRY_PASSWORD"].contains(&name).then(|| "of the environment".to_owned())
    };
    let read = crate::spec::read_with(&folder.path("example.yaml"), &environment);
    let (gateway, warnings) = read.unwrap_or_else(|p| panic!("{p}"));
    let warnings: Vec<&str> = warnings.iter().map(|w| w.path.as_str()).collect();
    // Settings that only make sense where another one is changed.
    let expected = [
        "plugins.headers.reuse_calls_max",
        "plugins.headers.reuse_memory_high_water_bytes",
        "plugins.headers.outgoing_http",
        "plugins.headers.secrets",
        "plugins.headers.upstream",
        "plugins.headers.apis",
        "apis[0].upstream.ca_file",
        "apis[0].upstream.server_name",
        "analytics.file",
        "store.redis",
    ];
    assert_eq!(warnings, expected);
    assert_eq!(gateway.apis[0].uses().count(), 7);
}

#[test]
fn the_reference_has_every_key() {
    let schema = crate::spec::schema();
    let mut seen = BTreeSet::new();
    walk(&schema, "File", &schema, &value(&switched_on()), &mut |key, _, _| {
        seen.insert(key);
    });
    // One of three; the other two are named beside it.
    seen.extend(["Credential.query".to_owned(), "Credential.cookie".to_owned()]);
    // Each goes with a `with` of its own.
    seen.extend(["regex", "regex_match_index", "xpath", "json_pointer"].map(|key| format!("IdExtractor.{key}")));
    // A table in place of the list, described above it.
    seen.extend(["PolicyFiles.file".to_owned(), "PolicyFiles.tyk_file".to_owned()]);
    let missing: Vec<String> = keys(&schema).into_iter().map(|(key, _)| key).filter(|k| !seen.contains(k)).collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_reference_shows_the_defaults() {
    let schema = crate::spec::schema();
    let text = std::fs::read_to_string(EXAMPLE).expect("the reference");
    let mut wrong = Vec::new();
    for text in [text, switched_on()] {
        walk(&schema, "File", &schema, &value(&text), &mut |key, property, value| {
            let default = &property["default"];
            let is_leaf =
                default.is_number() || default.is_boolean() || default.as_str().is_some_and(|d| !d.is_empty());
            if is_leaf && value != default {
                wrong.push(format!("{key}: {value}, but the default is {default}"));
            }
        });
    }
    assert_eq!(wrong, Vec::<String>::new());

    // Limits of plugins have their defaults in the model only.
    let stated = value(&std::fs::read_to_string(EXAMPLE).expect("the reference"))["plugin_limits"].clone();
    let limits: super::super::raw_plugin::PluginLimits = serde_json::from_value(stated).expect("limits");
    assert_eq!(super::super::plugin::with(&limits), crate::model::plugin::Limits::default());
    let stated = value(&std::fs::read_to_string(EXAMPLE).expect("the reference"))["plugin_quarantine"].clone();
    let quarantine: super::super::raw_plugin::PluginQuarantine = serde_json::from_value(stated).expect("a quarantine");
    let of_model = crate::model::plugin::Quarantine::default();
    assert_eq!(super::super::plugin::quarantine_with(&quarantine), of_model);
    for (key, property) in keys(&schema) {
        let (stated, name) = match key.split_once('.') {
            Some(("PluginLimits", name)) => (serde_json::to_value(&limits), name),
            Some(("PluginQuarantine", name)) => (serde_json::to_value(&quarantine), name),
            _ => continue,
        };
        let stated = stated.expect("JSON")[name].clone();
        let description = property["description"].as_str().expect("a description");
        assert!(description.ends_with(&format!("Default: {stated}.")), "{key}: {description}");
    }
}

#[test]
fn a_file_that_says_nothing_means_the_defaults_of_the_model() {
    let file: raw::File = serde_json::from_value(json!({})).expect("a file");
    let folder = Folder::new();
    folder.write("stile.yaml", "apis: []");
    let (gateway, _) = crate::spec::read(&folder.path("stile.yaml")).expect("a configuration");
    assert_eq!(gateway.limits, crate::model::gateway::ServerLimits::default());
    assert_eq!(gateway.runtime, crate::model::gateway::Runtime::default());
    assert_eq!(gateway.control.address.to_string(), file.control.address);
    assert_eq!(gateway.listeners[0].address.to_string(), "127.0.0.1:8080");
}
