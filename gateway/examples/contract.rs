//! Writes the contract's function types, from a component that exports all of them.
//!
//! `cargo run --example contract -- COMPONENT > gateway/src/plugin/v0_1/types.txt`

use std::io::Write as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("usage: contract COMPONENT")?;
    let component = wasmtime::component::Component::from_file(&wasmtime::Engine::default(), file)?;
    for (function, ty) in stile::plugin::v0_1::types::exported(&component, "stile:plugin") {
        writeln!(std::io::stdout(), "{function} {ty}")?;
    }
    Ok(())
}
