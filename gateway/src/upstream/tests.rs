//! Requests over real sockets, against upstreams that follow a script.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use super::*;
use crate::message::body::BodyError;
use crate::message::collect::{Collected, collect};
use crate::model::api::{Origin, Upstream, UpstreamProtocol, UpstreamTls};
use crate::model::outgoing::Reach;

fn on_core<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), test).await.expect("test hangs") })
}

/// An upstream that runs a script for each connection, with the number of the connection.
async fn scripted<F: Future<Output = ()> + 'static>(script: impl Fn(usize, TcpStream) -> F + 'static) -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream(listener.local_addr().unwrap().port());
    tokio::task::spawn_local(async move {
        for number in 0.. {
            let (tcp, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(script(number, tcp));
        }
    });
    upstream
}

fn upstream(port: u16) -> Upstream {
    Upstream {
        origin: Origin { tls: false, host: "127.0.0.1".into(), port },
        base_path: String::new(),
        protocol: UpstreamProtocol::Auto,
        tls: UpstreamTls::default(),
        preserve_host: false,
        connect_timeout: Duration::from_secs(5),
        reply_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(5),
        idle_connections_max: 100,
        idle_connection_timeout: Duration::from_secs(60),
        connections_max: 100,
    }
}

/// Reads a head; empty at the end of the connection.
async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match io.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

async fn answer(io: &mut (impl AsyncWrite + Unpin), text: &str) {
    io.write_all(text.as_bytes()).await.unwrap();
}

fn get(path: &str) -> Request<Body> {
    request(Method::GET, path, Body::Empty)
}

fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    Request::builder().method(method).uri(path).header("host", "service.test").body(body).unwrap()
}

struct Client {
    upstreams: Upstreams,
    shared: Arc<Shared>,
    target: Arc<Target>,
}

impl Client {
    fn new(upstream: &Upstream) -> Self {
        let shared = Arc::new(Shared::default());
        let target = Arc::new(Target::new(upstream).unwrap());
        Self { upstreams: Upstreams::new(Arc::clone(&shared)), shared, target }
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, UpstreamError> {
        self.upstreams.send(&self.target, request).await
    }

    async fn text(&self, request: Request<Body>) -> String {
        String::from_utf8(whole(self.send(request).await.unwrap()).await.unwrap().bytes.to_vec()).unwrap()
    }

    fn opened(&self) -> u64 {
        self.shared.counters().opened.load(SeqCst)
    }

    fn idle(&self) -> usize {
        self.shared.counters().idle.load(SeqCst)
    }

    fn failures(&self, kind: &str) -> u64 {
        self.shared.counters().failures().find(|(k, _)| *k == kind).unwrap().1
    }
}

async fn whole(response: Response<Body>) -> Result<Collected, BodyError> {
    collect(response.into_body(), None, u64::MAX).await
}

/// A body that a test feeds by hand.
#[derive(Debug)]
struct Fed(mpsc::Receiver<Result<Frame<Bytes>, BodyError>>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx)
    }
}

fn fed() -> (mpsc::Sender<Result<Frame<Bytes>, BodyError>>, Body) {
    let (feed, frames) = mpsc::channel(4);
    (feed, Body::wrap(Fed(frames)))
}

fn data(bytes: impl Into<Bytes>) -> Result<Frame<Bytes>, BodyError> {
    Ok(Frame::data(bytes.into()))
}

#[test]
fn connection_serves_one_request_after_another() {
    on_core(async {
        let upstream = scripted(|number, mut tcp| async move {
            for request in 0.. {
                let head = read_head(&mut tcp).await;
                if head.is_empty() {
                    return;
                }
                assert!(head.contains("host: service.test\r\n") && !head.contains("expect"), "{head}");
                let body = format!("{number}.{request}");
                answer(&mut tcp, &format!("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nkeep-alive: 5\r\n\r\n{body}")).await;
            }
        })
        .await;
        let client = Client::new(&upstream);
        for n in 0..5 {
            assert_eq!(client.text(get("/")).await, format!("0.{n}"));
            assert_eq!(client.idle(), 1);
        }
        let mut expecting = get("/");
        expecting.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
        let response = client.send(expecting).await.unwrap();
        assert!(!response.headers().contains_key("keep-alive"));
        assert!(matches!(response.into_body(), Body::Full(_)), "a small answer is there at once");
        assert_eq!(client.opened(), 1);
        assert_eq!(client.shared.counters().reused.load(SeqCst), 5);
    });
}

#[test]
fn answers_without_body_give_the_connection_back() {
    on_core(async {
        let upstream = scripted(|_, mut tcp| async move {
            while !read_head(&mut tcp).await.is_empty() {
                answer(&mut tcp, "HTTP/1.1 204 No Content\r\n\r\n").await;
            }
        })
        .await;
        let client = Client::new(&upstream);
        for _ in 0..3 {
            let response = client.send(get("/")).await.unwrap();
            assert!(matches!(response.into_body(), Body::Empty));
            assert_eq!(client.idle(), 1);
        }
        assert_eq!(client.opened(), 1);
    });
}

#[test]
fn close_between_requests_is_retried_once() {
    on_core(async {
        // The first connection reads its second request and then closes without a word.
        let upstream = scripted(|number, mut tcp| async move {
            read_head(&mut tcp).await;
            answer(&mut tcp, &format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}")).await;
            read_head(&mut tcp).await;
        })
        .await;
        let client = Client::new(&upstream);
        assert_eq!(client.text(get("/")).await, "0");
        assert_eq!(client.text(get("/")).await, "1");
        assert_eq!(client.shared.counters().retries.load(SeqCst), 1);
        let again = request(Method::PUT, "/", Body::full("whole"));
        assert_eq!(client.text(again).await, "2");
        let error = client.send(request(Method::POST, "/", Body::Empty)).await.unwrap_err();
        assert_eq!(error.kind(), "closed", "a POST may have been acted on");
        assert_eq!(client.failures("closed"), 1);
        assert_eq!(client.idle(), 0);
    });
}

#[test]
fn closed_idle_connection_is_not_used() {
    on_core(async {
        let (closed, mut is_closed) = mpsc::unbounded_channel();
        let upstream = scripted(move |number, mut tcp| {
            let closed = closed.clone();
            async move {
                read_head(&mut tcp).await;
                answer(&mut tcp, &format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}")).await;
                drop(tcp);
                closed.send(()).unwrap();
            }
        })
        .await;
        let client = Client::new(&upstream);
        for n in 0..3 {
            let post = request(Method::POST, "/", Body::full("x"));
            assert_eq!(client.text(post).await, n.to_string());
            is_closed.recv().await.unwrap();
            // Waiting for another socket makes the runtime see what happened to this one.
            let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
            TcpStream::connect(other.local_addr().unwrap()).await.unwrap();
        }
        assert_eq!(client.shared.counters().retries.load(SeqCst), 0);
    });
}

#[test]
fn close_within_a_body_is_an_error_and_the_connection_is_gone() {
    on_core(async {
        let upstream = scripted(|_, mut tcp| async move {
            read_head(&mut tcp).await;
            answer(&mut tcp, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        })
        .await;
        let client = Client::new(&upstream);
        let response = client.send(get("/")).await.unwrap();
        assert!(matches!(whole(response).await, Err(BodyError::Connection(_))));
        assert_eq!(client.idle(), 0);
        assert_eq!(client.shared.counters().open.load(SeqCst), 0);
    });
}

#[test]
fn body_dropped_half_way_closes_the_connection() {
    on_core(async {
        let (gone, mut is_gone) = mpsc::unbounded_channel();
        let upstream = scripted(move |_, mut tcp| {
            let gone = gone.clone();
            async move {
                read_head(&mut tcp).await;
                answer(&mut tcp, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
                gone.send(read_head(&mut tcp).await).unwrap();
            }
        })
        .await;
        let client = Client::new(&upstream);
        drop(client.send(get("/")).await.unwrap());
        assert_eq!(is_gone.recv().await.unwrap(), "");
        assert_eq!(client.idle(), 0);
    });
}

#[test]
fn late_answers_and_late_bodies_time_out() {
    on_core(async {
        let mut upstream = scripted(|number, mut tcp| async move {
            read_head(&mut tcp).await;
            if number == 1 {
                answer(&mut tcp, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
            }
            read_head(&mut tcp).await;
        })
        .await;
        upstream.reply_timeout = Duration::from_millis(50);
        upstream.idle_timeout = Duration::from_millis(50);
        let client = Client::new(&upstream);
        let error = client.send(get("/")).await.unwrap_err();
        assert_eq!(error.kind(), "reply_timeout");
        let response = client.send(get("/")).await.unwrap();
        assert!(matches!(whole(response).await, Err(BodyError::Timeout)));
        assert_eq!(client.shared.counters().open.load(SeqCst), 0);
    });
}

#[test]
fn reply_timeout_does_not_count_while_the_caller_is_slow() {
    on_core(async {
        let mut upstream = scripted(|_, mut tcp| async move {
            read_head(&mut tcp).await;
            let mut body = String::new();
            while !body.ends_with("0\r\n\r\n") {
                body.push(char::from(tcp.read_u8().await.unwrap()));
            }
            answer(&mut tcp, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        })
        .await;
        upstream.reply_timeout = Duration::from_millis(300);
        let client = Client::new(&upstream);
        let (feed, body) = fed();
        let slow = async move {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(150)).await;
                feed.send(data("x")).await.unwrap();
            }
        };
        let (text, ()) = tokio::join!(client.text(request(Method::POST, "/", body)), slow);
        assert_eq!(text, "ok");
    });
}

#[test]
fn refused_connection_and_unknown_name_are_told_apart() {
    on_core(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut upstream = upstream(listener.local_addr().unwrap().port());
        drop(listener);
        let error = Client::new(&upstream).send(get("/")).await.unwrap_err();
        assert_eq!(error.kind(), "connect");
        upstream.origin.host = "no such name".into();
        let error = Client::new(&upstream).send(get("/")).await.unwrap_err();
        assert_eq!(error.kind(), "resolve");
    });
}

#[test]
fn what_is_not_http_is_a_protocol_error() {
    on_core(async {
        let upstream = scripted(|_, mut tcp| async move {
            read_head(&mut tcp).await;
            answer(&mut tcp, "220 smtp.test ready\r\n\r\n").await;
        })
        .await;
        let error = Client::new(&upstream).send(get("/")).await.unwrap_err();
        assert_eq!(error.kind(), "protocol");
    });
}

// limit: upstream::h1::HEAD_BYTES_MAX
#[test]
fn an_answer_has_a_head_of_so_many_bytes() {
    on_core(async {
        let upstream = scripted(|number, mut tcp| async move {
            read_head(&mut tcp).await;
            let (start, end) = ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\na: ", "\r\n\r\n");
            // One byte more on the second connection.
            let value = "b".repeat((64 << 10) - start.len() - end.len() + number);
            let _ = tcp.write_all(format!("{start}{value}{end}").as_bytes()).await;
        })
        .await;
        let client = Client::new(&upstream);
        assert_eq!(client.send(get("/")).await.unwrap().status(), StatusCode::OK);
        let other = Client::new(&upstream);
        assert_eq!(other.send(get("/")).await.unwrap_err().kind(), "protocol");
        assert_eq!(other.failures("protocol"), 1);
    });
}

#[test]
fn heads_that_are_too_large_are_refused() {
    on_core(async {
        let upstream = scripted(|number, mut tcp| async move {
            read_head(&mut tcp).await;
            let fields = match number {
                0 => "a: b\r\n".repeat(101),
                _ => format!("a: {}\r\n", "b".repeat(70_000)),
            };
            let _ = tcp.write_all(format!("HTTP/1.1 200 OK\r\n{fields}content-length: 0\r\n\r\n").as_bytes()).await;
        })
        .await;
        let client = Client::new(&upstream);
        for _ in 0..2 {
            assert_eq!(client.send(get("/")).await.unwrap_err().kind(), "protocol");
        }
    });
}

#[test]
fn chunks_and_trailers_pass_and_the_connection_is_kept() {
    on_core(async {
        let upstream = scripted(|_, mut tcp| async move {
            while !read_head(&mut tcp).await.is_empty() {
                answer(&mut tcp, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n").await;
                answer(&mut tcp, "3\r\nabc\r\n4\r\ndefg\r\n").await;
                answer(&mut tcp, "0\r\nx-sum: 7\r\n\r\n").await;
            }
        })
        .await;
        let client = Client::new(&upstream);
        for _ in 0..3 {
            let response = client.send(get("/")).await.unwrap();
            assert!(!response.headers().contains_key("transfer-encoding"));
            let Collected { bytes, trailers } = whole(response).await.unwrap();
            assert_eq!(bytes, "abcdefg");
            assert_eq!(trailers.unwrap()["x-sum"], "7");
        }
        assert_eq!((client.opened(), client.idle()), (1, 1));
    });
}

/// Reads a request: its head, and its body in chunks if it says so.
async fn read_request(tcp: &mut TcpStream) -> (String, String) {
    let (head, mut body) = (read_head(tcp).await, String::new());
    while head.contains("transfer-encoding: chunked\r\n") && !body.ends_with("0\r\n\r\n") {
        body.push(char::from(tcp.read_u8().await.unwrap()));
    }
    (head, body)
}

#[test]
fn body_of_unknown_length_arrives_whatever_the_method() {
    on_core(async {
        let (seen, mut requests) = mpsc::unbounded_channel();
        let upstream = scripted(move |_, mut tcp| {
            let seen = seen.clone();
            async move {
                seen.send(read_request(&mut tcp).await).unwrap();
                answer(&mut tcp, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            }
        })
        .await;
        let client = Client::new(&upstream);
        for method in [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS, Method::POST] {
            let (feed, body) = fed();
            feed.send(data("abc")).await.unwrap();
            drop(feed);
            client.send(request(method.clone(), "/", body)).await.unwrap();
            let (head, body) = requests.recv().await.unwrap();
            assert_eq!(body, "3\r\nabc\r\n0\r\n\r\n", "{method}: {head}");
            let full = request(method.clone(), "/", Body::full("abc"));
            client.send(full).await.unwrap();
            let (head, _) = requests.recv().await.unwrap();
            assert!(head.contains("content-length: 3\r\n"), "{method}: {head}");
        }
        client.send(get("/")).await.unwrap();
        let (head, _) = requests.recv().await.unwrap();
        assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{head}");
    });
}

/// On such a connection hyper says HTTP/1.0 itself from then on, and drops what would need chunks.
#[test]
fn connection_to_a_server_that_answers_as_http_10_is_not_used_again() {
    on_core(async {
        let (seen, mut requests) = mpsc::unbounded_channel();
        let upstream = scripted(move |number, mut tcp| {
            let seen = seen.clone();
            async move {
                loop {
                    let (head, body) = read_request(&mut tcp).await;
                    if head.is_empty() {
                        return;
                    }
                    seen.send((head, body)).unwrap();
                    let head = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1";
                    answer(&mut tcp, &format!("{head}\r\n\r\n{number}")).await;
                }
            }
        })
        .await;
        let client = Client::new(&upstream);
        assert_eq!(client.text(get("/")).await, "0");
        assert!(requests.recv().await.unwrap().0.starts_with("GET / HTTP/1.1\r\n"));
        assert_eq!(client.idle(), 0);

        let (feed, body) = fed();
        feed.send(data("abc")).await.unwrap();
        drop(feed);
        assert_eq!(client.text(request(Method::POST, "/", body)).await, "1");
        let (head, body) = requests.recv().await.unwrap();
        assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
        assert_eq!(body, "3\r\nabc\r\n0\r\n\r\n");
    });
}

#[test]
fn answer_before_the_end_of_the_request_body_arrives() {
    on_core(async {
        let upstream = scripted(|_, mut tcp| async move {
            read_head(&mut tcp).await;
            answer(&mut tcp, "HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nno!").await;
            read_head(&mut tcp).await;
        })
        .await;
        let client = Client::new(&upstream);
        let (feed, body) = fed();
        feed.send(data("begin")).await.unwrap();
        let response = client.send(request(Method::POST, "/", body)).await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(whole(response).await.unwrap().bytes, "no!");
        assert_eq!(client.idle(), 0, "half a request is still on the connection");
    });
}

/// The writes after the close fail before anybody looks whether there is something to read.
#[test]
fn answer_of_an_upstream_that_closes_with_the_upload_unread_arrives() {
    on_core(async {
        let upstream = scripted(|_, mut tcp| async move {
            read_head(&mut tcp).await;
            answer(&mut tcp, "HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno!").await;
        })
        .await;
        let client = Client::new(&upstream);
        for _ in 0..50 {
            let body = Body::full(vec![b'x'; 5 << 20]);
            let response = client.send(request(Method::POST, "/", body)).await.unwrap();
            assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
            assert_eq!(whole(response).await.unwrap().bytes, "no!");
        }
        assert_eq!(client.shared.counters().open.load(SeqCst), 0);
    });
}

#[test]
fn upstream_that_closes_without_an_answer_is_closed_whatever_is_left_to_send() {
    on_core(async {
        let upstream = scripted(|_, mut tcp| async move { drop(read_head(&mut tcp).await) }).await;
        let client = Client::new(&upstream);
        for _ in 0..50 {
            let body = Body::full(vec![b'x'; 5 << 20]);
            let error = client.send(request(Method::POST, "/", body)).await.unwrap_err();
            assert_eq!(error.kind(), "closed");
        }
    });
}

#[test]
fn large_bodies_stream_both_ways_at_once() {
    on_core(async {
        let upstream = scripted(|_, mut tcp| async move {
            read_head(&mut tcp).await;
            let length = 8 << 20;
            answer(&mut tcp, &format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")).await;
            let (from, mut to) = tcp.split();
            tokio::io::copy(&mut from.take(length), &mut to).await.unwrap();
            read_head(&mut tcp).await;
        })
        .await;
        let client = Client::new(&upstream);
        let (feed, body) = fed();
        let mut echo = request(Method::POST, "/", body);
        echo.headers_mut().insert("content-length", HeaderValue::from_static("8388608"));
        let feeding = async move {
            for n in 0..128 {
                feed.send(data(vec![n; 65536])).await.unwrap();
            }
        };
        let reading = async { whole(client.send(echo).await.unwrap()).await.unwrap().bytes };
        let (bytes, ()) = tokio::join!(reading, feeding);
        assert_eq!(bytes.len(), 8 << 20);
        assert!(bytes.chunks(65536).zip(0..).all(|(chunk, n)| chunk.iter().all(|b| *b == n)));
        assert_eq!(client.idle(), 1);
    });
}

#[test]
fn failure_of_the_request_body_is_told_as_such() {
    on_core(async {
        let upstream = scripted(|_, mut tcp| async move {
            read_head(&mut tcp).await;
            read_head(&mut tcp).await;
        })
        .await;
        let client = Client::new(&upstream);
        let (feed, body) = fed();
        feed.send(data("begin")).await.unwrap();
        feed.send(Err(BodyError::TooLarge { bytes_max: 5 })).await.unwrap();
        let error = client.send(request(Method::POST, "/", body)).await.unwrap_err();
        assert!(matches!(error, UpstreamError::RequestBody(BodyError::TooLarge { bytes_max: 5 })), "{error}");
    });
}

#[test]
fn connections_have_a_limit_over_all_cores() {
    on_core(async {
        let mut upstream = scripted(|_, mut tcp| async move {
            while !read_head(&mut tcp).await.is_empty() {
                answer(&mut tcp, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n12").await;
                tcp.read_u8().await.ok();
            }
        })
        .await;
        upstream.connections_max = 2;
        let client = Client::new(&upstream);
        let other_core = Upstreams::new(Arc::clone(&client.shared));
        let first = client.send(get("/")).await.unwrap();
        let second = other_core.send(&client.target, get("/")).await.unwrap();
        let error = client.send(get("/")).await.unwrap_err();
        assert_eq!(error.kind(), "busy");
        drop(first);
        other_core.send(&client.target, get("/")).await.unwrap();
        drop(second);
    });
}

// limit: apis[].upstream.idle_connections_max counts: opened
#[test]
fn so_many_connections_are_kept_over_all_cores() {
    on_core(async {
        for (idle_connections_max, opened) in [(2, 2), (1, 3)] {
            let mut upstream = scripted(|_, mut tcp| async move {
                while !read_head(&mut tcp).await.is_empty() {
                    answer(&mut tcp, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx").await;
                }
            })
            .await;
            upstream.idle_connections_max = idle_connections_max;
            let client = Client::new(&upstream);
            let other_core = Upstreams::new(Arc::clone(&client.shared));
            assert_eq!(client.text(get("/")).await, "x");
            for _ in 0..2 {
                let response = other_core.send(&client.target, get("/")).await.unwrap();
                assert_eq!(whole(response).await.unwrap().bytes, "x");
            }

            assert_eq!(client.opened(), opened, "{idle_connections_max}");
        }
    });
}

#[test]
fn idle_connections_of_one_core_do_not_lock_out_another() {
    on_core(async {
        let mut upstream = scripted(|number, mut tcp| async move {
            while !read_head(&mut tcp).await.is_empty() {
                answer(&mut tcp, &format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}")).await;
            }
        })
        .await;
        upstream.connections_max = 1;
        upstream.idle_connections_max = 1;
        let client = Client::new(&upstream);
        let other_core = Upstreams::new(Arc::clone(&client.shared));
        assert_eq!(client.text(get("/")).await, "0");
        let response = other_core.send(&client.target, get("/")).await.unwrap();
        assert_eq!(whole(response).await.unwrap().bytes, "1");
        assert_eq!(client.idle(), 1, "one may be idle, over all cores");
        assert_eq!(client.text(get("/")).await, "0");
    });
}

#[test]
fn targets_that_nobody_reaches_are_forgotten() {
    on_core(async {
        let upstream = upstream(9);
        let client = Client::new(&upstream);
        for port in 1..=20 {
            let origin = Origin { port, ..upstream.origin.clone() };
            let target = Arc::new(client.target.with_origin(origin).within(Reach::Public));
            let error = client.upstreams.send(&target, get("/")).await.unwrap_err();
            assert_eq!(error.kind(), "address");
        }
        assert_eq!(client.upstreams.pool.swept(), Some((20, 0)));
        assert_eq!(client.opened(), 0);
    });
}

#[test]
fn old_idle_connections_are_closed() {
    on_core(async {
        let mut upstream = scripted(|number, mut tcp| async move {
            while !read_head(&mut tcp).await.is_empty() {
                answer(&mut tcp, &format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}")).await;
            }
        })
        .await;
        upstream.idle_connection_timeout = Duration::ZERO;
        let client = Client::new(&upstream);
        assert_eq!(client.text(get("/")).await, "0");
        assert_eq!(client.text(get("/")).await, "1");
    });
}

#[test]
fn another_origin_keeps_settings_and_limits() {
    on_core(async {
        let upstream = scripted(|_, mut tcp| async move {
            while !read_head(&mut tcp).await.is_empty() {
                answer(&mut tcp, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx").await;
            }
        })
        .await;
        let mut client = Client::new(&self::upstream(1));
        for _ in 0..3 {
            client.target = Arc::new(client.target.with_origin(upstream.origin.clone()));
            assert_eq!(client.text(get("/")).await, "x");
        }
        assert_eq!(client.opened(), 1, "connections are found by origin");
    });
}

#[test]
fn cookies_split_by_http2_are_joined_for_http1() {
    on_core(async {
        let upstream = scripted(|_, mut tcp| async move {
            let head = read_head(&mut tcp).await;
            assert!(head.contains("cookie: a=1; b=2\r\n"), "{head}");
            answer(&mut tcp, "HTTP/1.1 204 No Content\r\n\r\n").await;
        })
        .await;
        let mut request = get("/");
        *request.version_mut() = http::Version::HTTP_2;
        request.headers_mut().append("cookie", HeaderValue::from_static("a=1"));
        request.headers_mut().append("cookie", HeaderValue::from_static("b=2"));
        Client::new(&upstream).send(request).await.unwrap();
    });
}

#[test]
fn upgraded_connections_are_spliced() {
    on_core(async {
        let upstream = scripted(|number, mut tcp| async move {
            let head = read_head(&mut tcp).await;
            assert!(head.contains("upgrade: echo\r\n") && head.contains("connection: upgrade\r\n"), "{head}");
            if number == 1 {
                answer(&mut tcp, "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno").await;
                return;
            }
            answer(&mut tcp, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhi ")
                .await;
            let (mut from, mut to) = tcp.split();
            tokio::io::copy(&mut from, &mut to).await.unwrap();
            to.write_all(b" bye").await.unwrap();
        })
        .await;
        let client = Rc::new(Client::new(&upstream));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gateway = Rc::clone(&client);
        tokio::task::spawn_local(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let service = service_fn(move |mut request: Request<Incoming>| {
                let gateway = Rc::clone(&gateway);
                async move {
                    let caller = hyper::upgrade::on(&mut request);
                    let mut request = request.map(Body::Incoming);
                    hop::strip_but_upgrade(request.headers_mut());
                    let (response, upgrade) = gateway.upstreams.send_upgrade(&gateway.target, request).await.unwrap();
                    tokio::task::spawn_local(async move {
                        let (caller, upstream) = tokio::join!(caller, upgrade.unwrap());
                        splice(caller.unwrap(), upstream.unwrap(), Duration::from_secs(5)).await;
                    });
                    Ok::<_, UpstreamError>(response)
                }
            });
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
            served.with_upgrades().await.unwrap();
        });
        let mut caller = TcpStream::connect(address).await.unwrap();
        answer(&mut caller, "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
        let head = read_head(&mut caller).await;
        assert!(head.starts_with("HTTP/1.1 101") && head.contains("upgrade: echo"), "{head}");
        answer(&mut caller, "hello").await;
        caller.shutdown().await.unwrap();
        let mut rest = String::new();
        caller.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "hi hello bye");

        let mut refused = get("/");
        refused.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
        refused.headers_mut().insert("upgrade", HeaderValue::from_static("echo"));
        let (response, upgrade) = client.upstreams.send_upgrade(&client.target, refused).await.unwrap();
        assert!(upgrade.is_none());
        assert_eq!(whole(response).await.unwrap().bytes, "no");
    });
}

/// Answers over HTTP/2 with what it got, and a trailer.
async fn echo_h2(io: impl AsyncRead + AsyncWrite + Unpin + 'static) {
    let service = service_fn(move |request: Request<Incoming>| async move {
        assert!(!request.headers().contains_key("host"));
        let uri = request.uri().to_string();
        let (feed, body) = fed();
        tokio::task::spawn_local(async move {
            feed.send(data(uri)).await.ok();
            let mut incoming = Body::Incoming(request.into_body());
            while let Some(frame) =
                std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut incoming), cx)).await
            {
                feed.send(frame).await.ok();
            }
            let trailers =
                HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
            feed.send(Ok(Frame::trailers(trailers))).await.ok();
        });
        Ok::<_, BodyError>(Response::new(body))
    });
    hyper::server::conn::http2::Builder::new(OnCore).serve_connection(TokioIo::new(io), service).await.ok();
}

#[derive(Clone, Copy)]
struct OnCore;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnCore {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move { drop(task.await) });
    }
}

#[test]
fn http2_requests_share_a_connection_and_carry_trailers_both_ways() {
    on_core(async {
        let mut upstream = scripted(|_, tcp| echo_h2(tcp)).await;
        upstream.protocol = UpstreamProtocol::Http2;
        let client = Client::new(&upstream);
        let (feed, body) = fed();
        let mut streamed = client.send(request(Method::POST, "/a?b=c", body)).await.unwrap().into_body();
        // The answer's first frame comes while the request is still open.
        let frame = std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut streamed), cx)).await;
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), "http://service.test/a?b=c");
        let others = (0..20).map(|_| client.text(get("/x")));
        for text in futures_util::future::join_all(others).await {
            assert_eq!(text, "http://service.test/x");
        }
        assert_eq!(client.opened(), 1);
        feed.send(data("more")).await.unwrap();
        let sent = HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("t"))]);
        feed.send(Ok(Frame::trailers(sent))).await.unwrap();
        drop(feed);
        let Collected { bytes, trailers } = collect(streamed, None, 100).await.unwrap();
        assert_eq!(bytes, "more");
        assert_eq!(trailers.unwrap()["etag"], "t", "trailers came back");
        let trailers = whole(client.send(get("/")).await.unwrap()).await.unwrap().trailers;
        assert_eq!(trailers.unwrap()["grpc-status"], "0");
        assert_eq!((client.opened(), client.idle()), (1, 1));
    });
}

#[test]
fn further_http2_connections_are_opened_above_a_hundred_requests() {
    on_core(async {
        let mut upstream = scripted(|_, tcp| echo_h2(tcp)).await;
        upstream.protocol = UpstreamProtocol::Http2;
        let client = Client::new(&upstream);
        let mut open = Vec::new();
        for _ in 0..101 {
            let (feed, body) = fed();
            open.push((feed, client.send(request(Method::POST, "/", body)).await.unwrap()));
        }
        assert_eq!(client.opened(), 2);
    });
}

#[test]
fn closed_http2_connection_is_replaced() {
    on_core(async {
        let close = Rc::new(Notify::new());
        let closing = Rc::clone(&close);
        let mut upstream = scripted(move |_, tcp| {
            let closing = Rc::clone(&closing);
            async move {
                tokio::select! {
                    () = echo_h2(tcp) => {}
                    () = closing.notified() => {}
                }
            }
        })
        .await;
        upstream.protocol = UpstreamProtocol::Http2;
        let client = Client::new(&upstream);
        assert_eq!(client.text(get("/1")).await, "http://service.test/1");
        close.notify_waiters();
        while client.shared.counters().open.load(SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(client.text(get("/2")).await, "http://service.test/2");
        assert_eq!(client.opened(), 2);
    });
}

/// A server certificate for `name` by an authority of its own, and that authority in a file.
fn certificate(name: &str) -> (Arc<rustls::ServerConfig>, std::path::PathBuf) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let cert = params.signed_by(&key, &rcgen::Issuer::from_params(&ca, &ca_key)).unwrap();
    let file = std::env::temp_dir().join(format!("stile-upstream-{}-{name}.pem", std::process::id()));
    std::fs::write(&file, ca_cert.pem()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (Arc::new(config), file)
}

async fn tls_upstream(name: &'static str, server_alpn: &'static [&'static [u8]]) -> Upstream {
    let (config, ca_file) = certificate(name);
    let mut config = (*config).clone();
    config.alpn_protocols = server_alpn.iter().map(|p| p.to_vec()).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let mut upstream = scripted(move |_, tcp| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut tls) = acceptor.accept(tcp).await else { return };
            if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                return echo_h2(tls).await;
            }
            while !read_head(&mut tls).await.is_empty() {
                answer(&mut tls, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nh1").await;
            }
        }
    })
    .await;
    upstream.origin.tls = true;
    upstream.tls = UpstreamTls { ca_file: Some(ca_file), server_name: Some(name.to_owned()) };
    upstream
}

#[test]
fn tls_negotiates_http2_or_http1() {
    on_core(async {
        let upstream = tls_upstream("h2.upstream.test", &[b"h2", b"http/1.1"]).await;
        let client = Client::new(&upstream);
        let all = futures_util::future::join_all((0..10).map(|_| client.text(get("/t")))).await;
        assert!(all.iter().all(|text| text == "https://service.test/t"), "{all:?}");
        assert_eq!(client.opened(), 1, "those who come together wait for one connection");

        let upstream = tls_upstream("h1.upstream.test", &[]).await;
        let client = Client::new(&upstream);
        for _ in 0..2 {
            assert_eq!(client.text(get("/t")).await, "h1");
        }
        assert_eq!(client.opened(), 1);
    });
}

#[test]
fn protocol_of_tls_connections_can_be_fixed() {
    on_core(async {
        let mut upstream = tls_upstream("fixed.upstream.test", &[b"h2", b"http/1.1"]).await;
        upstream.protocol = UpstreamProtocol::Http1;
        assert_eq!(Client::new(&upstream).text(get("/")).await, "h1");
        let mut upstream = tls_upstream("fixed1.upstream.test", &[]).await;
        upstream.protocol = UpstreamProtocol::Http2;
        assert_eq!(Client::new(&upstream).send(get("/")).await.unwrap_err().kind(), "tls");
    });
}

#[test]
fn certificate_for_another_name_is_refused() {
    on_core(async {
        let mut upstream = tls_upstream("right.upstream.test", &[]).await;
        upstream.tls.server_name = Some("wrong.upstream.test".to_owned());
        let client = Client::new(&upstream);
        assert_eq!(client.send(get("/")).await.unwrap_err().kind(), "tls");
        assert_eq!(client.failures("tls"), 1);
    });
}

#[test]
fn authorities_that_cannot_be_read_are_a_load_error() {
    let mut upstream = upstream(1);
    upstream.tls.ca_file = Some("/nonexistent/ca.pem".into());
    assert!(matches!(Target::new(&upstream), Err(TargetError::Tls(TlsError::Read { .. }))));
}
