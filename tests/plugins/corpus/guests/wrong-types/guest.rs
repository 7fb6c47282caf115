//! Exports `describe` as the contract names it, but not as the contract types it.

#![allow(unsafe_code, reason = "generated: it crosses the boundary between plugin and gateway")]

wit_bindgen::generate!({
    inline: "
        package stile:plugin@0.1.0;
        interface description { describe: func() -> string; }
        world wrong { export description; }
    ",
});

struct Wrong;

impl exports::stile::plugin::description::Guest for Wrong {
    fn describe() -> String {
        "trust me".to_owned()
    }
}

export!(Wrong);
