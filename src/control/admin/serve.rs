//! Connections: how many, and for how long. HTTP/1.1 by hyper.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

use super::guard::Guard;
use super::{Admin, CONNECTIONS, END_TIME, HEADER_BYTES, Listeners, REQUEST_TIME, STALL_TIME, routes};

/// Pause after an accept that failed: for want of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is over; then requests in progress have `END_TIME`.
///
/// # Errors
/// The sockets cannot be used by the runtime.
pub async fn serve(
    mut listeners: Listeners,
    admin: Admin,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (ended, end) = watch::channel(());
    let tcp = listeners.tcp.take().map(TcpListener::from_std).transpose()?;
    let unix = listeners.unix.as_mut().and_then(|unix| unix.listener.take());
    let unix = unix.map(UnixListener::from_std).transpose()?;
    let guard = listeners.token.take().map_or(Guard::Loopback, Guard::Token);
    let events = admin.events.clone();
    let tcp_app = routes::app(admin.clone(), guard);
    let unix_app = routes::app(admin, Guard::Unix);
    let mut running = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        while running.try_join_next().is_some() {}
        let accept = async {
            let place = places.clone().acquire_owned().await.ok()?;
            tokio::select! {
                Some(stream) = of(tcp.as_ref(), async |tcp| tcp.accept().await) => Some((Either::Tcp(stream), place)),
                Some(stream) = of(unix.as_ref(), async |unix| unix.accept().await) => Some((Either::Unix(stream), place)),
                else => None,
            }
        };
        let (stream, place) = tokio::select! {
            () = &mut shutdown => break,
            Some(accepted) = accept => accepted,
            else => break,
        };
        match stream {
            Either::Tcp(Ok((stream, _))) => {
                // A small answer must not wait for an acknowledgement.
                let _ = stream.set_nodelay(true);
                let connection = connection(stream, tcp_app.clone(), end.clone());
                running.spawn(async move { (connection.await, place).0 });
            }
            Either::Unix(Ok((stream, _))) => {
                let connection = connection(stream, unix_app.clone(), end.clone());
                running.spawn(async move { (connection.await, place).0 });
            }
            Either::Tcp(Err(error)) | Either::Unix(Err(error)) => {
                tracing::warn!(event = %"admin_accept", %error, "the admin interface cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    events.end();
    drop(ended);
    drop((tcp, unix, listeners));
    let all = async { while running.join_next().await.is_some() {} };
    // Who is not done by then is cut off with the set.
    let _ = tokio::time::timeout(END_TIME, all).await;
    Ok(())
}

/// Serves one app on one socket, as long as the process lives, within the same bounds.
///
/// # Errors
/// The socket cannot be used by the runtime.
pub(in crate::control) async fn serve_app(listener: std::net::TcpListener, app: Router) -> io::Result<()> {
    let tcp = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (_ended, end) = watch::channel(());
    while let Ok(place) = places.clone().acquire_owned().await {
        match tcp.accept().await {
            Ok((stream, _)) => {
                let connection = connection(stream, app.clone(), end.clone());
                tokio::spawn(async move { (connection.await, place).0 });
            }
            Err(error) => {
                tracing::warn!(event = %"metrics_accept", %error, "the metrics cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    Ok(())
}

enum Either<T, U> {
    Tcp(T),
    Unix(U),
}

/// Accepts where there is something to accept at.
async fn of<L, T>(listener: Option<&L>, accept: impl AsyncFnOnce(&L) -> T) -> Option<T> {
    match listener {
        Some(listener) => Some(accept(listener).await),
        None => None,
    }
}

/// One connection, to its end.
async fn connection<S>(stream: S, app: Router, mut end: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(app);
    let stream = TokioIo::new(Impatient { stream, stalled: None });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(stream, service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        // The sender goes; nothing is ever sent.
        _ = end.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(event = %"admin_connection", %error, "a connection to the admin interface has ended");
    }
}

/// A stream that fails when nothing of what is written is taken for `STALL_TIME`.
struct Impatient<S> {
    stream: S,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    /// What the stream said, or that it has said nothing for too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, said: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if said.is_ready() {
            self.stalled = None;
            return said;
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + STALL_TIME)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, said)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, said)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, said)
    }
}
