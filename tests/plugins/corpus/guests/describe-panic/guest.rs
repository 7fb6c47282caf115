//! Panics when it is asked what it is.

use stile_sdk::{
    prelude::*,
    schemars::{JsonSchema, Schema, SchemaGenerator},
    serde,
};

#[derive(serde::Deserialize)]
#[serde(crate = "stile_sdk::serde")]
struct Config {}

impl JsonSchema for Config {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Config".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        panic!("who wants to know?")
    }
}

struct Shy(Config);

#[plugin(config = Config)]
impl Shy {
    #[pre]
    fn pass(&self) {}
}
