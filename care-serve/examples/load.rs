//! A client that puts load on a server: `cargo run --release -p care-serve --example load -- URL BODIES PATTERN`.
//!
//! `BODIES` is a file with the body of one request per line; they are sent in turn, from the first again after the last.
//! `PATTERN` is one of:
//!
//! - `CONNECTIONSxREQUESTS`, e.g. `64x20000`: each connection sends its next request when the last one was answered;
//! - `RATE:SECONDS,..@CONNECTIONS`, e.g. `50:10,500:20@900`: requests arrive at these rates whether or not others were
//!   answered, evenly spaced. One for which all connections are in use waits for one; that is part of its latency.
//!
//! Prints a line per request, `ARRIVED LATENCY STATUS`, with times in microseconds since the start. The status is 0 if the
//! connection failed.

use std::error::Error;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
type Connection = SendRequest<Full<Bytes>>;

/// Longest wait for an answer; longer than the servers' own deadlines.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who is asked what.
struct Target {
    /// Host and port.
    address: String,
    path: String,
    bodies: Vec<Bytes>,
}

/// When requests are sent.
enum Pattern {
    Closed { connections: usize, requests: usize },
    Open { phases: Vec<(f64, f64)>, connections: usize },
}

struct Sample {
    arrived: Instant,
    latency: Duration,
    status: u16,
}

impl Target {
    fn new(url: &str, bodies: &str) -> Result<Self> {
        let (address, path) = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .ok_or("the URL has not the form http://HOST:PORT/PATH")?;
        let bodies = std::fs::read_to_string(bodies)?;
        let bodies: Vec<Bytes> = bodies.lines().map(|line| Bytes::from(line.to_owned())).collect();
        if bodies.is_empty() {
            return Err("the file of bodies is empty".into());
        }
        Ok(Self { address: address.to_owned(), path: format!("/{path}"), bodies })
    }

    async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Its errors are those of the requests on it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    /// Sends the request of a number, on a new connection unless one is given that still works. Returns the status.
    async fn ask(&self, number: usize, connection: &mut Option<Connection>) -> Result<u16> {
        let mut open = connection.take();
        if let Some(sender) = &mut open
            && sender.ready().await.is_err()
        {
            open = None;
        }
        let mut sender = match open {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let body = self.bodies[number % self.bodies.len()].clone();
        let request = Request::post(&self.path)
            .header("host", &self.address)
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        response.into_body().collect().await?;
        *connection = Some(sender);
        Ok(status)
    }

    async fn sample(&self, number: usize, arrived: Instant, connection: &mut Option<Connection>) -> Sample {
        let status = timeout(PATIENCE, self.ask(number, connection)).await;
        Sample { arrived, latency: arrived.elapsed(), status: status.map_or(0, |status| status.unwrap_or(0)) }
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let Some((phases, connections)) = text.split_once('@') else {
            let (connections, requests) = text.split_once('x')?;
            return Some(Self::Closed { connections: connections.parse().ok()?, requests: requests.parse().ok()? });
        };
        let phase = |text: &str| {
            let (rate, seconds) = text.split_once(':')?;
            Some((rate.parse().ok().filter(|rate| *rate > 0.0)?, seconds.parse().ok()?))
        };
        let phases = phases.split(',').map(phase).collect::<Option<_>>()?;
        Some(Self::Open { phases, connections: connections.parse().ok()? })
    }
}

async fn closed(target: &Arc<Target>, connections: usize, requests: usize) -> Vec<Sample> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (target, next) = (target.clone(), next.clone());
        tasks.spawn(async move {
            let (mut samples, mut connection) = (Vec::new(), None);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= requests {
                    return samples;
                }
                samples.push(target.sample(number, Instant::now(), &mut connection).await);
            }
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

async fn open(target: &Arc<Target>, phases: &[(f64, f64)], connections: usize) -> Vec<Sample> {
    let (room, idle) = (Arc::new(Semaphore::new(connections)), Arc::new(Mutex::new(Vec::new())));
    let mut tasks = JoinSet::new();
    let (mut arrival, mut number) = (Instant::now(), 0);
    for (rate, seconds) in phases {
        let end = arrival + Duration::from_secs_f64(*seconds);
        while arrival < end {
            sleep_until(arrival).await;
            let (target, room, idle, arrived) = (target.clone(), room.clone(), idle.clone(), arrival);
            tasks.spawn(async move {
                let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
                let _permit = room.acquire().await;
                let mut connection = lock().pop();
                let sample = target.sample(number, arrived, &mut connection).await;
                lock().extend(connection);
                sample
            });
            number += 1;
            arrival += Duration::from_secs_f64(1.0 / rate);
        }
    }
    tasks.join_all().await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, bodies, pattern] = arguments.as_slice() else {
        return Err("usage: load URL BODIES CONNECTIONSxREQUESTS | RATE:SECONDS,..@CONNECTIONS".into());
    };
    let target = Arc::new(Target::new(url, bodies)?);
    let pattern = Pattern::parse(pattern).ok_or("a pattern is like 64x20000 or 50:10,500:20@900")?;
    let start = Instant::now();
    let samples = match pattern {
        Pattern::Closed { connections, requests } => closed(&target, connections, requests).await,
        Pattern::Open { phases, connections } => open(&target, &phases, connections).await,
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for Sample { arrived, latency, status } in samples {
        writeln!(out, "{} {} {status}", (arrived - start).as_micros(), latency.as_micros())?;
    }
    Ok(out.flush()?)
}
