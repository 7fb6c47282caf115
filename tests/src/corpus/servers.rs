//! The servers that a plugin may ask, and may not.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::{Answer, Upstream};

/// The one that it may ask, as `allowed.test`: it plays along with the attacker.
pub(super) fn allowed(forbidden: &Upstream) -> Upstream {
    let location = format!("{}/inside", forbidden.url());
    let large = "x".repeat(300_000);
    Upstream::answering(move |seen| match seen.target.trim_end_matches('/') {
        "/redirect" => Answer::new(302).header("location", &location),
        "/large" => Answer::new(200).pieces([LARGE; 5], None),
        "/declared" => Answer::new(200).body(large.clone()),
        "/head" => Answer::new(200).header("x-large", &"x".repeat(20_000)),
        "/drip" => Answer::new(200).pieces(["a"; 20], None).pausing(Duration::from_millis(100)),
        "/slow" => Answer::new(200).after(Duration::from_millis(1_500)),
        "/echo" => {
            let secret = seen.header("x-secret").unwrap_or_default();
            Answer::new(200).header("x-secret", secret).body(format!("secret={secret}"))
        }
        _ => Answer::new(200),
    })
}

/// What the names of the tests are, wherever they are asked from.
pub(super) fn names() -> impl Fn(&str) -> Vec<IpAddr> + Send + Sync {
    let asked = AtomicUsize::new(0);
    move |host| {
        let addresses: &[&str] = match host {
            "allowed.test" | "private.test" => &["127.0.0.1"],
            "metadata.test" => &["169.254.169.254"],
            "mixed.test" => &["203.0.114.1", "127.0.0.1"],
            // Good when it is looked at for the first time, and this machine from then on.
            "rebind.test" if asked.fetch_add(1, Ordering::SeqCst) == 0 => &["203.0.114.1"],
            "rebind.test" => &["127.0.0.1"],
            _ => &[],
        };
        addresses.iter().map(|address| address.parse().expect("an address")).collect()
    }
}

/// Five of them are over the limit of the tests.
const LARGE: &str = {
    const BYTES: &[u8] = &[b'x'; 60_000];
    match std::str::from_utf8(BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};
