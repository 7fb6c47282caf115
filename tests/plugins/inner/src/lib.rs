//! A plugin that calls APIs of the gateway, and wants more of them than it may have. The configuration says how.
//!
//! What it found out is the answer to the caller. What each attack must come to is written down in `tests/data/apis.txt`.

use std::time::Duration;

use stile_sdk::{
    prelude::*,
    types::{Method, Upstream},
};

#[config]
struct Inner {
    attack: Attack,
    /// The API that it may call.
    #[serde(default = "default_api")]
    api: String,
    /// How many times, where the attack is about that.
    #[serde(default)]
    count: usize,
}

fn default_api() -> String {
    "inner".to_owned()
}

/// What is tried.
#[config]
#[derive(Clone, Copy, PartialEq)]
enum Attack {
    /// Nothing: the API is called as it may be.
    None,
    /// With the credential of the caller.
    WithCredential,
    /// An API that is not listed.
    Unlisted,
    /// No API's id.
    NoId,
    /// A path above the listen path.
    Above,
    /// The same in another spelling.
    AboveEscaped,
    /// A path below the listen path that another API has taken.
    Taken,
    /// A path with a line break and another request.
    PathCrlf,
    /// A header value with a line break and another field.
    Crlf,
    Host,
    ContentLength,
    Connection,
    TransferEncoding,
    Connect,
    /// Another caller in all the fields that tell of one.
    Spoof,
    /// `count` bytes of body.
    Body,
    /// An answer over `api_response_bytes_max`.
    LargeAnswer,
    /// The same, with the length at its head.
    DeclaredAnswer,
    /// The same in header fields.
    LargeHead,
    /// An answer that does not come.
    Slow,
    /// An answer that does not end.
    Drip,
    /// An answer that does not come, for which the plugin itself does not wait long.
    Impatient,
    /// An answer that breaks off.
    Broken,
    /// An answer that does not come, and all the time that the call has.
    Deadline,
    /// `count` calls at the same time.
    Calls,
    /// `count` calls, one after another.
    CallsInTurn,
    /// `count` calls at the same time, whose answers are slow.
    AtOnce,
    /// Works for long, and then calls.
    Work,
    /// Works for long.
    WorkOnly,
    /// Calls before it is called.
    Init,
}

struct State {
    config: Inner,
    in_init: Option<String>,
}

#[plugin(capabilities(apis = "to call them", upstream = "to send requests on"))]
impl State {
    fn new(config: Inner) -> Self {
        let in_init = (config.attack == Attack::Init).then(|| told(apis::get(&config.api, "/1").send()));
        Self { config, in_init }
    }

    #[pre(headers = ["authorization"])]
    fn attack(&self, request: &mut Request) -> Reply {
        Reply::new(200).body(self.tried(request.headers.get("authorization")).into_bytes())
    }

    /// Sends the request on.
    #[post]
    fn send_on(&self, request: &mut Request) {
        request.set_upstream(Upstream::Api(self.config.api.clone()));
    }

    /// Sees what all callers send, and wants to tell it.
    #[analytics]
    fn tell(&self, record: &mut Record) {
        record.add_tag(told(apis::get(&self.config.api, "/1").send()));
    }

    fn tried(&self, credential: Option<&[u8]>) -> String {
        let Inner { attack, api, count } = &self.config;
        let get = |path: &str| told(apis::get(api, path).send());
        let with = |name: &str, value: &str| told(apis::get(api, "/1").header(name, value).send());
        let slow = || apis::get(api, "/slow");
        match attack {
            Attack::None | Attack::WorkOnly => {
                if *attack == Attack::WorkOnly {
                    work();
                }
                get("/1?a=b")
            }
            Attack::WithCredential => {
                told(apis::post(api, "/1").header("authorization", credential.unwrap_or_default()).body("asked").send())
            }
            Attack::Unlisted => told(apis::get("other", "/1").send()),
            Attack::NoId => told(apis::get("../other", "/1").send()),
            Attack::Above => get("/../other/1"),
            Attack::AboveEscaped => get("/%2e%2e/other/1"),
            Attack::Taken => get("/taken/1"),
            Attack::PathCrlf => get("/ HTTP/1.1\r\nx-smuggled: 2\r\n\r\nGET /"),
            Attack::Crlf => with("x-a", "1\r\nx-smuggled: 2"),
            Attack::Host => with("host", "other.test"),
            Attack::ContentLength => with("content-length", "7"),
            Attack::Connection => with("connection", "close"),
            Attack::TransferEncoding => with("transfer-encoding", "chunked"),
            Attack::Connect => told(apis::Request::new(Method::Other("CONNECT".to_owned()), api, "/1").send()),
            Attack::Spoof => {
                let call = apis::get(api, "/1").header("x-forwarded-for", "10.6.6.6").header("x-real-ip", "10.6.6.6");
                let call = call.header("forwarded", "for=10.6.6.6").header("x-forwarded-host", "evil.test");
                told(call.header("x-request-id", "evil").header("x-forwarded-proto", "https").send())
            }
            Attack::Body => told(apis::post(api, "/1").body(vec![b'x'; *count]).send()),
            Attack::LargeAnswer => get("/large"),
            Attack::DeclaredAnswer => get("/declared"),
            Attack::LargeHead => get("/head"),
            Attack::Slow | Attack::Deadline => told(slow().send()),
            Attack::Drip => get("/drip"),
            Attack::Impatient => told(slow().timeout(Duration::from_millis(1)).send()),
            Attack::Broken => get("/broken"),
            Attack::Calls => all_told(apis::all_of((0..*count).map(|_| apis::get(api, "/1")))),
            Attack::CallsInTurn => all_told((0..*count).map(|_| apis::get(api, "/1").send())),
            Attack::AtOnce => all_told(apis::all_of((0..*count).map(|_| slow()))),
            Attack::Work => {
                work();
                get("/1")
            }
            Attack::Init => self.in_init.clone().unwrap_or_default(),
        }
    }
}

/// Many slices of the core.
fn work() {
    for number in 0..20_000_000_u32 {
        std::hint::black_box(number);
    }
}

fn told(sent: Result<apis::Response, apis::Error>) -> String {
    match sent {
        Ok(answer) => format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
        Err(apis::Error::Invalid(_)) => "invalid".to_owned(),
        Err(error) => error.into(),
    }
}

fn all_told(answers: impl IntoIterator<Item = Result<apis::Response, apis::Error>>) -> String {
    answers.into_iter().map(told).collect::<Vec<_>>().join(", ")
}
