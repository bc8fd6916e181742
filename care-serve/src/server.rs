//! Connections: accepted within limits, and ended in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use care_core::{Error, ErrorKind, Result};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::collection::Collection;
use crate::http::{App, router};
use crate::options::ServeOptions;
use crate::service::Service;
use crate::tower::Pair;

/// How long no connection is accepted after a failure to do so, e.g. for lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// A server, whose pair may still be loading.
///
/// ```no_run
/// use care_serve::{Pair, ServeOptions, Server};
/// # async fn serve(load: impl FnOnce() -> Pair + Send + 'static) -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::new(ServeOptions::default())?;
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
/// let loader = server.loader();
/// std::thread::spawn(move || loader.ready(load(), None));
/// // Answers `/health` with 503 until the pair is loaded. Ends some time after the signal.
/// server.run(listener, async { drop(tokio::signal::ctrl_c().await) }).await;
/// # Ok(())
/// # }
/// ```
pub struct Server {
    app: Arc<App>,
}

/// Gives a running server its pair.
#[derive(Clone)]
pub struct Loader {
    app: Arc<App>,
}

impl Loader {
    /// Starts to serve a pair, and the documents of an index. A second pair is not served.
    ///
    /// # Errors
    /// If the two towers differ in dimensions, or from the index; if the index has vectors of another tower; if an offered
    /// number of dimensions is out of range; if a thread cannot be started.
    pub fn ready(&self, pair: Pair, collection: Option<Collection>) -> Result<()> {
        let service = Service::start(pair, collection, self.app.options.clone(), &self.app.metrics)?;
        self.app.set_service(service);
        Ok(())
    }
}

impl Server {
    /// A server without a pair yet.
    ///
    /// # Errors
    /// If an option is out of range.
    pub fn new(options: ServeOptions) -> Result<Self> {
        options.check()?;
        Ok(Self { app: Arc::new(App::new(options)) })
    }

    /// What gives the server its pair, from any thread.
    pub fn loader(&self) -> Loader {
        Loader { app: self.app.clone() }
    }

    /// The routes as a service of axum, to be part of another server or to be tested without a socket.
    pub fn router(&self) -> Router {
        router(&self.app)
    }

    /// Answers requests until `stop` is done. Then no connection is accepted, requests that have begun are answered within
    /// [`ServeOptions::shutdown_timeout`], and idle connections are closed. Returns whether all were answered in time.
    pub async fn run(self, listener: TcpListener, stop: impl Future<Output = ()>) -> bool {
        let options = &self.app.options;
        let (router, connections) = (self.router(), GracefulShutdown::new());
        let room = Arc::new(Semaphore::new(options.max_connections.min(Semaphore::MAX_PERMITS)));
        let mut stop = std::pin::pin!(stop);
        loop {
            let (stream, peer, permit) = tokio::select! {
                () = &mut stop => break,
                accepted = accept(&listener, &room) => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            // Answers are sent at once; without this option they are all the same, only later.
            let _ = stream.set_nodelay(true);
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(options.read_timeout)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
            let connection = connections.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%peer, %error, "connection ended");
                }
                drop(permit);
            });
        }
        drop(listener);
        tracing::info!("stopping");
        tokio::time::timeout(options.shutdown_timeout, connections.shutdown()).await.is_ok()
    }
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let io = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Io, e.to_string());
    let permit = room.clone().acquire_owned().await.map_err(|e| io(&e))?;
    let (stream, peer) = listener.accept().await.map_err(|e| io(&e))?;
    Ok((stream, peer, permit))
}
