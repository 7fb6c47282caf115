//! Has a configuration schema of a few lines that nobody finds the end of: each definition asks the next one three times.

use stile_sdk::{
    prelude::*,
    schemars::{JsonSchema, Schema, SchemaGenerator},
    serde,
    serde_json::{Map, Value, json},
};

#[derive(serde::Deserialize)]
#[serde(crate = "stile_sdk::serde")]
struct Config {}

impl JsonSchema for Config {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Config".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let next = |of: u32| json!({ "$ref": format!("#/$defs/d{of}") });
        let definition = |of: u32| json!({ "anyOf": [next(of + 1), next(of + 1), next(of + 1)] });
        let mut definitions: Map<_, _> = (0..DEPTH).map(|of| (format!("d{of}"), definition(of))).collect();
        definitions.insert(format!("d{DEPTH}"), json!({ "not": {} }));
        let mut schema = Schema::default();
        schema.insert("$defs".to_owned(), Value::Object(definitions));
        schema.insert("anyOf".to_owned(), json!([next(0)]));
        schema
    }
}

const DEPTH: u32 = 40;

struct Puzzle(Config);

#[plugin(config = Config)]
impl Puzzle {
    #[pre]
    fn attack(&self) {}
}
