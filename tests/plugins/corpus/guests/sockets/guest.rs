//! Connects by itself, with what the standard library has for that.

use std::net::TcpStream;

use stile_sdk::prelude::*;

struct Sockets;

#[plugin]
impl Sockets {
    #[pre]
    fn attack() -> Result<(), String> {
        TcpStream::connect("127.0.0.1:1").map(drop).map_err(|error| error.to_string())
    }
}
