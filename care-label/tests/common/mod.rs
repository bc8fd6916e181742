//! A chat endpoint on the loopback address, with faults on demand.
//!
//! Scores follow from the texts alone. A fault is chosen by the hash of the request's texts, so every run meets the same
//! faults; passing faults end after the first try of a call.

// Each test file uses another part of it.
#![allow(dead_code)]

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use care_label::journal::read_votes;
use care_label::run::Options;
use care_label::{Pair, Prompt, State};
use serde_json::{Value, json};

/// What the endpoint does instead of a plain answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// Passing: the second try of a call gets the plain answer.
    RateLimit,
    Error500,
    Error503,
    Closed,
    HalfAnswer,
    InvalidJson,
    /// Read all the same.
    TextAround,
    Word,
    FullWidth,
    Slow,
    ErrorIn200,
    /// Unparsable at the first attempt, then good.
    OutOfRange,
    NotANumber,
    Thinking,
    CutOff,
    NoChoices,
    /// Unparsable always.
    Half,
    /// Refused at the first attempt, then good.
    RefusedOnce,
    /// Refused always.
    Refused,
    Filtered,
    /// No answer ever.
    Broken,
}

pub(crate) const FAULTS: [Fault; 21] = [
    Fault::RateLimit,
    Fault::Error500,
    Fault::Error503,
    Fault::Closed,
    Fault::HalfAnswer,
    Fault::InvalidJson,
    Fault::TextAround,
    Fault::Word,
    Fault::FullWidth,
    Fault::Slow,
    Fault::ErrorIn200,
    Fault::OutOfRange,
    Fault::NotANumber,
    Fault::Thinking,
    Fault::CutOff,
    Fault::NoChoices,
    Fault::Half,
    Fault::RefusedOnce,
    Fault::Refused,
    Fault::Filtered,
    Fault::Broken,
];

/// The parts of a request that answers follow from.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Value,
    /// Number of the call for its question, from 1.
    pub(crate) attempt: u32,
    /// Try of this call, from 1.
    pub(crate) tried: u32,
}

impl Request {
    /// A number that follows from model and texts.
    pub(crate) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.body["model"].to_string(), self.body["messages"].to_string()).hash(&mut hasher);
        hasher.finish()
    }

    /// The score that a plain answer has.
    pub(crate) fn score(&self) -> i32 {
        1 + (self.hash() / 1000 % 5) as i32
    }
}

/// Status, further headers and body.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
    /// Bytes of the body that are sent before the connection is closed.
    pub(crate) sent: Option<usize>,
    pub(crate) wait: Duration,
}

impl Response {
    pub(crate) fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: vec![], body: body.into(), sent: None, wait: Duration::ZERO }
    }

    /// The body of a chat completion with this message.
    pub(crate) fn message(message: Value, finish_reason: &str) -> Self {
        let choice = json!({"index": 0, "message": message, "finish_reason": finish_reason});
        let usage = json!({"prompt_tokens": 600, "completion_tokens": 30, "total_tokens": 630});
        let body =
            json!({"id": "x", "object": "chat.completion", "service_tier": "odd", "choices": [choice], "usage": usage});
        Self::new(200, body.to_string())
    }

    pub(crate) fn content(content: impl Into<String>) -> Self {
        Self::message(json!({"role": "assistant", "content": content.into()}), "stop")
    }

    pub(crate) fn score(score: i32) -> Self {
        Self::content(format!("{{\"reason\": \"因为\", \"score\": {score}}}"))
    }

    pub(crate) fn error(status: u16, message: &str) -> Self {
        Self::new(status, json!({"error": {"message": message}}).to_string())
    }
}

/// The answer of a judge with this fault; `None` closes the connection.
pub(crate) fn faulty(fault: Fault, request: &Request) -> Option<Response> {
    let plain = Response::score(request.score());
    let (first_try, first) = (request.tried == 1, request.attempt == 1);
    let score = |value: &str| Response::content(format!("{{\"reason\": \"因为\", \"score\": {value}}}"));
    Some(match fault {
        Fault::RateLimit if first_try => {
            Response { headers: vec![("Retry-After", "0.02".into())], ..Response::error(429, "slow down") }
        }
        Fault::Error500 if first_try => Response::error(500, "sorry"),
        Fault::Error503 if first_try => Response::new(503, "<html>overloaded</html>"),
        Fault::Closed if first_try => return None,
        Fault::HalfAnswer if first_try => Response { sent: Some(40), ..plain },
        Fault::InvalidJson if first_try => Response::new(200, "<html>gateway</html>"),
        Fault::ErrorIn200 if first_try => {
            Response::new(200, json!({"error": {"code": 502, "message": "x"}}).to_string())
        }
        Fault::TextAround => {
            Response::content(format!("好的：\n```json\n{{\"score\": {}}}\n```\n以上。", request.score()))
        }
        Fault::Word => {
            score(&format!("\"{}\"", ["一", "二分", "部分相关", "four", "完全回答"][request.score() as usize - 1]))
        }
        Fault::FullWidth => score(&format!("\"{}\"", ["１", "２", "３", "４", "５"][request.score() as usize - 1])),
        Fault::Slow => Response { wait: Duration::from_millis(150), ..plain },
        Fault::OutOfRange if first => score("9"),
        Fault::NotANumber if first => score("NaN"),
        Fault::Thinking if first => {
            Response::message(json!({"content": "", "reasoning_content": "也许 {\"score\": 1}"}), "length")
        }
        Fault::CutOff if first => Response::message(json!({"content": "{\"reason\": \"因"}), "length"),
        Fault::NoChoices if first => Response::new(200, json!({"choices": []}).to_string()),
        Fault::Half => score("3.5"),
        Fault::RefusedOnce if first => Response::message(json!({"content": null, "refusal": "no"}), "stop"),
        Fault::Refused => Response::message(json!({"content": null}), "content_filter"),
        Fault::Filtered => Response::error(400, "Content Exists Risk"),
        Fault::Broken => Response::error(500, "broken"),
        _ => plain,
    })
}

type Answers = dyn Fn(&Request) -> Option<Response> + Send + Sync;

/// The endpoint; it serves until the process ends.
pub(crate) struct Server {
    pub(crate) address: String,
    shared: Arc<Shared>,
}

struct Shared {
    answers: Box<Answers>,
    requests: AtomicU64,
    in_flight: AtomicU64,
    most_in_flight: AtomicU64,
    /// Tries of each call, by the id in its header.
    tries: Mutex<HashMap<String, u32>>,
    /// Calls that must not come again.
    recorded: Mutex<HashSet<String>>,
    repeated: Mutex<Vec<String>>,
    last: Mutex<Option<Request>>,
}

impl Server {
    pub(crate) fn start(answers: impl Fn(&Request) -> Option<Response> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let shared = Arc::new(Shared {
            answers: Box::new(answers),
            requests: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            most_in_flight: AtomicU64::new(0),
            tries: Mutex::default(),
            recorded: Mutex::default(),
            repeated: Mutex::default(),
            last: Mutex::default(),
        });
        let serving = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = serving.clone();
                thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn most_in_flight(&self) -> u64 {
        self.shared.most_in_flight.load(Ordering::SeqCst)
    }

    /// From now on, these calls count as repeated if they come.
    pub(crate) fn forbid(&self, calls: impl IntoIterator<Item = String>) {
        self.shared.recorded.lock().expect("alive").extend(calls);
    }

    pub(crate) fn repeated(&self) -> Vec<String> {
        self.shared.repeated.lock().expect("alive").clone()
    }

    /// Different calls that came.
    pub(crate) fn calls(&self) -> usize {
        self.shared.tries.lock().expect("alive").len()
    }

    pub(crate) fn last(&self) -> Request {
        self.shared.last.lock().expect("alive").clone().expect("a request")
    }
}

impl Shared {
    /// Serves a connection until it is closed.
    fn serve(&self, stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut stream = stream;
        loop {
            let request = self.request(&mut reader)?;
            let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_in_flight.fetch_max(now, Ordering::SeqCst);
            let response = (self.answers)(&request);
            *self.last.lock().ok()? = Some(request);
            let wait = response.as_ref().map_or(Duration::ZERO, |response| response.wait);
            thread::sleep(wait);
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            let response = response?;
            let mut text = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", response.status, response.body.len());
            for (name, value) in &response.headers {
                text += &format!("{name}: {value}\r\n");
            }
            let sent = response.sent.unwrap_or(response.body.len());
            text += "\r\n";
            text += &response.body[..response.body.floor_char_boundary(sent)];
            stream.write_all(text.as_bytes()).ok()?;
            if response.sent.is_some() {
                return None;
            }
        }
    }

    fn request(&self, reader: &mut impl BufRead) -> Option<Request> {
        let line = line(reader)?;
        let path = line.split(' ').nth(1)?.to_owned();
        let mut headers = HashMap::new();
        loop {
            let line = self::line(reader)?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        self.requests.fetch_add(1, Ordering::SeqCst);
        let id = headers.get("x-client-request-id").cloned().unwrap_or_default();
        if self.recorded.lock().ok()?.contains(&id) {
            self.repeated.lock().ok()?.push(id.clone());
        }
        let tried = {
            let mut tries = self.tries.lock().ok()?;
            let tried = tries.entry(id.clone()).or_insert(0);
            *tried += 1;
            *tried
        };
        let attempt = id.rsplit_once('-').and_then(|(_, attempt)| attempt.parse().ok()).unwrap_or(1);
        Some(Request { path, headers, body: serde_json::from_slice(&body).ok()?, attempt, tried })
    }
}

fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.take(1 << 16).read_line(&mut line).ok().filter(|read| *read > 0)?;
    Some(line.trim_end().to_owned())
}

/// Pairs of this many queries and documents each.
pub(crate) fn pairs(queries: usize, documents: usize) -> Vec<Pair> {
    let pair = |query: usize, document: usize| {
        let text = json!({
            "query_id": format!("q{query}"),
            "doc_id": format!("d{document}"),
            "query": format!("问题{query}：头痛怎么办"),
            "document": format!("文档{document}：多休息，多喝水，必要时就医。")
        });
        serde_json::from_value(text).expect("a pair")
    };
    (0..queries).flat_map(|query| (0..documents).map(move |document| pair(query, document))).collect()
}

pub(crate) fn prompt() -> Prompt {
    Prompt::open("relevance").expect("a preset")
}

/// `[[judge]]` of this name, with further fields.
pub(crate) fn judge(name: &str, server: &Server, fields: &str) -> String {
    format!("[[judge]]\nname = '{name}'\nendpoint = '{}'\nmodel = 'model-{name}'\n{fields}\n", server.address)
}

/// Three tries per call, without long waits.
pub(crate) fn options() -> Options {
    Options::default().with_tries(3).with_retry_delay(Duration::from_millis(5))
}

/// The lines of a journal by question and attempt, failed ones left out.
pub(crate) type Line = (String, u32, State, Option<i32>);

/// The final state of each question.
pub(crate) type Last = HashMap<String, (State, Option<i32>)>;

/// Reads a journal.
pub(crate) fn lines(path: &Path) -> (Vec<Line>, Last) {
    let (mut lines, mut last) = (Vec::new(), HashMap::new());
    read_votes(path, &mut |_, vote| {
        let key = vote.key.to_owned();
        if vote.state != State::Failed {
            lines.push((key.clone(), vote.attempt, vote.state, vote.score));
        }
        last.insert(key, (vote.state, vote.score));
        Ok(())
    })
    .unwrap();
    lines.sort();
    (lines, last)
}
