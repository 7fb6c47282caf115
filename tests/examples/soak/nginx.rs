//! nginx, started with a configuration and files of its own.

use std::fmt::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::Duration;

use stile_tests::Folder;

use crate::job::{FILES, pattern};

/// A running nginx. Dropping it ends it.
pub(crate) struct Nginx {
    process: Child,
    port: u16,
    _folder: Folder,
}

impl Nginx {
    /// Starts it and waits until it listens.
    pub(crate) fn start() -> Self {
        let folder = Folder::new();
        for (name, size) in FILES {
            folder.write(name, pattern(size));
        }
        let [port, inner] = free_ports();
        let path = folder.path().display();
        let mut temporary = String::new();
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            _ = writeln!(temporary, "{kind}_temp_path {path}/{kind};");
        }
        // `/early` answers before the body is there, `/whole` when it has been read to its end.
        let config = format!(
            r#"daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; client_max_body_size 0; root {path}; default_type application/octet-stream;
    {temporary}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        add_header x-id $http_x_id always;
        location = /early {{ return 200 "$request_method $http_x_id $content_length"; }}
        location = /whole {{ proxy_pass http://127.0.0.1:{inner}; }}
    }}
    server {{
        listen 127.0.0.1:{inner} backlog=1024;
        location / {{ return 200 "$request_method $http_x_id $content_length"; }}
    }}
}}"#
        );
        let config = folder.write("nginx.conf", config);
        let log = folder.path().join("error.log");
        let process =
            Command::new("nginx").arg("-e").arg(log).arg("-c").arg(config).spawn().expect("nginx is installed");
        let nginx = Self { process, port, _folder: folder };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        nginx
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}
