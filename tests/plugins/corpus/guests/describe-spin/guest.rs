//! Computes for ever when it is asked what it is.

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
        loop {
            std::hint::black_box(());
        }
    }
}

struct Busy(Config);

#[plugin(config = Config)]
impl Busy {
    #[pre]
    fn pass(&self) {}
}
