//! Accepting connections and serving each within its limits until it ends or the server drains.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::guarded::Guarded;
use super::{Peer, tls};
use crate::web::Limits;

/// Longest list of headers.
const HEADER_BYTES_MAX: u32 = 32 << 10;
/// Streams of one HTTP/2 connection at the same time.
const STREAMS_MAX: u32 = 128;
/// How often an idle HTTP/2 connection is asked whether anybody is there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(30);
/// Pause after the system refused a connection: it is out of file descriptors, and asking again at once is no help.
const REFUSED: Duration = Duration::from_millis(100);

/// Which protocol is spoken without TLS; with TLS the client chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 from the first byte, as gRPC does.
    Http2,
}

/// A listening socket and what stands behind it.
pub(crate) struct Door {
    /// Socket.
    pub(crate) listener: TcpListener,
    /// What answers.
    pub(crate) app: Router,
    /// TLS, with the protocols that it offers.
    pub(crate) tls: Option<TlsAcceptor>,
    /// Whether it is the one for gRPC.
    pub(crate) grpc: bool,
}

/// Accepts until told to stop. Connections that are open then are in `graceful`.
pub(crate) async fn accept(
    door: Door,
    limits: Limits,
    places: Arc<Semaphore>,
    graceful: &GracefulShutdown,
    mut stopping: watch::Receiver<bool>,
) {
    let Door { listener, app, tls, grpc } = door;
    let plain = if grpc { Speaks::Http2 } else { Speaks::Http1 };
    loop {
        let next = async {
            // A place first: clients beyond the limit wait in the system's queue and cost nothing here.
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            loop {
                match listener.accept().await {
                    Ok((stream, address)) => return Some((place, stream, address)),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(REFUSED).await;
                    }
                }
            }
        };
        let next = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => return,
            next = next => next,
        };
        let Some((place, stream, address)) = next else { return };
        let (app, tls, watcher) = (app.clone(), tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            connection(stream, address, app, tls, plain, limits, watcher).await;
            drop(place);
        });
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    app: Router,
    tls: Option<TlsAcceptor>,
    plain: Speaks,
    limits: Limits,
    watcher: Watcher,
) {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let time = Duration::from_secs(limits.header_seconds_max);
    let Some(acceptor) = tls else {
        let peer = Peer { address, certificate: None, tls: false };
        return speak(Guarded::new(stream, time), peer, app, plain, time, watcher).await;
    };
    match tokio::time::timeout(time, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let (_, session) = stream.get_ref();
            let speaks = match session.alpn_protocol() {
                Some(b"h2") => Speaks::Http2,
                Some(_) => Speaks::Http1,
                None => plain,
            };
            let certificate = session.peer_certificates().and_then(<[_]>::first).and_then(tls::name);
            let peer = Peer { address, certificate, tls: true };
            speak(Guarded::new(stream, time), peer, app, speaks, time, watcher).await;
        }
        Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
        Err(_elapsed) => tracing::debug!(%address, "TLS handshake took too long"),
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    app: Router,
    speaks: Speaks,
    time: Duration,
    watcher: Watcher,
) {
    let address = peer.address;
    let service = app.map_request(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        request
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    // Chosen, not guessed from the first bytes, which would be waited for without a deadline.
    let mut builder = match speaks {
        Speaks::Http1 => builder.http1_only(),
        Speaks::Http2 => builder.http2_only(),
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(time)
        .max_buf_size(HEADER_BYTES_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        // Clients that go away are no news.
        tracing::debug!(%address, %error, "connection ended");
    }
}
