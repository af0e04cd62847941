//! The HTTP server under both of this crate's binaries.
//!
//! It differs from an ordinary one in two ways. A handler knows which connection a request came on, and it may
//! answer [`HangUp`], which resets that connection instead of answering: that is how a failing network looks to a
//! client. It listens on loopback alone, always.

use std::{future::Future, io, net::SocketAddr, pin::Pin, process::ExitCode};

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::StatusCode;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The largest request body that either server reads.
pub const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How long a request that is made to hang is held before its connection is reset after all.
pub const HANG_SECONDS_MAX: u64 = 300;

/// The two ends of the TCP connection that a request came on.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// The client's end.
    pub peer: SocketAddr,
    /// The server's end.
    pub local: SocketAddr,
}

/// Instead of an answer: reset the connection.
#[derive(Clone, Copy, Debug)]
pub struct HangUp;

impl std::fmt::Display for HangUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hung up on purpose")
    }
}

impl std::error::Error for HangUp {}

/// Binds `address`, which has to be on loopback.
///
/// # Errors
/// When the address is not on loopback or cannot be bound.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        let why = format!("{address} is not on loopback; use 127.0.0.1:PORT");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    TcpListener::bind(address).await.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// Serves every connection of `listener` with `handler`, for ever.
pub async fn serve<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(Request, Connection) -> F + Clone + Send + Sync + Unpin + 'static,
    F: Future<Output = Result<Response, HangUp>> + Send + 'static,
{
    serve_with(listener, None, handler).await;
}

/// The same, and speaks TLS with whoever begins to.
pub async fn serve_with<H, F>(listener: TcpListener, tls: Option<TlsAcceptor>, handler: H)
where
    H: Fn(Request, Connection) -> F + Clone + Send + Sync + Unpin + 'static,
    F: Future<Output = Result<Response, HangUp>> + Send + 'static,
{
    loop {
        // Accepting fails when descriptors run out; what is in flight has to end before it can succeed again.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::spawn(serve_connection(stream, tls.clone(), handler.clone()));
    }
}

/// One connection, until either side ends it. A connection that breaks concerns its client alone.
async fn serve_connection<H, F>(stream: TcpStream, tls: Option<TlsAcceptor>, handler: H)
where
    H: Fn(Request, Connection) -> F + Clone + Send + Sync + Unpin + 'static,
    F: Future<Output = Result<Response, HangUp>> + Send + 'static,
{
    let (Ok(peer), Ok(local), Ok(())) = (stream.peer_addr(), stream.local_addr(), stream.set_nodelay(true)) else {
        return;
    };
    let ends = Connection { peer, local };
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answer = handler(request.map(Body::new), ends);
        Box::pin(answer) as Pin<Box<dyn Future<Output = Result<Response, HangUp>> + Send>>
    });
    if let Some(tls) = tls
        && begins_with_tls(&stream).await
    {
        if let Ok(stream) = tls.accept(stream).await {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        }
        return;
    }
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A shutdown would end the stream politely; a hang-up has to reach the client as a reset.
    let served = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let stream = connection.into_parts().io.into_inner();
    if served.is_err() {
        let _ = stream.set_zero_linger();
    }
}

/// Whether the client begins with a handshake of TLS, which no method of HTTP looks like.
async fn begins_with_tls(stream: &TcpStream) -> bool {
    const HANDSHAKE: u8 = 22;
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first == [HANDSHAKE]
}

/// Holds a request until its client gives up (which drops this future), but not for ever.
pub(crate) async fn hang() -> HangUp {
    tokio::time::sleep(std::time::Duration::from_secs(HANG_SECONDS_MAX)).await;
    HangUp
}

/// The whole body of a request; a body that is too large or breaks off ends the connection.
pub(crate) async fn read(body: Body) -> Result<Bytes, HangUp> {
    axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| HangUp)
}

/// A control request that makes no sense: told in words, since a person wrote it.
pub(crate) fn bad_request(why: impl std::fmt::Display) -> Response {
    (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response()
}

/// JSON that is either one value or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    pub(crate) fn into_vec(self) -> Vec<T> {
        match self {
            Self::Many(many) => many,
            Self::One(one) => vec![one],
        }
    }
}

/// What a binary of this crate does: takes the addresses that follow the named options on its command line, binds the
/// first and serves there. Ends only with an error, told in words.
pub async fn run<const N: usize, F: Future<Output = ()>>(
    names: [&str; N],
    serve: impl FnOnce(TcpListener, [SocketAddr; N]) -> F,
) -> ExitCode {
    let bound = async {
        let addresses = arguments(names, std::env::args().skip(1))?;
        Ok::<_, io::Error>((bind(addresses[0]).await?, addresses))
    };
    match bound.await {
        Ok((listener, addresses)) => serve(listener, addresses).await,
        Err(error) => eprintln!("{error}"),
    }
    ExitCode::FAILURE
}

/// Each option has to be there, and nothing else may.
fn arguments<const N: usize>(names: [&str; N], mut given: impl Iterator<Item = String>) -> io::Result<[SocketAddr; N]> {
    let usage = || {
        let options: Vec<String> = names.iter().map(|name| format!("{name} ADDRESS:PORT")).collect();
        io::Error::new(io::ErrorKind::InvalidInput, format!("usage: {}", options.join(" ")))
    };
    let mut found = [None; N];
    while let Some(name) = given.next() {
        let place = names.iter().position(|known| **known == name).ok_or_else(usage)?;
        found[place] = given.next().and_then(|address| address.parse().ok());
    }
    if found.contains(&None) {
        return Err(usage());
    }
    Ok(found.map(|address| address.expect("none is missing, as was just checked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_listens_beyond_loopback() {
        for outside in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
            let refused = bind(outside.parse().unwrap()).await.unwrap_err();
            assert!(refused.to_string().contains("not on loopback"), "{outside}: {refused}");
        }
        assert!(bind("127.0.0.1:0".parse().unwrap()).await.is_ok());
    }

    #[test]
    fn a_command_line_has_exactly_the_options_it_should() {
        let parse = |line: &str| arguments(["--listen", "--upstream"], line.split_whitespace().map(str::to_owned));
        let [listen, upstream] = parse("--upstream 127.0.0.1:2 --listen 127.0.0.1:1").unwrap();
        assert_eq!((listen.port(), upstream.port()), (1, 2));
        for wrong in
            ["", "--listen 127.0.0.1:1", "--listen 127.0.0.1:1 --upstream", "--listen x --upstream 127.0.0.1:2", "--port 1"]
        {
            assert!(parse(wrong).unwrap_err().to_string().contains("usage: --listen ADDRESS:PORT --upstream"), "{wrong}");
        }
    }
}
