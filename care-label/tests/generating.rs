//! Questions are written for documents by a chat endpoint, whatever its faults, online or in batch files.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use care_eval::Run;
use care_label::generate::{Filter, Reject, RoundTrip, Source, answers, requests, round_trip, select};
use care_label::judge::Judges;
use care_label::run::judge_pairs;
use care_label::{Journal, Prompt, batch};
use common::{Fault, Request, Response, Server, faulty, judge, options};
use serde_json::{Value, json};

fn documents(number: usize) -> Vec<Source> {
    let text = |at: usize| format!("第{at}号药可以治疗第{at}号病，每日三次，饭后服用。");
    (0..number).map(|at| Source { id: format!("d{at}"), text: text(at) }).collect()
}

/// The number of the document in a request, and its kind.
fn asked(body: &Value) -> (usize, usize) {
    let text = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap();
    let document = text.split('第').nth(1).unwrap().split('号').next().unwrap().parse().unwrap();
    (document, ["关键词式", "口语化", "医务人员"].iter().position(|kind| text.contains(kind)).unwrap())
}

fn written(body: &Value) -> Vec<String> {
    let (document, kind) = asked(body);
    match kind {
        0 => vec![format!("{document}号病 药"), format!("{document}号病，药")],
        1 => vec![format!("得了{document}号病吃什么药？"), "怎么吃药".into(), "说明书".into()],
        _ => vec![format!("{document}号药的用法用量是什么？"), String::new()],
    }
}

fn writer(request: &Request) -> Option<Response> {
    let (document, kind) = asked(&request.body);
    let list = json!({ "questions": written(&request.body) }).to_string();
    match (document % 5, kind) {
        (1, 0) => {
            faulty(Fault::CutOff, request).filter(|_| request.attempt == 1).or_else(|| Some(Response::content(list)))
        }
        (2, 0) => Some(Response::content("好的，没有问题。")),
        (3, 0) => faulty(Fault::Refused, request),
        (4, 0) => Some(Response::content(format!("1. {document}号病 药\n2、{document}号病，药"))),
        _ => Some(Response::content(format!("```json\n{list}\n```"))),
    }
}

#[test]
fn questions_are_written_read_filtered_and_checked_by_retrieval() {
    let prompt = Prompt::open("query-generation").unwrap();
    let requests = requests(&documents(10), &prompt).unwrap();
    assert_eq!(requests.len(), 30);
    let server = Server::start(writer);
    let judges = Judges::from_toml(&format!("prompt = 'query-generation'\n{}", judge("a", &server, ""))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path().join("answers.jsonl")).unwrap();
    let summary = judge_pairs(&requests, &judges, &prompt, &mut journal, &options(), &mut |_| {}).unwrap();
    let writer = &summary.judges[0];
    // Cut off is asked again; no list and refusals have no answer.
    assert_eq!((writer.scored, writer.unparsable, writer.refused, writer.open()), (26, 2, 2, 0));
    assert_eq!(server.last().body.get("response_format"), None);

    let found = answers(&requests, &judges, &prompt, journal.path()).unwrap();
    assert_eq!(found.len(), 26);
    let selection = select(&found, &requests, &prompt, &Filter::default()).unwrap();
    // 6 keyword queries once each, 10 of patients and one that all share, 10 of clinicians.
    assert_eq!((selection.questions.len(), selection.shared), (6 + 10 + 1 + 10, 9));
    let rejected: Vec<_> = selection.rejected.iter().map(|(reject, number)| (*reject, *number)).collect();
    assert_eq!(rejected, [(Reject::Empty, 10), (Reject::NoQuestion, 10), (Reject::Duplicate, 6)]);
    assert_eq!(selection.written, (selection.questions.len() as u64) + 9 + 26);

    // The shared question finds only the first document.
    let ranking = selection.questions.iter().map(|question| (question.id.as_str(), question.doc_ids[0].as_str(), 1.0));
    let runs = [("bm25".to_owned(), Run::from_scores(ranking).unwrap())];
    let trip = round_trip(selection.questions.clone(), &runs, RoundTrip::default().with_depth(1)).unwrap();
    assert_eq!((trip.kept.len(), trip.lost.len()), (27, 0));
    assert!(trip.kept.iter().all(|question| question.doc_ids.len() == 1));

    // A second run asks nothing, and other texts are other requests.
    let calls = server.calls();
    judge_pairs(&requests, &judges, &prompt, &mut journal, &options(), &mut |_| {}).unwrap();
    assert_eq!(server.calls(), calls);
    let mut others = requests.clone();
    others.iter_mut().for_each(|request| request.document.push('。'));
    assert!(answers(&others, &judges, &prompt, journal.path()).unwrap().is_empty());
}

#[test]
fn batch_files_serve_requests_too() {
    let prompt = Prompt::open("query-generation").unwrap();
    let requests = requests(&documents(4), &prompt).unwrap();
    let fields = "structured = 'json_schema'";
    let toml = format!("[[judge]]\nname = 'a'\nendpoint = 'http://h'\nmodel = 'm'\n{fields}");
    let judges = Judges::from_toml(&toml).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path().join("answers.jsonl")).unwrap();
    let batches = folder.path().join("batches");
    let files = batch::write(&requests, &judges, &prompt, &journal, &batches, &batch::Options::default()).unwrap();
    let lines = fs::read_to_string(&files[0].files[0]).unwrap();
    assert_eq!(lines.lines().count(), 12);
    let output: String = lines
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let schema = &line["body"]["response_format"]["json_schema"]["schema"];
            assert_eq!(schema["required"], json!(["questions"]));
            let content = json!({ "questions": written(&line["body"]) }).to_string();
            let body = json!({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]});
            json!({"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}}).to_string() + "\n"
        })
        .collect();
    let answer = folder.path().join("output.jsonl");
    fs::write(&answer, output).unwrap();
    let read = batch::read(&batches, &[answer], &requests, &judges, &prompt, &mut journal).unwrap();
    assert_eq!((read[0].scored, read[0].missing), (12, 0));
    assert_eq!(answers(&requests, &judges, &prompt, journal.path()).unwrap().len(), 12);
}
