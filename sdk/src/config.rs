//! A plugin's configuration: its JSON Schema, and its value.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;

/// The JSON Schema that the gateway checks definitions against.
pub fn schema<T: JsonSchema>() -> Option<String> {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    Some(schema.as_value().to_string())
}

/// Parses the definition's configuration. A definition without one is as good as an empty one.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let parsed = serde_json::from_str(text).or_else(|error| match text.trim() {
        "null" => serde_json::from_str("{}"),
        _ => Err(error),
    });
    parsed.map_err(|error| error.to_string())
}
