//! A real Redis server on a port of its own. The store's own tests have this file too.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use super::Folder;

/// A running `redis-server`; it is killed when it is dropped.
#[derive(Debug)]
pub struct Redis {
    process: Option<Child>,
    arguments: Vec<String>,
    port: u16,
    folder: Folder,
}

impl Redis {
    /// One that forgets when it ends.
    #[must_use]
    pub fn start() -> Self {
        Self::with(Folder::new(), on_port)
    }

    /// One that keeps what it acknowledged.
    #[must_use]
    pub fn durable() -> Self {
        let durable = ["--appendonly", "yes", "--appendfsync", "always"].map(str::to_owned);
        Self::with(Folder::new(), |port| on_port(port).into_iter().chain(durable.clone()).collect())
    }

    /// One with these arguments, which follow from its port.
    #[must_use]
    pub fn with(folder: Folder, arguments: impl Fn(u16) -> Vec<String>) -> Self {
        let mut server = Self { process: None, arguments: Vec::new(), port: 0, folder };
        // Somebody else may take the port first.
        for _ in 0..20 {
            server.port = free_port();
            server.arguments = arguments(server.port);
            if server.run() {
                return server;
            }
        }
        panic!("redis-server does not start");
    }

    /// Starts it, on the same port and folder as before; whether it accepts connections.
    pub fn run(&mut self) -> bool {
        let mut process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is installed");
        let output = process.stdout.take().expect("it is piped");
        self.process = Some(process);
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let is_ready = lines.any(|line| line.contains("Ready to accept connections"));
        // It must not be stopped by a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        is_ready
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn on_port(port: u16) -> Vec<String> {
    vec!["--port".to_owned(), port.to_string()]
}

/// A port below those that outgoing connections use; a cluster's bus needs the one ten thousand above.
fn free_port() -> u16 {
    use std::hash::{BuildHasher as _, RandomState};
    loop {
        let port = 12_000 + u16::try_from(RandomState::new().hash_one(0_u8) % 10_000).unwrap_or(0);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}
