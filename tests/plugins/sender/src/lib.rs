//! Sends as much, as often and as long as it is told, for tests of limits: the answer to the caller is what came back.

#![cfg(target_family = "wasm")]

use std::hint::black_box;

use stile_sdk::prelude::*;

#[config]
struct Sender {
    what: What,
    /// Host and port of the server that it asks.
    authority: String,
}

/// What is sent, or asked for.
#[config]
#[derive(Clone, Copy)]
enum What {
    /// One request.
    Plain,
    /// Nine requests, one after the other.
    Calls,
    /// Three requests at one time.
    AtOnce,
    /// A body of 300,000 bytes.
    LargeBody,
    /// An answer of as many, a piece at a time.
    LargeAnswer,
    /// The same with its length at its head.
    DeclaredAnswer,
    /// An answer with 20,000 bytes of header fields.
    LargeHead,
    /// An answer that takes its time.
    SlowAnswer,
    /// An answer that does not end, after work that takes a while.
    EndlessAnswer,
}

#[plugin(config = Self, capabilities(outgoing_http = "to get out"))]
impl Sender {
    #[pre]
    fn send(&self) -> Reply {
        let to = |path: &str| told(http::get(format!("http://{}{path}", self.authority)).send());
        let told = match self.what {
            What::Plain => to("/"),
            What::Calls => (0..9).map(|_| to("/")).collect(),
            What::AtOnce => {
                let pending: Vec<_> = (0..3).map(|_| by_hand::begin(&self.authority, "/slow")).collect();
                let ended: Vec<String> = pending.iter().map(by_hand::Pending::end).collect();
                ended.join(" ")
            }
            What::LargeBody => {
                told(http::post(format!("http://{}/", self.authority)).body(vec![b'x'; LARGE_BYTES]).send())
            }
            What::LargeAnswer => to("/large"),
            What::DeclaredAnswer => to("/declared"),
            What::LargeHead => to("/head"),
            What::SlowAnswer => to("/slow"),
            What::EndlessAnswer => {
                drop(black_box(vec![1_u8; 16 << 20]));
                to("/endless")
            }
        };
        Reply::new(200).body(told)
    }
}

fn told(sent: Result<http::Response, http::Error>) -> String {
    match sent {
        Ok(answer) => answer.status.to_string(),
        Err(error) => error.to_string(),
    }
}

const LARGE_BYTES: usize = 300_000;
