//! Two upgraded connections tied together: what comes out of one goes into the other.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

/// Carries bytes both ways until both sides are done, one fails, or neither says anything for `idle_timeout`.
///
/// A side that is done with sending may still receive.
pub async fn splice(client: Upgraded, upstream: Upgraded, idle_timeout: Duration) {
    join(TokioIo::new(client), TokioIo::new(upstream), idle_timeout).await;
}

async fn join<A, B>(client: A, upstream: B, idle_timeout: Duration)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (client_read, client_write) = tokio::io::split(client);
    let (upstream_read, upstream_write) = tokio::io::split(upstream);
    let moved = Cell::new(Instant::now());
    let both = async {
        tokio::try_join!(carry(client_read, upstream_write, &moved), carry(upstream_read, client_write, &moved))
    };
    tokio::select! {
        // A failure on one side ends both: nobody is left to tell but the other side, by closing.
        _ = both => {}
        () = silence(&moved, idle_timeout) => {}
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &Cell<Instant>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        moved.set(Instant::now());
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..read).unwrap_or_default()).await?;
        to.flush().await?;
        moved.set(Instant::now());
    }
}

async fn silence(moved: &Cell<Instant>, idle_timeout: Duration) {
    loop {
        let seen = moved.get();
        tokio::time::sleep_until(seen + idle_timeout).await;
        if moved.get() == seen {
            return;
        }
    }
}

const BUFFER_BYTES: usize = 16 * 1024;
