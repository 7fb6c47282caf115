//! A real registry: `docker-registry` of the distribution project, on a port of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use stile::model::digest::Digest;

use crate::definition::put;
use crate::redis::free_port;
use crate::{Call, Folder, Reply, SelfSigned};

/// Name and password of a registry that wants them.
pub const ACCOUNT: (&str, &str) = ("robot", "a password of tests");
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Of the password, with the least cost.
const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuuf6jy9oofv/1FTtdWDUJPpjhojBhQQ.S";

/// A registry; it is killed when it is dropped.
#[derive(Debug)]
pub struct Registry {
    process: Option<Child>,
    address: SocketAddr,
    tls: Option<SelfSigned>,
    is_closed: bool,
    folder: Folder,
}

impl Registry {
    /// One that speaks cleartext.
    #[must_use]
    pub fn start() -> Self {
        Self::with(None, false)
    }

    /// One that speaks TLS.
    #[must_use]
    pub fn with_tls(tls: &SelfSigned) -> Self {
        Self::with(Some(tls.clone()), false)
    }

    /// One that wants the name and the password of [`ACCOUNT`].
    #[must_use]
    pub fn closed() -> Self {
        Self::with(None, true)
    }

    fn with(tls: Option<SelfSigned>, is_closed: bool) -> Self {
        // Somebody else may take the port first.
        for _ in 0..10 {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let mut registry = Self { process: None, address, tls: tls.clone(), is_closed, folder: Folder::new() };
            if registry.run() {
                return registry;
            }
        }
        panic!("docker-registry does not start");
    }

    /// Starts it, on the same port and folder as before; whether it listens.
    pub fn run(&mut self) -> bool {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut http = json!({ "addr": self.address.to_string(), "secret": "of tests" });
        if let Some(tls) = &self.tls {
            tls.write(self.folder.path());
            put(&mut http, "/tls", json!({ "certificate": path("cert.pem"), "key": path("key.pem") }));
        }
        let storage = json!({ "filesystem": { "rootdirectory": path("data") } });
        let mut config = json!({ "version": 0.1, "storage": storage, "http": http });
        if self.is_closed {
            let file = self.folder.write("htpasswd", format!("{}:{BCRYPT}\n", ACCOUNT.0));
            put(&mut config, "/auth", json!({ "htpasswd": { "realm": "tests", "path": file } }));
        }
        // JSON is YAML.
        let config = self.folder.write("config.yml", config.to_string());
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is installed");
        let output = process.stderr.take().expect("it is piped");
        self.process = Some(process);
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let listens = lines.any(|line| line.contains("listening on "));
        // It must not be stopped by a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        listens
    }

    /// How a definition names something in it.
    #[must_use]
    pub fn names(&self, image: &str) -> String {
        format!("oci://{}/{image}", self.address)
    }

    /// The URL of a blob; over TLS by the name that its certificate has.
    #[must_use]
    pub fn blob(&self, repository: &str, content: &[u8]) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let (port, digest) = (self.address.port(), Digest::of(content).hex());
        format!("{scheme}://localhost:{port}/v2/{repository}/blobs/sha256:{digest}")
    }

    /// Puts an index there, of manifests of the same repository, each by its digest and for a platform if need be.
    pub async fn push_index(&self, repository: &str, tag: &str, kind: &str, manifests: &[(&str, Value)]) -> String {
        let entries: Vec<Value> = (manifests.iter())
            .map(|(digest, platform)| {
                let mut entry = json!({ "mediaType": MANIFEST, "digest": format!("sha256:{digest}"), "size": 0 });
                if !platform.is_null() {
                    put(&mut entry, "/platform", platform.clone());
                }
                entry
            })
            .collect();
        self.put(repository, tag, kind, &json!({ "schemaVersion": 2, "mediaType": kind, "manifests": entries })).await
    }

    /// Puts a component there, with these annotations; gives the digest of its manifest.
    pub async fn push(&self, repository: &str, tag: &str, component: &[u8], annotations: Value) -> String {
        let config = self.upload(repository, b"{}", "application/vnd.oci.empty.v1+json").await;
        let layer = self.upload(repository, component, "application/wasm").await;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer], "annotations": annotations,
        });
        self.put(repository, tag, MANIFEST, &manifest).await
    }

    async fn put(&self, repository: &str, tag: &str, kind: &str, manifest: &Value) -> String {
        let manifest = manifest.to_string();
        let put = self.call("PUT", &format!("/v2/{repository}/manifests/{tag}")).header("content-type", kind);
        let reply = put.body(manifest.clone()).send().await;
        assert_eq!(reply.status(), 201, "{}", reply.text());
        Digest::of(manifest.as_bytes()).hex()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    async fn upload(&self, repository: &str, content: &[u8], kind: &str) -> Value {
        let begun = self.call("POST", &format!("/v2/{repository}/blobs/uploads/")).send().await;
        let place = begun.header("location").expect("a place to upload to").to_owned();
        let path = place.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
        let digest = format!("sha256:{}", Digest::of(content).hex());
        let put =
            self.call("PUT", &format!("/{path}&digest={digest}")).header("content-type", "application/octet-stream");
        let reply: Reply = put.body(content.to_vec()).send().await;
        assert_eq!(reply.status(), 201, "{}", reply.text());
        json!({ "mediaType": kind, "digest": digest, "size": content.len() })
    }

    fn call(&self, method: &str, path: &str) -> Call {
        let call = Call::new(self.address, self.tls.clone(), method, path);
        if self.is_closed { call.header("authorization", basic(ACCOUNT)) } else { call }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What stands in `Authorization` for a name and a password.
#[must_use]
pub fn basic((name, password): (&str, &str)) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}")))
}
