//! A plugin that fails in every way that there is, at every hook: its function `attack` does what the configuration says. For
//! tests of what failures and waiting mean to others; attacks with an expected outcome each are in `../corpus`.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use stile_sdk::prelude::*;

/// What is tried. The first part works in any hook; the second is in what the call returns.
#[config]
#[derive(Clone, Copy, PartialEq)]
enum Attack {
    /// Computes for ever, until the fuel is gone.
    Spin,
    /// Computes for ever, with all the fuel in the world.
    SpinOn,
    /// Takes memory until there is none.
    Allocate,
    Panic,
    /// Waits far longer than it may.
    Sleep,
    /// Says that it failed, in words meant for a terminal.
    Err,
    /// Calls the host more often than it may.
    HostCalls,
    /// Hands the host more bytes than it may.
    HostCallBytes,
    /// Asks for the time, over and over: next to nothing for the guest, a call each for the host.
    ClockLoop,
    /// Takes sixteen mebibytes and sits on them.
    Hold,
    /// Tells what it can measure: the smallest steps of its clocks, the shortest pause and the shortest life of a value, in
    /// nanoseconds.
    Measure,

    /// A header value with a line break and another field.
    Crlf,
    /// A status that is none.
    BadStatus,
    /// A path that does not begin with a slash.
    BadPath,

    /// Makes its first instance and no other one: it loads, and fails at each call.
    ErrInInitLater,
}

#[config]
struct Config {
    attack: Attack,
}

struct Hostile(Attack);

#[plugin(capabilities(kv = "to wear it out"))]
impl Hostile {
    fn new(config: Config) -> Result<Self, String> {
        match config.attack {
            Attack::ErrInInitLater if kv::increment("instances", 1, None) != Ok(1) => Err("once is enough".to_owned()),
            attack => Ok(Self(attack)),
        }
    }

    #[pre]
    fn attack(&self, request: &mut Request) -> Result<Action, String> {
        self.on_request(request)
    }

    #[auth(name = "attack")]
    fn in_auth(&self, request: &mut Request) -> Result<AuthAction, String> {
        Ok(match self.on_request(request)? {
            Action::Continue => AuthAction::Authenticated(Session::new("hostile")),
            Action::Respond(reply) => AuthAction::Respond(reply),
            Action::Reject(rejection) => AuthAction::Reject(rejection),
        })
    }

    #[post_auth(name = "attack")]
    fn in_post_auth(&self, request: &mut Request) -> Result<Action, String> {
        self.on_request(request)
    }

    #[endpoint(name = "attack")]
    fn in_endpoint(&self, request: &mut Request) -> Result<Action, String> {
        self.on_request(request)
    }

    #[post(name = "attack")]
    fn in_post(&self, request: &mut Request) -> Result<Action, String> {
        self.on_request(request)
    }

    #[response(name = "attack")]
    fn in_response(&self, response: &mut Response) -> Result<(), String> {
        self.anywhere()?;
        let headers = &mut response.headers;
        match self.0 {
            Attack::Crlf => headers.set("x-crlf", CRLF),
            Attack::BadStatus => response.set_status(42),
            _ => {}
        }
        Ok(())
    }

    #[analytics(name = "attack")]
    fn in_analytics(&self, record: &mut Record) -> Result<(), String> {
        self.anywhere()?;
        if self.0 == Attack::Crlf {
            record.set_request_header("x-crlf", CRLF);
        }
        Ok(())
    }

    fn on_request(&self, request: &mut Request) -> Result<Action, String> {
        self.anywhere()?;
        let headers = &mut request.headers;
        match self.0 {
            Attack::Crlf => headers.set("x-crlf", CRLF),
            Attack::BadStatus => return Ok(Reply::new(42).into()),
            Attack::BadPath => request.set_path("orders"),
            Attack::Measure => return Ok(Reply::new(200).body(measured()).into()),
            _ => {}
        }
        Ok(Action::Continue)
    }

    fn anywhere(&self) -> Result<(), String> {
        match self.0 {
            Attack::Spin | Attack::SpinOn => spin(),
            Attack::Allocate => allocate(),
            Attack::Panic => panic!("as asked"),
            Attack::Sleep => std::thread::sleep(Duration::from_secs(60)),
            Attack::Err => return Err("\u{1b}[31mnobody expects\r\nthis".to_owned()),
            Attack::HostCalls => (0..CALLS).for_each(|_| _ = kv::get("a")),
            Attack::ClockLoop => (0..CHEAP_CALLS).for_each(|_| _ = black_box(Instant::now())),
            Attack::Hold => {
                let held = black_box(vec![1_u8; 16 << 20]);
                std::thread::sleep(Duration::from_secs(60));
                drop(held);
            }
            Attack::HostCallBytes => (0..KV_SETS).for_each(|_| _ = kv::set("a", &[0; 64 << 10], None)),
            _ => {}
        }
        Ok(())
    }
}

/// The smallest steps that were seen, of many.
fn measured() -> String {
    let begun = Instant::now();
    let mut told = (begun, SystemTime::now());
    let (mut monotonic, mut wall) = (Duration::MAX, Duration::MAX);
    for _ in 0..20 {
        let now = (change(Instant::now, told.0), change(SystemTime::now, told.1));
        monotonic = monotonic.min(now.0 - told.0);
        wall = wall.min(now.1.duration_since(told.1).unwrap_or_default());
        told = now;
    }
    // A pause begins anywhere between two ticks, and ends at one.
    let pause = (0..5).map(|_| {
        let before = Instant::now();
        std::thread::sleep(Duration::from_nanos(1));
        before.elapsed()
    });
    let pause = pause.min().unwrap_or_default();
    // So does the life of a value.
    let lives = (0..5).map(|_| {
        let before = change(Instant::now, Instant::now());
        _ = kv::set("life", b"", Some(Duration::from_millis(1)));
        while let Ok(Some(_)) = kv::get("life") {}
        before.elapsed()
    });
    let life = lives.min().unwrap_or_default();
    format!("{} {} {} {}", monotonic.as_nanos(), wall.as_nanos(), pause.as_nanos(), life.as_nanos())
}

/// The first time that a clock tells after this one.
fn change<T: PartialEq>(clock: impl Fn() -> T, told: T) -> T {
    loop {
        let now = clock();
        if now != told {
            return now;
        }
    }
}

fn spin() -> ! {
    loop {
        black_box(());
    }
}

fn allocate() {
    let mut taken = Vec::new();
    loop {
        taken.push(black_box(Vec::<u8>::with_capacity(1 << 20)));
    }
}

const CRLF: &str = "1\r\nx-smuggled: 2";
/// More than `host_calls_max`, and than `host_call_bytes_max` of 64 KiB each.
const CALLS: usize = 1_001;
/// Of which a hundred instructions each are within `fuel`, and a host call each is not.
const CHEAP_CALLS: usize = 100_000;
const KV_SETS: usize = 65;
