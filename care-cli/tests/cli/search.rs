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
        assert!(stderr.ends_with(" of 3 vectors came from the cache\n"), "{stderr}");
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
fn all_fields_of_a_document_are_printed() {
    let place = Place::new();
    place.file(
        "corpus.jsonl",
        "{\"_id\":1,\"title\":\"头痛\",\"text\":\"多休息\",\"year\":2024,\"note\":null,\"metadata\":{\"department\":\"内科\",\"more\":{\"a\":[1]}}}\n",
    );
    for model in ["bm25".to_owned(), tiny("bert")] {
        let line = format!("search --model {model} --corpus corpus.jsonl --query 头痛");
        let (status, stdout, stderr) = place.care(&line);
        assert_eq!(status, 0, "{stderr}");
        let hit = &serde_json::from_str::<Value>(&stdout).unwrap()["hits"][0];
        assert_eq!(hit["metadata"], json!({"department": "内科", "more": {"a": [1]}, "year": 2024}));
        let (status, pretty, _) = place.care(&format!("{line} --pretty"));
        let lines: Vec<&str> = pretty.lines().collect();
        assert_eq!((status, lines.len(), lines[0]), (0, 4, "头痛: 1 document"), "{pretty}");
        assert!(lines[1].starts_with("  1  ") && lines[1].ends_with("  1  头痛"), "{pretty}");
        assert_eq!(lines[2..], ["     多休息", "     department=内科  more={\"a\":[1]}  year=2024"]);
        assert_eq!(place.care(&format!("{line} --json")).1, stdout);
    }
    place.refuses("search --model bm25 --corpus corpus.jsonl --query x --json --pretty", "cannot be used with");
}

#[test]
fn documents_without_text_are_warned_of_and_empty_queries_refused_before_the_work() {
    let place = Place::new();
    place.file("one.jsonl", "{\"_id\":1,\"text\":\"头痛\"}\n\n{\"_id\":2,\"text\":\" \"}\n");
    place.file("two.csv", "_id,title,text\n1,,\" \"\n2,头痛,\" \"\n3,,\" \"\n4,,头痛\n");
    for (corpus, warning) in [
        ("one.jsonl", "warning: one.jsonl:3: the document is empty\n"),
        ("two.csv", "warning: two.csv:2: the document is empty, the first of 2\n"),
    ] {
        let (status, _, stderr) = place.care(&format!("search --model bm25 --corpus {corpus} --query 头痛"));
        assert_eq!((status, stderr.as_str()), (0, warning));
    }
    place.fails("search --model none --corpus none.jsonl --query ~", "the query is empty");
    std::fs::create_dir(place.path("folder")).unwrap();
    place.fails(
        "search --model bm25 --corpus folder --query x",
        "folder: a folder; --corpus is a file of documents, e.g. a corpus.jsonl in it",
    );
    place.file("corpus.txt", "头痛多休息\n");
    place.fails(
        "search --model bm25 --corpus corpus.txt --query x",
        "corpus.txt:1: the line is no JSON object, of which JSON Lines holds one per line",
    );
    place.fails("index search --model none --index none --query ~", "the query is empty");
}

/// Parquet with numeric ids, which `care embed` wrote.
#[test]
fn a_parquet_corpus_is_searched_and_embedded_again() {
    let place = Place::new();
    place.file(
        "corpus.jsonl",
        "{\"_id\":3,\"text\":\"头痛先休息\"}\n{\"id\":\"x\",\"text\":\"少吃盐\"}\n{\"text\":\"\"}\n",
    );
    let embed = |input: &str, output: &str| {
        let line = format!("embed --model {} --role document --input {input} --output {output}", tiny("bert"));
        let (status, _, stderr) = place.care(&line);
        assert_eq!(status, 0, "{stderr}");
    };
    embed("corpus.jsonl", "a.jsonl");
    embed("corpus.jsonl", "a.parquet");
    embed("a.parquet", "b.jsonl");
    let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    let rows = read("a.jsonl");
    assert!(rows.starts_with("{\"_id\":\"3\",\"text\":\"头痛先休息\",\"embedding\":["), "{rows}");
    assert!(rows.contains("\n{\"_id\":\"x\",") && rows.contains("\n{\"text\":\"\",\"embedding\":["), "{rows}");
    assert_eq!(read("b.jsonl"), rows);
    let mut vectors = Vec::new();
    cmedteb::for_each_row(place.path("a.parquet"), &mut |_, row: Value| {
        vectors.push(row["embedding"].clone());
        Ok(())
    })
    .unwrap();
    let as_f32 = |value: &Value| -> Vec<f32> { serde_json::from_value(value.clone()).unwrap() };
    for (row, vector) in rows.lines().zip(&vectors) {
        let row: Value = serde_json::from_str(row).unwrap();
        assert_eq!(as_f32(&row["embedding"]), as_f32(vector));
    }
    place.file("ids.jsonl", "{\"_id\":3,\"text\":\"头痛先休息\"}\n{\"_id\":4,\"text\":\"少吃盐\"}\n");
    embed("ids.jsonl", "ids.parquet");
    let (status, stdout, stderr) = place.care("search --model bm25 --corpus ids.parquet --query 吃盐");
    let hit = &serde_json::from_str::<Value>(&stdout).unwrap()["hits"][0];
    assert_eq!((status, &hit["_id"], &hit["text"]), (0, &json!("4"), &json!("少吃盐")), "{stderr}");
}

/// Runs `care` in a terminal of 60 columns, and returns what is on the screen.
#[cfg(target_os = "linux")]
fn on_a_terminal(place: &Place, line: &str, input: &[u8]) -> Option<String> {
    use std::process::Command;
    // util-linux; other systems have another one of this name.
    if !Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return None;
    }
    let care = assert_cmd::cargo::cargo_bin("care").display().to_string();
    let mut child = Command::new("script")
        .current_dir(place.0.path())
        .args(["-qec", &format!("stty cols 60 rows 30; {care} {line}"), "typescript"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn a_person_is_asked_for_queries_and_reads_the_hits() {
    let place = Place::new();
    let text = "头痛先休息，".repeat(60);
    place
        .file("corpus.jsonl", &format!("{{\"_id\":\"a\",\"text\":\"{text}\"}}\n{{\"_id\":\"b\",\"text\":\"发烧\"}}\n"));
    // An empty line is no query; Ctrl-D ends.
    let line = format!("search --model {} --corpus corpus.jsonl", tiny("bert"));
    let Some(screen) = on_a_terminal(&place, &line, "\n头痛\n\u{4}".as_bytes()) else { return };
    let at = |part: &str| screen.find(part).unwrap_or_else(|| panic!("{part}: {screen}"));
    let order =
        ["reading corpus.jsonl", "loading ", "ready: 2 documents. Ask a question", "头痛: 2 documents", "\n  1  "];
    assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "{screen}");
    assert!(
        screen.matches("query> ").count() >= 2 && screen.contains(" ..\r\n") && !screen.contains("\"hits\""),
        "{screen}"
    );
    assert!(
        screen.lines().filter(|line| line.contains("头痛先休息")).all(|line| line.chars().count() <= 36),
        "{screen}"
    );
    assert!(!screen.contains("error"), "{screen}");

    // A program's output is JSON, also beside a terminal.
    let Some(screen) = on_a_terminal(&place, &format!("{line} --query 头痛 | cat"), b"") else { return };
    assert!(screen.contains("{\"query\":\"头痛\",\"hits\":["), "{screen}");
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
        // What takes long is said before it begins.
        let signs: Vec<&str> =
            stderr.lines().map(|line| line.split_once(' ').unwrap_or((line, "")).0).take(2).collect();
        let expected = if line.starts_with("eval") { ["loading", "query"] } else { ["reading", "loading"] };
        assert_eq!(signs, expected, "{stderr}");
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
