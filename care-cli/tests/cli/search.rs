//! `care search`

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Place, messages, tiny};

#[test]
fn search_answers_a_query_or_every_line_of_stdin() {
    let place = Place::new();
    place.file(
        "corpus.jsonl",
        "{\"_id\":\"a\",\"title\":\"头痛\",\"text\":\"头痛多休息\"}\n{\"_id\":\"b\",\"text\":\"发烧三天\"}\n{\"_id\":\"c\",\"text\":\"孩子咳嗽\"}\n",
    );
    let base = format!("search --model {} --pooling mean --corpus corpus.jsonl", tiny("bert"));
    let (status, stdout, stderr) = place.care(&format!("{base} --query 发烧三天 --top-k 2"));
    assert_eq!(status, 0, "{stderr}");
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(answer["query"], "发烧三天");
    let hits = answer["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 2);
    assert_eq!((&hits[0]["_id"], &hits[0]["rank"], &hits[0]["text"]), (&json!("b"), &json!(1), &json!("发烧三天")));
    assert!((hits[0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-5);

    let (status, stdout, _) = place.care_with(&base, "发烧三天\n孩子咳嗽\n");
    assert_eq!(status, 0);
    let best: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["hits"][0]["_id"].clone()).collect();
    assert_eq!(best, [json!("b"), json!("c")]);

    // Cached vectors produce the same answers; the second time none is computed.
    for _ in 0..2 {
        let (status, again, stderr) = place.care_with(&format!("{base} --cache cache"), "发烧三天\n孩子咳嗽\n");
        assert_eq!((status, again.as_str()), (0, stdout.as_str()), "{stderr}");
        let towers: Vec<_> = std::fs::read_dir(place.path("cache")).unwrap().collect();
        assert_eq!(towers.len(), 1);
        let shards = std::fs::read_dir(towers[0].as_ref().unwrap().path()).unwrap();
        assert_eq!(shards.count(), 1);
    }

    place.file("empty.jsonl", "\n");
    place.file("bad.jsonl", "{\"_id\":\"a\",\"text\":\"x\"}\n{\"_id\":\"a\"}\n");
    let bert = tiny("bert");
    place.fails(&format!("search --model {bert} --corpus empty.jsonl --query x"), "empty.jsonl: the corpus is empty");
    place.fails(
        &format!("search --model {bert} --corpus bad.jsonl --query x"),
        "bad.jsonl:2: missing field `text` (column 11)",
    );
    place.fails(
        &format!("search --model {bert} --corpus none.jsonl --query x"),
        "cannot open none.jsonl: No such file or directory (os error 2)",
    );
    place.refuses(&format!("{base} --query x --top-k 0"), "0 is not in 1..");
}

#[test]
fn words_and_vectors_are_searched_together() {
    let place = Place::new();
    place.file(
        "corpus.jsonl",
        "{\"_id\":\"a\",\"text\":\"头痛多休息\"}\n{\"_id\":\"b\",\"text\":\"发烧三天\"}\n{\"_id\":\"c\",\"text\":\"孩子咳嗽\"}\n",
    );
    let hits = |options: &str| {
        let (status, stdout, stderr) = place.care(&format!("search {options} --corpus corpus.jsonl --query 发烧三天"));
        assert_eq!(status, 0, "{stderr}");
        serde_json::from_str::<Value>(&stdout).unwrap()["hits"].as_array().unwrap().clone()
    };
    let model = format!("--model {} --pooling mean", tiny("bert"));
    let (words, vectors) = (hits("--model bm25"), hits(&model));
    // Only one document has a bigram of the query.
    assert_eq!((words.len(), &words[0]["_id"], vectors.len()), (1, &json!("b"), 3));
    for (fusion, best) in [("rrf", 2.0 / 61.0), ("weighted", 1.0), ("weighted:0.25", 1.0)] {
        let fused = hits(&format!("{model} --hybrid {fusion}"));
        assert_eq!((fused.len(), &fused[0]["_id"]), (3, &json!("b")), "{fusion}");
        assert_eq!((&fused[0]["bm25"], &fused[0]["vector"]), (&words[0]["score"], &vectors[0]["score"]));
        assert!((fused[0]["score"].as_f64().unwrap() - best).abs() < 1e-6, "{fusion}");
        assert_eq!(fused[1]["bm25"], Value::Null);
    }
    assert!(vectors[0].get("bm25").is_none());
    place.fails(
        "search --model bm25 --hybrid rrf --corpus corpus.jsonl --query x",
        "--hybrid fuses a model with bm25, so --model must be another",
    );
    place.refuses(
        &format!("search {model} --hybrid sum --corpus corpus.jsonl --query x"),
        "`hybrid` is `sum`, allowed: rrf, weighted or weighted:W, with the weight W of vectors from 0 to 1",
    );
}

#[test]
fn a_corpus_is_read_as_in_an_evaluation() {
    let place = Place::new();
    place.file("ints.jsonl", "{\"_id\":3,\"title\":\"\",\"text\":\"头痛先休息\"}\n{\"_id\":4,\"text\":\"少吃盐\"}\n");
    place.file(
        "id.jsonl",
        "{\"id\":\"3\",\"title\":null,\"text\":\" 头痛先休息\\n\"}\n{\"id\":\"4\",\"text\":\"少吃盐\"}\n",
    );
    place.file("table.csv", "text,_id\n头痛先休息,3\n少吃盐,4\n");
    let bert = tiny("bert");
    let answers = ["ints.jsonl", "id.jsonl", "table.csv"].map(|corpus| {
        let (status, stdout, stderr) =
            place.care(&format!("search --model {bert} --corpus {corpus} --query 头痛先休息"));
        assert_eq!(status, 0, "{stderr}");
        stdout
    });
    assert!(answers[0].contains("\"_id\":\"3\"") && answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    place.file("twice.jsonl", "{\"_id\":1,\"text\":\"a\"}\n\n{\"_id\":\"1\",\"text\":\"b\"}\n");
    let line = format!("search --model {bert} --corpus twice.jsonl --query x");
    place.fails(&line, "twice.jsonl:3: duplicate `_id` \"1\", first on line 1");
    place.fails(&format!("search --model {bert} --corpus ints.jsonl --query ~"), "the query is empty");
}

#[test]
fn a_bad_line_of_stdin_is_answered_and_the_next_one_read() {
    let place = Place::new();
    place.file("corpus.jsonl", "{\"_id\":\"a\",\"text\":\"头痛\"}\n");
    let output = assert_cmd::Command::cargo_bin("care")
        .unwrap()
        .current_dir(place.0.path())
        .args(["search", "--model", &tiny("bert"), "--corpus", "corpus.jsonl"])
        .write_stdin(
            [&b"\xef\xbb\xbf"[..], "头痛\n".as_bytes(), b"\xff\n", b" \n", b"\xb7\xa2\xc9\xd5\r\n", "发烧".as_bytes()]
                .concat(),
        )
        .output()
        .unwrap();
    let lines: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["query"], &lines[4]["query"], lines.len()), (&json!("头痛"), &json!("发烧"), 5));
    assert_eq!(lines[1], json!({"line": 2, "error": "stdin:2: not valid UTF-8 text"}));
    assert_eq!(lines[2], json!({"line": 3, "error": "stdin:3: the query is empty"}));
    assert!(lines[3]["error"].as_str().unwrap().starts_with("stdin:4: not valid UTF-8 text; it looks like GB18030"));
    let stderr = messages(&String::from_utf8(output.stderr).unwrap());
    assert_eq!(
        (output.status.code(), stderr.as_str()),
        (Some(1), "error: 3 of 5 lines of stdin could not be answered\n")
    );
}

#[test]
fn without_a_terminal_progress_begins_with_a_line() {
    let place = Place::new();
    let rows = "{\"_id\":\"a\",\"text\":\"头痛\"}\n{\"_id\":\"b\",\"text\":\"发烧\"}\n";
    place.file("own/corpus.jsonl", rows);
    place.file("own/queries.jsonl", "{\"_id\":\"q\",\"text\":\"头痛\"}\n");
    place.file("own/qrels.tsv", "query-id\tcorpus-id\tscore\nq\ta\t1\n");
    for (line, begin) in [
        ("search --corpus own/corpus.jsonl --query 头痛", "embedding the corpus: 0/2 documents"),
        ("eval --task own --output results", "own: 0/3 texts"),
        ("embed --role query --input own/corpus.jsonl --output o.npy", "embedding: 0/2 texts"),
    ] {
        let output = assert_cmd::Command::cargo_bin("care")
            .unwrap()
            .current_dir(place.0.path())
            .args(line.split(' '))
            .args(["--model", &tiny("bert")])
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr.lines().filter(|line| line.contains(": 0/")).collect::<Vec<_>>(), [begin], "{stderr}");
        // A short run has no other lines.
        assert!(output.status.success() && !stderr.contains("/s"), "{stderr}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let place = Place::new();
    place.file("corpus.jsonl", "{\"_id\":\"a\",\"text\":\"头痛\"}\n");
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("care"))
        .current_dir(place.0.path())
        .args(["search", "--model", &tiny("bert"), "--corpus", "corpus.jsonl"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all("头痛\n发烧\n".as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = messages(&String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
}
