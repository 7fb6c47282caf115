//! The end of an HTTP/1 connection whose caller may still be sending.
//!
//! A socket that is closed with bytes unread resets the connection, and the caller loses the answer that says why. So it
//! is read on, within limits, until the caller has seen the answer's end and closes its side (RFC 9112, section 9.6).

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::ready;
use std::time::Duration;

use hyper::rt::{Read, ReadBuf, Write};
use tokio::time::timeout;

use super::socket::Socket;
use super::stage::Stage;
use super::worker::{LINGER, Worker};
use crate::model::gateway::ServerLimits;

/// Says that nothing more is written, then reads and drops what comes: until the caller ends its side, or one of the
/// limits is reached. A drain waits no longer than for any other good-bye.
pub(super) async fn linger<F>(worker: &Rc<Worker<F>>, mut socket: Socket, broke_off: bool) {
    let mut rest = Rest { dropped: 0, silence: LINGER };
    if broke_off || socket.was_sent_a_body() {
        rest.silence = worker.limits().linger_timeout;
    }
    let is_done = {
        let reading = timeout(worker.limits().linger_time_max, rest.drop_all(&mut socket, worker.limits()));
        let draining = async {
            worker.stages.reached(Stage::Draining).await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! {
            biased;
            is_done = reading => is_done.unwrap_or(false),
            () = draining => false,
        }
    };
    if rest.dropped > 0 {
        worker.counters().lingering.add_one();
        if !is_done {
            worker.counters().lingering_cut.add_one();
        }
    }
}

/// What comes after the last answer.
struct Rest {
    dropped: u64,
    /// How long the caller may say nothing.
    silence: Duration,
}

impl Rest {
    /// Whether the caller ended its side, or the connection broke.
    async fn drop_all(&mut self, socket: &mut Socket, limits: &ServerLimits) -> bool {
        // hyper has done so where its answer went out well; what else there is to say is in the reading.
        let _ = poll_fn(|cx| Pin::new(&mut *socket).poll_shutdown(cx)).await;
        let mut buffer = Box::new_uninit_slice(BUFFER_BYTES);
        while self.dropped < limits.linger_bytes_max {
            let read = poll_fn(|cx| {
                let mut buffer = ReadBuf::uninit(&mut buffer);
                let read = ready!(Pin::new(&mut *socket).poll_read(cx, buffer.unfilled()));
                std::task::Poll::Ready(read.map_or(0, |()| buffer.filled().len()))
            });
            match timeout(self.silence, read).await {
                Ok(0) => return true,
                Ok(bytes) => {
                    self.dropped = self.dropped.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
                    self.silence = limits.linger_timeout;
                }
                Err(_) => return false,
            }
        }
        false
    }
}

const BUFFER_BYTES: usize = 64 << 10;
