//! A small server with the answers of Qdrant's OpenAPI description, for tests without a server. It keeps points in memory and
//! computes dot products.

#![allow(clippy::unwrap_used, dead_code)]

mod filter;

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use half::f16;
use serde_json::{Map, Value, json};

use filter::fits;

/// A server on the loopback address, until the test ends.
pub(crate) struct Stub {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    collections: BTreeMap<String, Collection>,
    /// Key that requests must have.
    key: Option<String>,
    /// Answers that are given instead, in turn: status and body.
    scripted: VecDeque<(u16, String)>,
    requests: Vec<String>,
}

struct Collection {
    vectors: Map<String, Value>,
    metadata: Value,
    points: BTreeMap<String, (Vec<f32>, Value)>,
}

/// Status and problem.
type Refused = (u16, String);

impl Stub {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { url, state }
    }

    pub(crate) fn require_key(&self, key: &str) {
        self.state.lock().unwrap().key = Some(key.to_owned());
    }

    pub(crate) fn script(&self, answers: &[(u16, &str)]) {
        let answers = answers.iter().map(|(status, body)| (*status, (*body).to_owned()));
        self.state.lock().unwrap().scripted.extend(answers);
    }

    /// A collection that others made.
    pub(crate) fn create(&self, name: &str, vectors: Value, metadata: Value) {
        let Value::Object(vectors) = vectors else { panic!("an object") };
        let collection = Collection { vectors, metadata, points: BTreeMap::new() };
        self.state.lock().unwrap().collections.insert(name.to_owned(), collection);
    }

    /// Method and path of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }
}

/// Answers the requests of a connection, one after the other.
fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line.trim_end().is_empty() {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let header = |name: &str| {
            let line = head.iter().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        assert_eq!(header("transfer-encoding"), None, "bodies have a length");
        let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        let mut words = head[0].split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let (status, answer) = state.lock().unwrap().respond(method, path, header("api-key"), &body);
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        let mut stream = stream;
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer.as_bytes())).is_err() {
            return;
        }
    }
}

impl State {
    fn respond(&mut self, method: &str, path: &str, key: Option<String>, body: &[u8]) -> (u16, String) {
        self.requests.push(format!("{method} {path}"));
        if self.key.is_some() && self.key != key {
            return (401, "Must provide an API key or an Authorization bearer token".to_owned());
        }
        if let Some(answer) = self.scripted.pop_front() {
            return answer;
        }
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(body).unwrap() };
        match self.result(method, path, &body) {
            Ok(result) => (200, json!({ "result": result, "status": "ok", "time": 0.001 }).to_string()),
            Err((status, problem)) => (status, json!({ "status": { "error": problem }, "time": 0.0 }).to_string()),
        }
    }

    fn result(&mut self, method: &str, path: &str, body: &Value) -> Result<Value, Refused> {
        let (path, parameters) = path.split_once('?').unwrap_or((path, ""));
        let (name, route) = path
            .strip_prefix("/collections/")
            .and_then(|rest| Some(rest.split_once('/').unwrap_or((rest, ""))).filter(|(name, _)| !name.is_empty()))
            .ok_or((404, String::new()))?;
        if (method, route) == ("PUT", "") {
            return self.create(name, body);
        }
        let missing = (404, format!("Not found: Collection `{name}` doesn't exist!"));
        let collection = self.collections.get_mut(name).ok_or(missing)?;
        if matches!(route, "points/delete") || (method, route) == ("PUT", "points") {
            assert_eq!(parameters, "wait=true", "an update that is not waited for may be lost");
        }
        match (method, route) {
            ("GET", "") => Ok(collection.info()),
            ("PUT", "points") => collection.put(body),
            ("POST", "points") => Ok(collection.retrieve(body)),
            ("POST", "points/delete") => Ok(collection.delete(body)),
            ("POST", "points/count") => Ok(json!({ "count": collection.points.len() })),
            ("POST", "points/scroll") => Ok(collection.scroll(body)),
            ("POST", "points/query/batch") => collection.query_batch(body),
            _ => Err((404, String::new())),
        }
    }

    fn create(&mut self, name: &str, body: &Value) -> Result<Value, Refused> {
        if self.collections.contains_key(name) {
            return Err((409, format!("Wrong input: Collection `{name}` already exists!")));
        }
        let Value::Object(vectors) = body["vectors"].clone() else { return Err((400, "no vectors".into())) };
        assert!(matches!(vectors["datatype"].as_str(), Some("float32" | "float16")));
        let collection = Collection { vectors, metadata: body["metadata"].clone(), points: BTreeMap::new() };
        self.collections.insert(name.to_owned(), collection);
        Ok(json!(true))
    }
}

impl Collection {
    fn dim(&self) -> usize {
        self.vectors["size"].as_u64().unwrap() as usize
    }

    fn info(&self) -> Value {
        json!({
            "status": "green", "optimizer_status": "ok", "indexed_vectors_count": 0, "points_count": self.points.len(),
            "segments_count": 2, "payload_schema": {},
            "config": {
                "params": {
                    "vectors": self.vectors, "shard_number": 1, "replication_factor": 1, "write_consistency_factor": 1,
                    "on_disk_payload": true,
                },
                "hnsw_config": { "m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0 },
                "optimizer_config": { "deleted_threshold": 0.2, "vacuum_min_vector_number": 1000 },
                "wal_config": { "wal_capacity_mb": 32, "wal_segments_ahead": 0 },
                "quantization_config": null, "metadata": self.metadata,
            },
        })
    }

    fn put(&mut self, body: &Value) -> Result<Value, Refused> {
        let mut points = Vec::new();
        for point in body["points"].as_array().unwrap() {
            let id = uuid(&point["id"]).ok_or((400, "Unable to parse UUID".to_owned()))?;
            let vector = numbers(&point["vector"]);
            if vector.len() != self.dim() {
                let problem = "Wrong input: Vector dimension error: expected dim";
                return Err((400, format!("{problem}: {}, got {}", self.dim(), vector.len())));
            }
            let is_half = self.vectors.get("datatype").and_then(Value::as_str) == Some("float16");
            let stored = vector.iter().map(|value| if is_half { f16::from_f32(*value).to_f32() } else { *value });
            points.push((id, (stored.collect(), point["payload"].clone())));
        }
        self.points.extend(points);
        Ok(json!({ "operation_id": 7, "status": "completed" }))
    }

    /// Points without an order, and none for ids that are not there.
    fn retrieve(&self, body: &Value) -> Value {
        let ids = body["ids"].as_array().unwrap();
        let mut ids: Vec<String> = ids.iter().map(|id| uuid(id).unwrap()).collect();
        ids.sort();
        let record = |id: &String| Some(record(id, self.points.get(id)?, body));
        ids.iter().filter_map(record).collect()
    }

    fn delete(&mut self, body: &Value) -> Value {
        for id in body["points"].as_array().unwrap() {
            self.points.remove(&uuid(id).unwrap());
        }
        json!({ "operation_id": 8, "status": "completed" })
    }

    fn scroll(&self, body: &Value) -> Value {
        let limit = body["limit"].as_u64().unwrap() as usize;
        let first = body.get("offset").map(|offset| uuid(offset).unwrap()).unwrap_or_default();
        let mut points = self.points.range(first..);
        let page: Vec<Value> = points.by_ref().take(limit).map(|(id, point)| record(id, point, body)).collect();
        json!({ "points": page, "next_page_offset": points.next().map(|(id, _)| id) })
    }

    fn query_batch(&self, body: &Value) -> Result<Value, Refused> {
        body["searches"].as_array().unwrap().iter().map(|search| self.query(search)).collect()
    }

    fn query(&self, search: &Value) -> Result<Value, Refused> {
        let (query, limit) = (numbers(&search["query"]), search["limit"].as_u64().unwrap() as usize);
        if query.len() != self.dim() || limit == 0 {
            return Err((400, "Wrong input".to_owned()));
        }
        let fitting = |(id, point): &(&String, &(Vec<f32>, Value))| {
            search["filter"].is_null() || fits(&search["filter"], id, &point.1)
        };
        let score = |vector: &[f32]| vector.iter().zip(&query).map(|(a, b)| a * b).sum::<f32>();
        // Ties in another order than that of an index.
        let mut hits: Vec<_> =
            self.points.iter().rev().filter(fitting).map(|(id, point)| (score(&point.0), id, point)).collect();
        hits.sort_by(|a, b| b.0.total_cmp(&a.0));
        let hit = |(score, id, point): (f32, &String, &(Vec<f32>, Value))| {
            let mut hit = record(id, point, search);
            (hit["score"], hit["version"]) = (json!(score), json!(0));
            hit
        };
        Ok(json!({ "points": hits.into_iter().take(limit).map(hit).collect::<Vec<_>>() }))
    }
}

fn record(id: &str, (vector, payload): &(Vec<f32>, Value), request: &Value) -> Value {
    let mut record = json!({ "id": id });
    match &request["with_payload"] {
        Value::Bool(true) => record["payload"] = payload.clone(),
        Value::Array(fields) => {
            let fields = fields.iter().map(|field| field.as_str().unwrap());
            record["payload"] = fields
                .filter_map(|name| Some((name.to_owned(), payload.get(name)?.clone())))
                .collect::<Map<_, _>>()
                .into();
        }
        _ => {}
    }
    if request["with_vector"] == true {
        record["vector"] = json!(vector);
    }
    record
}

/// A UUID in its canonical form.
fn uuid(id: &Value) -> Option<String> {
    let id = id.as_str()?;
    let is_uuid = id.len() == 36
        && id
            .char_indices()
            .all(|(at, c)| if matches!(at, 8 | 13 | 18 | 23) { c == '-' } else { c.is_ascii_hexdigit() });
    is_uuid.then(|| id.to_ascii_lowercase())
}

fn numbers(list: &Value) -> Vec<f32> {
    list.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}
