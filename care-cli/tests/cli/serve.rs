//! `care serve`

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{Place, tiny};

/// A server that runs, and is ended with the test.
struct Running {
    process: Child,
    address: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Running {
    /// Starts a server at a free port, and waits until it is ready.
    fn start(place: &Place, arguments: &str) -> Self {
        let mut process = Command::new(assert_cmd::cargo::cargo_bin!("care"))
            .current_dir(place.path(""))
            .args(format!("serve --port 0 {arguments}").split_whitespace())
            .env("RUST_LOG", "off")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map(|line| line.unwrap());
        let first = lines.find_map(|line| Some(line.strip_prefix("listening on http://")?.to_owned())).unwrap();
        let address = first.split(',').next().unwrap().to_owned();
        assert!(lines.any(|line| line == "ready"));
        Self { process, address }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (address, body) = (&self.address, body.to_string());
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!("host: {address}\r\nauthorization: Bearer a-key\r\nconnection: close");
        write!(stream, "{method} {path} HTTP/1.1\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }
}

#[test]
fn a_pair_is_served_with_an_index_until_a_signal() {
    let place = Place::new();
    place.file("corpus.jsonl", "{\"_id\":\"a\",\"text\":\"头痛先休息\"}\n{\"_id\":\"b\",\"text\":\"发烧三天\"}\n");
    place.file("keys", "# keys\na-key\n");
    let model = tiny("bert");
    let (status, _, stderr) =
        place.care(&format!("index build --model {model} --index idx --corpus corpus.jsonl --codes int8"));
    assert_eq!(status, 0, "{stderr}");
    let (_, stdout, _) = place.care(&format!("index search --model {model} --index idx --query 发烧 --json"));
    let expected: Value = serde_json::from_str(&stdout).unwrap();

    let line = format!("--model {model} --index idx --codes int8 --name care --api-key-file keys");
    let mut server = Running::start(&place, &line);
    assert_eq!(server.ask("GET", "/health", &json!({})), (200, json!({ "status": "ok" })));
    let (status, models) = server.ask("GET", "/v1/models", &json!({}));
    assert_eq!((status, &models["data"][0]["id"]), (200, &json!("care/query")));
    let (status, answer) = server.ask("POST", "/v1/embeddings", &json!({ "model": "care/query", "input": "发烧" }));
    assert_eq!((status, &answer["system_fingerprint"]), (200, &models["data"][0]["fingerprint"]));
    assert_eq!(answer["data"][0]["embedding"].as_array().unwrap().len() as u64, models["data"][0]["dimensions"]);
    // The same vectors, of both towers, as those of `care index`.
    let (status, found) = server.ask("POST", "/search", &json!({ "query": "发烧", "mode": "vector" }));
    assert_eq!(status, 200, "{found}");
    for (hit, expected) in found["hits"].as_array().unwrap().iter().zip(expected["hits"].as_array().unwrap()) {
        assert_eq!(hit["id"], expected["_id"]);
        assert!((hit["score"].as_f64().unwrap() - expected["score"].as_f64().unwrap()).abs() < 1e-5);
    }
    let added = json!({ "documents": [{ "id": "c", "text": "孩子咳嗽" }] });
    assert_eq!(server.ask("POST", "/documents", &added).1["documents"], 3);
    let (_, tokens) = server.ask("POST", "/query/tokenize", &json!({ "inputs": "发烧" }));
    assert_eq!(tokens[0][0]["special"], true);

    let stopped = Command::new("kill").args(["-TERM", &server.process.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    assert_eq!(server.process.wait().unwrap().code(), Some(0));
    let (_, info, _) = place.care("index info --index idx --json");
    assert_eq!(serde_json::from_str::<Value>(&info).unwrap()["documents"], 3);
}

#[test]
fn what_cannot_be_served_is_told() {
    let place = Place::new();
    let model = tiny("bert");
    place.file("keys", "# none\n\n");
    let line = format!("serve --port 0 --model {model}");
    place.fails(&format!("{line} --api-key-file keys"), "keys has no keys, so no request could be answered");
    place.fails(&format!("{line} --max-body 0"), "`max_body` is 0, allowed: at least 1");
    place.fails(
        &format!("{line} --codes int8"),
        "--codes and --approximate say how an index is searched; name it by --index",
    );
    place.file("corpus.jsonl", "{\"_id\":\"a\",\"text\":\"头痛先休息\"}\n");
    assert_eq!(place.care(&format!("index build --model {model} --index idx --corpus corpus.jsonl")).0, 0);
    for (index, problem) in [
        ("missing", "error: "),
        ("idx --codes binary", "error: the index idx has no binary codes (it has: int8); build it with them"),
        ("idx --approximate", "error: "),
    ] {
        let (status, _, stderr) = place.care(&format!("{line} --index {index}"));
        assert_eq!(status, 1, "{stderr}");
        assert!(stderr.trim_end().lines().last().unwrap().starts_with(problem), "{stderr}");
    }
}
