//! A caller of the control port of a running gateway: where it is, its secret, one request on a connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::net::TcpStream;

use super::Failure;
use crate::spec;
use crate::telemetry::text::escaped;

/// Which gateway is asked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which gateway")]
pub(super) struct ControlArgs {
    /// The control port of the running gateway. Without it: that of --config, or else $STILE_CONTROL, or else
    /// http://127.0.0.1:8081.
    #[arg(long, value_name = "URL")]
    control: Option<String>,
    /// The secret of the control port. Others see what you type here: better use $STILE_CONTROL_SECRET or --config.
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    /// A configuration file that both are read from.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// A gateway that can be asked.
pub(super) struct Client {
    authority: String,
    secret: HeaderValue,
}

/// What it said.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) body: Value,
    /// Where the next part of a list begins.
    pub(super) next: Option<String>,
    /// Whether all that was asked for was done. Where only a part was, the body says which.
    pub(super) is_whole: bool,
}

/// What a control port answers with. Another server that has JSON for every path does not.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expected {
    /// A list.
    List,
    /// An object with this field.
    Field(&'static str),
}

impl ControlArgs {
    /// Finds the gateway and its secret.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        self.find(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn find(&self, environment: &dyn Fn(&str) -> Option<String>) -> Result<Client, Failure> {
        let configured = match &self.config {
            Some(file) => Some(spec::read(file).map_err(Failure::usage)?.0.control),
            None => None,
        };
        let authority = match (&self.control, &configured) {
            (Some(url), _) => authority(url)?,
            (None, Some(control)) => reachable(control.address)?.to_string(),
            (None, None) => authority(&environment("STILE_CONTROL").unwrap_or_else(|| DEFAULT.to_owned()))?,
        };
        let secret = self.secret.clone().or_else(|| environment("STILE_CONTROL_SECRET"));
        let secret = secret.or_else(|| configured.and_then(|control| control.secret)).ok_or_else(|| {
            Failure::Usage(anyhow!(
                "the control port's secret is not known\n  hint: set $STILE_CONTROL_SECRET, or name the configuration \
                 file that has `control.secret` with --config; without one, the gateway's start-up log has it"
            ))
        })?;
        let mut secret =
            HeaderValue::try_from(secret).context("the secret is no header value").map_err(Failure::Usage)?;
        secret.set_sensitive(true);
        Ok(Client { authority, secret })
    }
}

impl Client {
    /// Sends a request and waits for its answer, which must be a success, in part at least, and a control port's.
    pub(super) fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        expected: Expected,
    ) -> Result<Reply, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::run)?;
        // A timer is made within a runtime only.
        let _entered = runtime.enter();
        let answered = runtime.block_on(tokio::time::timeout(PATIENCE, self.exchange(method, path, body, expected)));
        answered
            .map_err(|_| anyhow!("the gateway at {} does not answer within {} s", self.authority, PATIENCE.as_secs()))
            .and_then(|answered| answered)
            .map_err(Failure::Run)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        expected: Expected,
    ) -> anyhow::Result<Reply> {
        let stream = TcpStream::connect(&self.authority).await.map_err(|error| {
            anyhow!(
                "no gateway answers at {}: {error}\n  hint: is it running? name its control port with --control or --config",
                self.authority
            )
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.authority)
            .header("x-tyk-authorization", &self.secret)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let response = sender.send_request(request).await.context("the gateway broke off")?;
        let status = response.status();
        let next = response.headers().get("x-stile-next").and_then(|next| next.to_str().ok()).map(str::to_owned);
        let bytes = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let bytes = bytes.map_err(|error| anyhow!("the answer cannot be read: {error}"))?.to_bytes();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let is_whole = status.is_success();
        if (is_whole || status == StatusCode::UNPROCESSABLE_ENTITY) && expected.is_met_by(&body) {
            return Ok(Reply { body, next, is_whole });
        }
        Err(self.refusal(status, &body))
    }

    fn refusal(&self, status: StatusCode, body: &Value) -> anyhow::Error {
        let message = body.get("message").and_then(Value::as_str).filter(|_| !status.is_success());
        let message = message.map(|message| escaped(message, MESSAGE_BYTES_MAX));
        match (status, message) {
            (StatusCode::FORBIDDEN, Some(_)) => anyhow!(
                "the gateway at {} does not take this secret\n  hint: it is `control.secret` of its configuration, or in \
                 its start-up log",
                self.authority
            ),
            (_, Some(message)) => anyhow!("{message} (status {})", status.as_u16()),
            (_, None) => {
                anyhow!("what answers at {} is no control port (status {})", self.authority, status.as_u16())
            }
        }
    }
}

impl Expected {
    /// What became of a change.
    pub(super) const CHANGE: Self = Self::Field("action");

    fn is_met_by(self, body: &Value) -> bool {
        match self {
            Self::List => body.is_array(),
            Self::Field(name) => body.get(name).is_some(),
        }
    }
}

/// A name as part of a path.
pub(super) fn segment(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// Host and port of a URL.
fn authority(url: &str) -> Result<String, Failure> {
    let wrong =
        |why: &str| Failure::Usage(anyhow!("`{}` {why}\n  hint: such as {DEFAULT}", escaped(url, MESSAGE_BYTES_MAX)));
    let uri: Uri = url.parse().map_err(|_| wrong("is not a URL"))?;
    if uri.scheme_str() != Some("http") {
        return Err(wrong("does not begin with http://, which is what the control port speaks"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("has a path"));
    }
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    let authority = authority.ok_or_else(|| wrong("names no host alone"))?;
    let port = authority.port_u16().unwrap_or(80);
    Ok(format!("{}:{port}", authority.host()))
}

/// Where a gateway that listens on all addresses is reached.
fn reachable(address: SocketAddr) -> Result<SocketAddr, Failure> {
    if address.port() == 0 {
        return Err(Failure::Usage(anyhow!(
            "`control.address` of the configuration has port 0, which is any\n  hint: name the port with --control"
        )));
    }
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, address.port()))
}

const DEFAULT: &str = "http://127.0.0.1:8081";
/// A reload answers when changed plugins are compiled.
const PATIENCE: Duration = Duration::from_secs(180);
/// A part of a list of policies may have so many bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const MESSAGE_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(control: Option<&str>, environment: Option<&str>, expected: Result<&str, &str>) {
        let args = ControlArgs {
            control: control.map(str::to_owned),
            secret: Some("secret".to_owned()),
            config: None,
            json: false,
        };
        let found = args.find(&|name| environment.filter(|_| name == "STILE_CONTROL").map(str::to_owned));
        let found = found.map(|client| client.authority).map_err(|failure| format!("{failure:?}"));
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            _ => panic!("{control:?}: {found:?}"),
        }
    }

    #[test]
    fn the_gateway_is_found_by_url() {
        check(None, None, Ok("127.0.0.1:8081"));
        check(None, Some("http://gateway:1"), Ok("gateway:1"));
        check(Some("http://a.example:9/"), Some("http://gateway:1"), Ok("a.example:9"));
        check(Some("http://[::1]:9"), None, Ok("[::1]:9"));
        check(Some("http://a"), None, Ok("a:80"));
        check(Some("https://a"), None, Err("does not begin with http://"));
        check(Some("a:9"), None, Err("does not begin with http://"));
        check(Some("http://a/tyk"), None, Err("has a path"));
        check(Some("http://u:p@a/"), None, Err("names no host alone"));
    }

    #[test]
    fn a_secret_must_be_known() {
        let args = ControlArgs { control: None, secret: None, config: None, json: false };
        assert!(matches!(args.find(&|_| None), Err(Failure::Usage(_))));
        assert!(args.find(&|name| (name == "STILE_CONTROL_SECRET").then(|| "s".to_owned())).is_ok());
    }

    #[test]
    fn all_addresses_are_reached_at_this_machine() {
        for (address, expected) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")] {
            let found = reachable(address.parse().expect("an address")).ok().map(|found| found.to_string());
            assert_eq!(found.as_deref(), Some(expected));
        }
        assert!(reachable(([127, 0, 0, 1], 0).into()).is_err());
    }
}
