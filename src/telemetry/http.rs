//! The HTTP endpoint: `/metrics`, `/livez` and `/readyz`.
//!
//! One small page per connection, bounded in number and time; it knows nothing of the system but
//! the closure that makes a `Snapshot`.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::render;
use super::snapshot::Snapshot;

/// Makes a `Snapshot` of the running system; called once per request, so it must not block.
pub type Source = Arc<dyn Fn() -> Snapshot + Send + Sync>;

/// Answers on `listener` until the future is dropped; connections end with it.
///
/// Never returns of itself: an `accept` that fails for want of descriptors is tried again.
pub async fn serve(listener: TcpListener, source: Source) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(answer(stream, Arc::clone(&source)));
                }
                Err(error) => pause(&error).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection on the metrics address");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn answer(stream: TcpStream, source: Source) {
    let service = service_fn(move |request: Request<Incoming>| {
        let page = route(request.method(), request.uri().path(), &source);
        async move { Ok::<_, Infallible>(page) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the metrics address failed"),
        Err(_) => tracing::debug!("a connection to the metrics address took too long"),
    }
}

fn route(method: &Method, path: &str, source: &Source) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    }
    match path {
        "/metrics" => text(StatusCode::OK, render::page(&source())),
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match source().unready() {
            None => text(StatusCode::OK, "ok\n"),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /livez and /readyz\n"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}

/// Connections served at once; more wait in the listen queue.
const MAX_CONNECTIONS: usize = 16;

/// How long a request's head may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection may take in all.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait when no connection can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Largest request head; hyper takes no less than 8 KiB.
const MAX_HEADER_BYTES: usize = 8192;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::snapshot::Phase;
    use super::super::snapshot::tests::{cluster, empty};
    use super::*;

    async fn serving(snapshot: Snapshot) -> (JoinSet<Infallible>, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::new(move || snapshot.clone())));
        (tasks, address)
    }

    async fn request(address: std::net::SocketAddr, line: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn pages_answer() {
        let (_tasks, address) = serving(empty()).await;
        for (line, status, body) in [
            ("GET /livez", "200 OK", "ok\n"),
            ("GET /readyz", "200 OK", "ok\n"),
            ("GET /metrics", "200 OK", "\nhowdah_build_info{version=\"1.2.3\"} 1\n"),
            ("GET /", "404 Not Found", "there are"),
            ("POST /metrics", "405 Method Not Allowed", "only GET"),
        ] {
            let answer = request(address, line).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{line}: {answer}");
            assert!(answer.contains(body), "{line}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_process_that_cannot_serve_is_alive_but_not_ready() {
        let mut snapshot = empty();
        snapshot.clusters.push(cluster(None));
        let (_tasks, address) = serving(snapshot.clone()).await;
        let answer = request(address, "GET /readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.ends_with("no primary is known in: main\n"), "{answer}");
        assert!(request(address, "GET /livez").await.starts_with("HTTP/1.1 200 "));

        snapshot.phase = Phase::ShuttingDown;
        let (_tasks, address) = serving(snapshot).await;
        assert!(request(address, "GET /readyz").await.ends_with("shutting down\n"));
    }

    #[tokio::test]
    async fn silent_connections_do_not_keep_others_out_for_long() {
        let (_tasks, address) = serving(empty()).await;
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let patience = HEADER_TIMEOUT + Duration::from_secs(5);
        let answer = tokio::time::timeout(patience, request(address, "GET /livez")).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}
