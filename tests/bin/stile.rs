//! The command `stile`, where tests find it: their gateways have it compile plugins.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    stile::cli::run(std::env::args_os())
}
