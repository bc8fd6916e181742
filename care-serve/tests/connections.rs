//! Sockets: slow and half-closed clients, floods, deadlines and the end of a server. Nothing depends on how fast the
//! machine is: the fake tower waits until the test lets it go on.
#![allow(clippy::unwrap_used)]

mod fake;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use care_core::{Document, Query, Reranker};
use care_serve::{ServeOptions, Server, Tokens};
use fake::{FakeTower, pair, pair_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server on the loopback address.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    /// Whether all requests were answered.
    ended: JoinHandle<bool>,
}

async fn start(options: ServeOptions, pair: care_serve::Pair) -> Running {
    let server = Server::new(options).unwrap();
    server.loader().ready(pair, None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, (stop, stopped)) = (listener.local_addr().unwrap(), oneshot::channel());
    let ended = tokio::spawn(server.run(listener, async { drop(stopped.await) }));
    Running { address, stop, ended }
}

/// A gate in front of a tower's batches.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, usize)>,
    moved: Condvar,
}

impl Gate {
    fn pass(&self, _batch: &[Tokens]) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.moved.notify_all();
        drop(self.moved.wait_while(state, |state| !state.0).unwrap());
    }

    fn open(&self) {
        self.state.lock().unwrap().0 = true;
        self.moved.notify_all();
    }

    /// Waits until a batch is at the gate.
    async fn reached(self: &Arc<Self>) {
        let gate = self.clone();
        let wait = move || drop(gate.moved.wait_while(gate.state.lock().unwrap(), |state| state.1 == 0).unwrap());
        tokio::task::spawn_blocking(wait).await.unwrap();
    }

    fn batches(&self) -> usize {
        self.state.lock().unwrap().1
    }
}

/// A pair whose query tower waits at a gate.
fn gated(gate: &Arc<Gate>) -> care_serve::Pair {
    let gate = gate.clone();
    let query = FakeTower::new("query-tower", true, move |batch| gate.pass(batch));
    pair_with(query, FakeTower::new("document-tower", true, |_| {}))
}

fn request(role: &str, text: &str) -> String {
    let body = format!("{{\"inputs\":{text:?}}}");
    let length = body.len();
    format!("POST /{role}/embed HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

async fn connect(address: SocketAddr, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

/// All that the server sends until it closes the connection.
async fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}

async fn ask(address: SocketAddr, bytes: &str) -> String {
    read(&mut connect(address, bytes).await).await
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap_or("0").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_told_or_cut_off_and_others_answered() {
    let mut options = ServeOptions::default();
    options.read_timeout = Duration::from_millis(300);
    let server = start(options, pair()).await;
    let mut head = connect(server.address, "POST /query/embed HTTP/1.1\r\nhost:").await;
    let mut body =
        connect(server.address, "POST /query/embed HTTP/1.1\r\nhost: x\r\ncontent-length: 90\r\n\r\n{\"inputs\":")
            .await;
    assert_eq!(status(&ask(server.address, &request("query", "头痛")).await), 200);
    assert!(!read(&mut head).await.contains(" 200 "));
    let answer = read(&mut body).await;
    assert_eq!(status(&answer), 408, "{answer}");
    assert!(answer.contains("the body was not received within 0.3 s"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_or_too_long_is_refused() {
    let server = start(ServeOptions::default(), pair()).await;
    assert_eq!(status(&ask(server.address, "nonsense\r\n\r\n").await), 400);
    let long = "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\nconnection: close\r\n\r\n";
    let answer = ask(server.address, long).await;
    assert_eq!(status(&answer), 413, "{answer}");
    assert!(answer.contains("\"error\":{"), "{answer}");
    // Chunks, each of which is small.
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let mut stream =
        connect(server.address, "POST /query/embed HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for _ in 0..200 {
        // The server may close the connection before all is sent.
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    assert!(!read(&mut stream).await.contains(" 200 "));
    assert_eq!(status(&ask(server.address, &request("document", "头痛")).await), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_gone_or_half_gone_is_not_computed_for() {
    let gate = Arc::new(Gate::default());
    let server = start(ServeOptions::default(), gated(&gate)).await;
    let mut first = connect(server.address, &request("query", "一")).await;
    gate.reached().await;
    // They wait in the lane behind the first one.
    let gone = connect(server.address, &request("query", "二")).await;
    let mut half = connect(server.address, &request("query", "三")).await;
    waiting(server.address, 3).await;
    drop(gone);
    half.shutdown().await.unwrap();
    waiting(server.address, 1).await;
    gate.open();
    assert_eq!(status(&read(&mut first).await), 200);
    assert_eq!(read(&mut half).await, "");
    assert_eq!(gate.batches(), 1);
}

/// Waits until so many texts are in the query lane.
async fn waiting(address: SocketAddr, texts: usize) {
    let line = format!("te_queue_size{{role=\"query\"}} {texts}\n");
    while !ask(address, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.contains(&line) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_answered_200_429_or_503_and_passes() {
    let gate = Arc::new(Gate::default());
    let mut options = ServeOptions::default();
    options.max_queue_tokens = 40;
    options.max_concurrent_requests = 20;
    let server = start(options, gated(&gate)).await;
    let address = server.address;
    let flood: Vec<_> =
        (0..300).map(|_| tokio::spawn(async move { ask(address, &request("query", "头痛发热")).await })).collect();
    gate.reached().await;
    // Nothing is answered by the tower yet, and a document does not wait for queries.
    while !flood.iter().any(JoinHandle::is_finished) {
        tokio::task::yield_now().await;
    }
    gate.open();
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for answer in flood {
        let answer = answer.await.unwrap();
        *statuses.entry(status(&answer)).or_default() += 1;
        assert!(status(&answer) != 429 || answer.contains("retry-after: "), "{answer}");
    }
    assert!(statuses.keys().all(|status| [200, 429, 503].contains(status)), "{statuses:?}");
    assert!(statuses[&200] > 0 && statuses[&429] > 0, "{statuses:?}");
    assert_eq!(status(&ask(address, &request("query", "头痛")).await), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_answered_while_queries_wait_and_health_always() {
    let gate = Arc::new(Gate::default());
    let mut options = ServeOptions::default();
    options.max_concurrent_requests = 2;
    let server = start(options, gated(&gate)).await;
    let mut query = connect(server.address, &request("query", "一")).await;
    gate.reached().await;
    assert_eq!(status(&ask(server.address, &request("document", "头痛")).await), 200);
    let mut second = connect(server.address, &request("query", "二")).await;
    waiting(server.address, 2).await;
    assert_eq!(status(&ask(server.address, &request("document", "头痛")).await), 429);
    let health = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&ask(server.address, health).await), 200);
    gate.open();
    assert_eq!((status(&read(&mut query).await), status(&read(&mut second).await)), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_is_503() {
    let gate = Arc::new(Gate::default());
    let mut options = ServeOptions::default();
    options.deadline = Duration::from_millis(200);
    let server = start(options, gated(&gate)).await;
    let answer = ask(server.address, &request("query", "一")).await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(answer.contains("not answered within 0.2 s"), "{answer}");
    gate.open();
}

/// A reranker that waits at a gate.
struct GatedReranker(Arc<Gate>);

impl Reranker for GatedReranker {
    fn score(&self, pairs: &[(&Query, &Document)]) -> care_core::Result<Vec<f32>> {
        self.0.pass(&[]);
        Ok(vec![0.0; pairs.len()])
    }
}

/// A server whose reranker waits at a gate, and that answers within 0.2 s.
async fn start_reranker(gate: &Arc<Gate>, max_concurrent_requests: usize) -> Running {
    let mut options = ServeOptions::default();
    options.deadline = Duration::from_millis(200);
    options.max_concurrent_requests = max_concurrent_requests;
    let mut pair = pair();
    pair.reranker = Some(Arc::new(GatedReranker(gate.clone())));
    start(options, pair).await
}

async fn rerank(address: SocketAddr) -> u16 {
    let body = r#"{"query":"头痛","texts":["发热"]}"#;
    let head = format!("connection: close\r\ncontent-length: {}", body.len());
    status(&ask(address, &format!("POST /rerank HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n{body}")).await)
}

/// Asks until the reranker has begun, and the request has met its deadline.
async fn late_rerank(gate: &Gate, address: SocketAddr) {
    while gate.batches() == 0 {
        assert_eq!(rerank(address).await, 503);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_goes_on_after_the_deadline_keeps_its_place() {
    let gate = Arc::new(Gate::default());
    let server = start_reranker(&gate, 1).await;
    late_rerank(&gate, server.address).await;
    let embed = || ask(server.address, "POST /query/embed HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert_eq!(status(&embed().await), 429);
    gate.open();
    // The place is free: what is asked is read, and is no JSON.
    while status(&embed().await) != 422 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reranker_is_called_once_at_a_time_whatever_was_given_up() {
    let gate = Arc::new(Gate::default());
    let server = start_reranker(&gate, 8).await;
    late_rerank(&gate, server.address).await;
    for _ in 0..2 {
        assert_eq!(rerank(server.address).await, 503);
    }
    assert_eq!(gate.batches(), 1);
    gate.open();
    while rerank(server.address).await != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_answers_what_it_has_and_takes_no_more() {
    let gate = Arc::new(Gate::default());
    let server = start(ServeOptions::default(), gated(&gate)).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    let mut running = connect(server.address, &request("query", "一")).await;
    gate.reached().await;
    server.stop.send(()).unwrap();
    assert_eq!(read(&mut idle).await, "");
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    gate.open();
    assert_eq!(status(&read(&mut running).await), 200);
    assert!(server.ended.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_ends_does_not_hold_the_server() {
    let gate = Arc::new(Gate::default());
    let mut options = ServeOptions::default();
    options.shutdown_timeout = Duration::from_millis(100);
    let server = start(options, gated(&gate)).await;
    let _running = connect(server.address, &request("query", "一")).await;
    gate.reached().await;
    server.stop.send(()).unwrap();
    assert!(!server.ended.await.unwrap());
    gate.open();
}
