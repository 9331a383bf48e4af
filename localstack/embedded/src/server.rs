//! The queues behind HTTP: AWS JSON 1.0, as the SDKs speak it to SQS.
//!
//! Paths under `/_embedded/` are this endpoint's own: `health`, `clock` and `faults`; see [`Server`].

mod answer;
mod clock;
mod control;
mod dispatch;
mod poll;
mod state;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

pub use clock::Clock;

use crate::faults::FaultPlan;
use crate::model::{Account, AccountConfig, Timestamp};
use state::State;

/// How an endpoint runs.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where to listen; by default any free port on loopback.
    pub listen: SocketAddr,
    /// The start of queue addresses, when clients reach the endpoint by another name than `listen`.
    pub public_url: Option<String>,
    /// Names and limits of the account; its `base_url` is set from the two above.
    pub account: AccountConfig,
    /// Faults from the start.
    pub faults: FaultPlan,
    /// Most connections at a time; further ones wait to be accepted.
    pub max_connections: usize,
    /// How long a stop waits for answers under way.
    pub stop_grace: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            public_url: None,
            account: AccountConfig::default(),
            faults: FaultPlan::default(),
            max_connections: 1024,
            stop_grace: Duration::from_secs(5),
        }
    }
}

/// A running endpoint. Dropping it ends it at once; [`Server::stop`] lets answers under way finish.
///
/// Over HTTP, tests can steer it as well:
/// - `GET /_embedded/health` answers 200;
/// - `GET /_embedded/clock` gives `{"now_ms": …, "frozen": …}`; `PUT` takes `set_ms`, `advance_ms` and `frozen`;
/// - `GET /_embedded/faults` gives the [`FaultPlan`]; `PUT` replaces it, `DELETE` clears it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    url: String,
    state: Arc<State>,
    stop: CancellationToken,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Starts an endpoint on the current runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on, or the fault plan is out of bounds.
    pub async fn start(config: ServerConfig) -> io::Result<Server> {
        config
            .faults
            .check()
            .map_err(|message| io::Error::new(io::ErrorKind::InvalidInput, message))?;
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let url = config.public_url.unwrap_or_else(|| format!("http://{address}"));
        let url = url.trim_end_matches('/').to_owned();
        let account = Account::new(AccountConfig {
            base_url: url.clone(),
            ..config.account
        });
        let stop = CancellationToken::new();
        let state = Arc::new(State::new(account, config.faults, stop.clone()));
        let accept = Accept {
            listener,
            state: Arc::clone(&state),
            stopping: stop.clone(),
            most: config.max_connections,
        };
        let accepting = tokio::spawn(accept.run(config.stop_grace));
        Ok(Server {
            address,
            url,
            state,
            stop,
            accepting,
        })
    }

    /// The endpoint's URL, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where the endpoint listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Looks at, or changes, the queues themselves at the endpoint's present time.
    pub fn with_account<T>(&self, act: impl FnOnce(&mut Account, Timestamp) -> T) -> T {
        self.state.with_account(act)
    }

    /// Replaces the faults.
    ///
    /// # Errors
    /// What [`FaultPlan::check`] says.
    pub fn set_faults(&self, plan: FaultPlan) -> Result<(), String> {
        self.state.set_faults(plan)
    }

    /// Changes the clock. Whoever waits for a message looks again.
    pub fn with_clock<T>(&self, change: impl FnOnce(&mut Clock) -> T) -> T {
        self.state.with_clock(change)
    }

    /// Stops: no new connections, long polls answer empty, other answers finish within the grace.
    pub async fn stop(self) {
        self.stop.cancel();
        let mut server = self;
        // A panic of the accept loop has been printed; there is nothing left to stop then.
        let _ = (&mut server.accepting).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Accept {
    listener: TcpListener,
    state: Arc<State>,
    stopping: CancellationToken,
    most: usize,
}

impl Accept {
    async fn run(self, grace: Duration) {
        let permits = Arc::new(Semaphore::new(self.most));
        let mut connections = JoinSet::new();
        loop {
            let next = async {
                // The semaphore is never closed.
                let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
                Some((self.listener.accept().await, permit))
            };
            tokio::select! {
                () = self.stopping.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = next => match accepted {
                    Some((Ok((stream, _)), permit)) => {
                        let connection = connection(stream, Arc::clone(&self.state), self.stopping.clone());
                        connections.spawn(async move {
                            connection.await;
                            drop(permit);
                        });
                    }
                    // Out of file handles, or a connection that is gone already: the next may fare better.
                    Some((Err(_), _)) => tokio::time::sleep(Duration::from_millis(10)).await,
                    None => break,
                },
            }
        }
        drop(self.listener);
        let all = async { while connections.join_next().await.is_some() {} };
        // What is not done by then is cut off when the set is dropped.
        let _ = tokio::time::timeout(grace, all).await;
    }
}

async fn connection(stream: TcpStream, state: Arc<State>, stopping: CancellationToken) {
    // Answers are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { dispatch::answer(&state, request).await }
    });
    let connection = http1::Builder::new()
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // An error means that the client is gone or a fault cut the connection: the client sees it, nobody else has to.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
