//! Real Redis servers on ports of their own: alone, with TLS, as a cluster. The store's own tests have this file too.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Folder;

/// A running `redis-server`; it is killed when it is dropped.
#[derive(Debug)]
pub struct Redis {
    process: Option<Child>,
    arguments: Vec<String>,
    port: u16,
    folder: Folder,
    authority: Option<PathBuf>,
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

    /// One that speaks TLS only, as `localhost`.
    #[must_use]
    pub fn with_tls() -> Self {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("the names are good");
        let folder = Folder::new();
        let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).expect("the folder is ours");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("the folder is ours");
        let files = [("--tls-cert-file", &certificate), ("--tls-key-file", &key), ("--tls-ca-cert-file", &certificate)];
        let files: Vec<String> = files
            .into_iter()
            .flat_map(|(name, path)| [name, path.to_str().expect("our names are text")].map(str::to_owned))
            .collect();
        let mut server = Self::with(folder, |port| {
            let port = port.to_string();
            let more = ["--tls-auth-clients", "no", "--port", "0", "--tls-port", &port].map(str::to_owned);
            files.iter().cloned().chain(more).collect()
        });
        server.authority = Some(certificate);
        server
    }

    /// Three that share the slots of a cluster, when all of them know it.
    #[must_use]
    pub fn cluster() -> [Self; 3] {
        let one = |_| {
            let more =
                ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "5000"];
            Self::with(Folder::new(), |port| on_port(port).into_iter().chain(more.map(str::to_owned)).collect())
        };
        let nodes = [0, 1, 2].map(one);
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let made =
            Command::new("redis-cli").args(["--cluster", "create"]).args(addresses).arg("--cluster-yes").output();
        let made = made.expect("redis-cli is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        for node in &nodes {
            let is_ok = || {
                let port = node.port.to_string();
                let told = Command::new("redis-cli").args(["-p", &port, "cluster", "info"]).output();
                String::from_utf8_lossy(&told.expect("redis-cli is installed").stdout).contains("cluster_state:ok")
            };
            // It tells nobody when it has heard of the others.
            while !is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        nodes
    }

    /// One with these arguments, which follow from its port.
    #[must_use]
    pub fn with(folder: Folder, arguments: impl Fn(u16) -> Vec<String>) -> Self {
        let mut server = Self { process: None, arguments: Vec::new(), port: 0, folder, authority: None };
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

    /// Who signed its certificate, where it speaks TLS.
    #[must_use]
    pub fn authority(&self) -> Option<&Path> {
        self.authority.as_deref()
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
pub(crate) fn free_port() -> u16 {
    use std::hash::{BuildHasher as _, RandomState};
    loop {
        let port = 12_000 + u16::try_from(RandomState::new().hash_one(0_u8) % 10_000).unwrap_or(0);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}
