//! Says far too much when it is asked what it is.

use stile_sdk::{
    prelude::*,
    schemars::{JsonSchema, Schema, SchemaGenerator},
    serde, serde_json,
};

#[derive(serde::Deserialize)]
#[serde(crate = "stile_sdk::serde")]
struct Config {}

impl JsonSchema for Config {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Config".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = Schema::default();
        schema.insert("description".to_owned(), serde_json::Value::String("x".repeat(300_000)));
        schema
    }
}

struct Talkative(Config);

#[plugin(config = Config)]
impl Talkative {
    #[pre]
    fn attack(&self) {}
}
