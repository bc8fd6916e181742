//! Batch files: written, answered in several forms and orders, and read back.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use care_label::batch::{Options, Read, Written, check, read, write};
use care_label::journal::read_votes;
use care_label::judge::Judges;
use care_label::{Journal, Pair, State, run};
use common::{Fault, Request, Response, Server, faulty, judge, pairs, prompt};
use serde_json::{Value, json};

struct Bench {
    folder: tempfile::TempDir,
    judges: Judges,
    pairs: Vec<Pair>,
}

/// The final score of each pair and judge, and the attempts it took.
type Votes = BTreeMap<(String, String, String), (State, Option<i32>, u32)>;

impl Bench {
    fn new(judges: &str, pairs: Vec<Pair>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), judges: Judges::from_toml(judges).unwrap(), pairs }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_with(&self, options: &Options) -> care_core::Result<Vec<Written>> {
        let journal = Journal::open(self.path("votes.jsonl")).unwrap();
        write(&self.pairs, &self.judges, &prompt(), &journal, self.path("batch"), options)
    }

    fn write(&self) -> Vec<Written> {
        self.write_with(&Options::default()).unwrap()
    }

    fn read(&self, outputs: &[PathBuf]) -> care_core::Result<Vec<Read>> {
        let mut journal = Journal::open(self.path("votes.jsonl")).unwrap();
        read(self.path("batch"), outputs, &self.pairs, &self.judges, &prompt(), &mut journal)
    }

    fn votes(&self) -> Votes {
        let mut votes = Votes::new();
        read_votes(self.path("votes.jsonl"), &mut |_, vote| {
            let [judge, query, document] =
                [&vote.judge, &vote.query_id, &vote.doc_id].map(|id| id.clone().into_owned());
            votes.insert((judge, query, document), (vote.state, vote.score, vote.attempt));
            Ok(())
        })
        .unwrap();
        votes
    }

    /// Puts lines into a file.
    fn file(&self, name: &str, lines: impl IntoIterator<Item = Value>) -> PathBuf {
        let text: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

/// A judge that is never called.
fn offline(name: &str) -> String {
    format!("[[judge]]\nname = '{name}'\nendpoint = 'http://127.0.0.1:1'\nmodel = 'model-{name}'\n")
}

/// Every request of these files, as the endpoint of the tests sees it.
fn requests(files: &[PathBuf]) -> Vec<(String, Request)> {
    let lines =
        files.iter().flat_map(|file| fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>());
    lines
        .map(|line| {
            let line: Value = serde_json::from_str(&line).unwrap();
            let id = line["custom_id"].as_str().unwrap().to_owned();
            let attempt = id.rsplit_once('-').unwrap().1.parse().unwrap();
            let body = line["body"].clone();
            (id, Request { path: String::new(), headers: Default::default(), body, attempt, tried: 3 })
        })
        .collect()
}

fn all_files(written: &[Written]) -> Vec<PathBuf> {
    written.iter().flat_map(|written| written.files.clone()).collect()
}

fn line(id: &str, response: &Response) -> Value {
    let body: Value = serde_json::from_str(&response.body).unwrap();
    json!({"id": "batch_req_1", "custom_id": id, "response": {"status_code": response.status, "request_id": "r", "body": body}, "error": null})
}

#[test]
fn batches_give_the_votes_of_online_calls() {
    let answers = |request: &Request| {
        let fault = [Fault::OutOfRange, Fault::Half, Fault::Refused, Fault::Filtered, Fault::Word, Fault::RefusedOnce];
        match fault.get((request.hash() % 15) as usize) {
            Some(fault) => faulty(*fault, request),
            None => Some(Response::score(request.score())),
        }
    };
    let server = Server::start(answers);
    let toml = judge("a", &server, "") + &judge("org/b", &server, "");
    let online = Bench::new(&toml, pairs(6, 5));
    let mut journal = Journal::open(online.path("votes.jsonl")).unwrap();
    let options = run::Options::default();
    let summary =
        run::judge_pairs(&online.pairs, &online.judges, &prompt(), &mut journal, &options, &mut |_| {}).unwrap();
    assert!(summary.is_complete());

    let batch = Bench::new(&toml, pairs(6, 5));
    let mut rounds = 0;
    loop {
        let written = batch.write_with(&Options::default().with_requests(7)).unwrap();
        let files = all_files(&written);
        if files.is_empty() {
            break;
        }
        rounds += 1;
        if rounds == 1 {
            let names: Vec<_> =
                files.iter().map(|file| file.strip_prefix(batch.path("batch")).unwrap().to_str().unwrap()).collect();
            assert_eq!((names.len(), names[0], names[9]), (10, "a/requests-001.jsonl", "org-b/requests-005.jsonl"));
            let checked = check(&files[5]).unwrap();
            assert_eq!((checked.requests, checked.model.as_str()), (7, "model-org/b"));
            let unread = batch.write_with(&Options::default()).unwrap_err().to_string();
            assert!(unread.contains("a/requests-001.jsonl: no answers to it were read"), "{unread}");
            assert_eq!(
                all_files(&batch.write_with(&Options::default().with_replace(true).with_requests(7)).unwrap()),
                files
            );
        }
        // In another order, errors in a file of their own.
        let mut lines: Vec<_> =
            requests(&files).iter().map(|(id, request)| line(id, &answers(request).unwrap())).collect();
        lines.reverse();
        let (good, bad): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line["response"]["status_code"] == 200);
        let outputs = [batch.file("errors.jsonl", bad), batch.file("output.jsonl", good)];
        let summaries = batch.read(&outputs).unwrap();
        assert!(summaries.iter().all(|summary| summary.missing + summary.known + summary.failed == 0), "{summaries:?}");
        let votes = fs::read(batch.path("votes.jsonl")).unwrap();
        let again = batch.read(&[outputs, [batch.path("output.jsonl"), batch.path("errors.jsonl")]].concat()).unwrap();
        assert!(again.iter().all(|summary| summary.known == summary.requests), "{again:?}");
        assert_eq!(fs::read(batch.path("votes.jsonl")).unwrap(), votes);
    }
    assert_eq!(rounds, 3);
    assert_eq!(batch.votes(), online.votes());
    let text = fs::read_to_string(batch.path("votes.jsonl")).unwrap();
    assert!(!text.contains("\"seconds\"") && text.contains("\"input_tokens\":600"));
}

#[test]
fn what_expired_or_failed_is_written_again_and_nothing_else() {
    let bench = Bench::new(&offline("a"), pairs(6, 1));
    let requests = requests(&all_files(&bench.write()));
    let id = |at: usize| requests[at].0.as_str();
    let message = |text: &str| json!({"choices": [{"message": {"content": text}}]});
    // vLLM: an error beside the response; older builds have no status.
    let lines = [
        json!({"id": "vllm-1", "custom_id": id(0), "response": {"request_id": "r", "body": message("{\"score\": 4}")}}),
        json!({"id": "vllm-2", "custom_id": id(1), "response": {"status_code": 400, "body": null}, "error": {"message": "too long", "code": 400}}),
        json!({"custom_id": id(2), "response": null, "error": {"code": "batch_expired", "message": "not executed in time"}}),
        json!({"custom_id": id(3), "response": {"status_code": 200, "body": message("?")}, "error": null, "more": [1]}),
        json!({"custom_id": id(4), "response": null, "error": {"code": "x", "message": "lost"}}),
    ];
    let output = bench.file("output.jsonl", lines);
    let summary = bench.read(std::slice::from_ref(&output)).unwrap().remove(0);
    let counts = [
        summary.requests,
        summary.scored,
        summary.unparsable,
        summary.refused,
        summary.failed,
        summary.known,
        summary.missing,
    ];
    assert_eq!(counts, [6, 1, 1, 0, 2, 0, 2]);
    assert_eq!(bench.read(&[output]).unwrap()[0].known, 4);
    let written = bench.write();
    let mut again: Vec<_> = self::requests(&all_files(&written)).into_iter().map(|(id, _)| id).collect();
    let second = id(3).replace("-1", "-2");
    let mut expected = vec![id(1).to_owned(), id(2).to_owned(), second, id(4).to_owned(), id(5).to_owned()];
    again.sort();
    expected.sort();
    assert_eq!(again, expected);
    // A second batch may answer what failed in the first.
    let good = |id: &String| json!({"custom_id": id, "response": {"status_code": 200, "body": message("5")}});
    let output = bench.file("second.jsonl", again.iter().map(good));
    assert_eq!(bench.read(&[output]).unwrap()[0].scored, 5);
    let none = bench.write();
    assert_eq!((none[0].requests, none[0].files.len()), (0, 0));
    assert_eq!(bench.votes().values().map(|(_, score, _)| score.unwrap()).sum::<i32>(), 29);
}

#[test]
fn outputs_that_do_not_fit_are_refused_before_anything_is_recorded() {
    let mut bench = Bench::new(&offline("a"), pairs(3, 1));
    let error = bench.read(&[]).unwrap_err().to_string();
    assert_eq!(error, "no batch files were written for these judges");
    let requests = requests(&all_files(&bench.write()));
    let answer = |at: usize, score: i32| line(&requests[at].0, &Response::score(score));
    let refused = |bench: &Bench, lines: Vec<Value>| {
        let output = bench.file("output.jsonl", lines);
        let error = bench.read(&[output]).unwrap_err().to_string();
        assert_eq!(fs::read(bench.path("votes.jsonl")).unwrap(), b"");
        error.replace(&bench.folder.path().display().to_string(), "F")
    };
    let foreign = json!({"custom_id": "mine-1", "response": null});
    let error = refused(&bench, vec![answer(0, 4), foreign]);
    assert_eq!(error, "F/output.jsonl:2: `custom_id` is `mine-1`, which is in no batch file");
    let error = refused(&bench, vec![answer(0, 4), answer(1, 4), answer(0, 3)]);
    assert_eq!(error, format!("F/output.jsonl:3: another answer to `{}` than in F/output.jsonl:1", requests[0].0));
    assert!(refused(&bench, vec![json!({"id": 1})]).starts_with("F/output.jsonl:1: missing field `custom_id`"));
    let texts = std::mem::replace(&mut bench.pairs, pairs(2, 1));
    let error = refused(&bench, vec![answer(0, 4)]);
    let expected =
        "F/batch/a/requests-001.jsonl:3: a request of other pairs, judges or another prompt: they have changed since";
    assert_eq!(error, expected);
    bench.pairs = texts;
    // The same answer twice, and an answer beside a failure.
    let failed = json!({"custom_id": requests[1].0, "response": null, "error": {"message": "x"}});
    let output = bench.file("output.jsonl", [answer(0, 4), answer(0, 4), failed, answer(1, 2)]);
    let summary = bench.read(&[output]).unwrap().remove(0);
    assert_eq!((summary.scored, summary.failed, summary.known, summary.missing), (2, 0, 0, 1));
}

#[test]
fn files_are_cut_by_size_and_checked() {
    let bench = Bench::new(&offline("a"), pairs(10, 2));
    let small = Options::default().with_bytes(12_000);
    let files = all_files(&bench.write_with(&small).unwrap());
    assert!(files.len() > 2);
    assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() <= 12_000));
    assert_eq!(requests(&files).len(), 20);
    let manifest: Value = serde_json::from_slice(&fs::read(bench.path("batch/a/manifest.json")).unwrap()).unwrap();
    assert_eq!(
        (manifest["model"].as_str(), manifest["files"].as_array().unwrap().len()),
        (Some("model-a"), files.len())
    );
    let refused = |options: Options| bench.write_with(&options.with_replace(true)).unwrap_err().to_string();
    assert_eq!(refused(Options::default().with_requests(50_001)), "`requests` is 50001, allowed: 1 to 50000");
    assert!(refused(Options::default().with_bytes(100)).starts_with("`bytes` is 100, allowed: at least "));

    let text = fs::read_to_string(&files[0]).unwrap();
    let problem = |text: String| {
        let path = bench.path("checked.jsonl");
        fs::write(&path, text).unwrap();
        check(&path).unwrap_err().to_string().replace(&path.display().to_string(), "F")
    };
    let first = text.lines().next().unwrap().to_owned();
    assert_eq!(problem(String::new()), "F: no requests");
    assert!(problem(format!("{first}\n{first}\n")).starts_with("F:2: `custom_id` is `"));
    assert!(problem(text[..text.len() / 2].into()).contains("EOF while parsing"));
    let second =
        |from: &str, to: &str| problem(format!("{first}\n{}\n", text.lines().nth(1).unwrap().replace(from, to)));
    assert_eq!(second("model-a", "model-b"), "F:2: `body.model` is `model-b`, allowed: `model-a` as on the first line");
    assert_eq!(second("POST", "GET"), "F:2: `method` is `GET`, allowed: POST");
    assert!(second("/v1/chat", "/v1/text").contains("F:2: `url` is `/v1/text/completions`"));
    assert!(second("\"messages\"", "\"message\"").ends_with("`body.messages` is absent or empty"));
    assert!(check(Path::new("no/such/file")).is_err());
    let colliding = Bench::new(&(offline("a/b") + &offline("a b")), pairs(1, 1));
    let error = colliding.write_with(&Options::default()).unwrap_err().to_string();
    assert_eq!(error, "`judge.name` is `a b`, allowed: names that differ as names of folders");
}
