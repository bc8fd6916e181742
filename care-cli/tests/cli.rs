//! Every command, and every bad input with its message and exit status.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use assert_cmd::Command;
use ndarray::Array2;
use serde_json::{Value, json};

/// A folder to work in.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Runs `care` here: exit status, stdout, and stderr with this folder written as `.`.
    fn care(&self, line: &str) -> (i32, String, String) {
        self.care_with(line, "")
    }

    fn care_with(&self, line: &str, input: &str) -> (i32, String, String) {
        let arguments = line.split_whitespace().map(|part| part.replace('~', " "));
        let output = Command::cargo_bin("care")
            .unwrap()
            .current_dir(self.0.path())
            .args(arguments)
            .write_stdin(input)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Runs `care` and expects it to fail in its work.
    fn fails(&self, line: &str, message: &str) {
        let (status, stdout, stderr) = self.care(line);
        assert_eq!(
            (status, stderr.trim_end(), stdout.as_str()),
            (1, format!("error: {message}").as_str(), ""),
            "{line}"
        );
    }

    /// Runs `care` and expects its command line to be refused.
    fn refuses(&self, line: &str, message: &str) {
        let (status, stdout, stderr) = self.care(line);
        assert_eq!((status, stdout.as_str()), (2, ""), "{line}: {stderr}");
        assert!(stderr.contains(message), "{line}: {stderr}");
    }
}

fn tiny(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../care-encoders/tests/data").join(name).display().to_string()
}

fn read_npy(path: &Path) -> Array2<f32> {
    ndarray_npy::read_npy(path).unwrap()
}

const TEXTS: &str = "高血压患者能吃党参吗？\n\n头痛发烧三天\n";

#[test]
fn embed_writes_vectors_in_input_order_whatever_the_batches() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    place.file("texts.jsonl", "{\"text\":\"高血压患者能吃党参吗？\"}\n{\"text\":\"\"}\n{\"query\":\"头痛发烧三天\"}\n");
    let base = format!("embed --model {} --role query --max-length 40", tiny("bert"));
    for (input, output, more) in
        [("texts.txt", "a.npy", ""), ("texts.jsonl", "b.npy", "--batch-tokens 1"), ("texts.txt", "c.jsonl", "")]
    {
        let (status, stdout, stderr) = place.care(&format!("{base} --input {input} --output {output} {more}"));
        assert_eq!((status, stdout.as_str()), (0, ""), "{stderr}");
        assert_eq!(stderr, "3 query vectors of 64 dimensions\n");
    }
    let one = read_npy(&place.path("a.npy"));
    assert_eq!(one.dim(), (3, 64));
    let two = read_npy(&place.path("b.npy"));
    assert!(one.iter().zip(&two).all(|(a, b)| (a - b).abs() < 1e-5));
    for (line, row) in fs::read_to_string(place.path("c.jsonl")).unwrap().lines().zip(one.rows()) {
        let parsed: Value = serde_json::from_str(line).unwrap();
        let vector: Vec<f32> = serde_json::from_value(parsed["embedding"].clone()).unwrap();
        assert_eq!(vector, row.to_vec());
    }
}

#[test]
fn embed_options_change_what_they_say() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    let embed = |more: &str| {
        let line = format!("embed --model {} --role document --input texts.txt --output o.npy {more}", tiny("bert"));
        let (status, _, stderr) = place.care(&line);
        assert_eq!(status, 0, "{stderr}");
        read_npy(&place.path("o.npy"))
    };
    let plain = embed("");
    let length = |row: usize, matrix: &Array2<f32>| matrix.row(row).dot(&matrix.row(row)).sqrt();
    assert!((length(0, &plain) - 1.0).abs() < 1e-5);
    assert!((length(0, &embed("--no-normalize")) - 1.0).abs() > 0.1);
    assert_eq!(embed("--dim 16").dim(), (3, 16));
    assert_ne!(embed("--pooling mean"), plain);
    assert_ne!(embed("--instruction passage:~"), plain);
    assert_eq!(embed("--instruction {text}"), plain);
    assert_ne!(embed("--max-length 5").row(0), plain.row(0));
    let half = embed("--precision bf16");
    assert!(half != plain && half.row(0).dot(&plain.row(0)) > 0.999);
}

#[test]
fn odd_texts_have_vectors() {
    let place = Place::new();
    let odd = [json!(""), json!("  \t "), json!("🤒😷"), json!("痛".repeat(100_000)), json!("\u{0}\u{feff}")];
    let rows: String = odd.iter().map(|text| format!("{}\n", json!({"text": text}))).collect();
    place.file("odd.jsonl", &rows);
    for model in ["bert", "qwen3"] {
        let line = format!("embed --model {} --role document --input odd.jsonl --output odd.npy", tiny(model));
        let (status, _, stderr) = place.care(&line);
        assert_eq!(status, 0, "{stderr}");
        let vectors = read_npy(&place.path("odd.npy"));
        assert_eq!(vectors.nrows(), 5);
        assert!(vectors.iter().all(|component| component.is_finite()));
    }
}

#[test]
fn bad_embed_input_is_refused_and_leaves_no_output() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    place.file("broken.jsonl", "{\"text\":\"a\"}\n{\"text\":\n");
    place.file("missing.jsonl", "{\"text\":\"a\"}\n\n{\"title\":\"b\"}\n");
    place.file("number.jsonl", "{\"text\":5}\n");
    let bert = tiny("bert");
    let embed = |model: &str, input: &str, more: &str| {
        format!("embed --model {model} --role query --input {input} --output out.npy {more}")
    };
    place.fails(&embed("nowhere", "texts.txt", ""), "nowhere: no such model folder");
    place.fails(&embed(&bert, "none.txt", ""), "cannot read none.txt: No such file or directory (os error 2)");
    place.fails(&embed(&bert, "none.jsonl", ""), "cannot open none.jsonl: No such file or directory (os error 2)");
    place.fails(&embed(&bert, "broken.jsonl", ""), "broken.jsonl:2: EOF while parsing a value (column 8)");
    place.fails(&embed(&bert, "missing.jsonl", ""), "missing.jsonl:3: missing field `text` (or `query`)");
    place.fails(
        &embed(&bert, "number.jsonl", ""),
        "number.jsonl:1: invalid type: integer `5`, expected a string (column 9)",
    );
    place.fails(&embed(&bert, "texts.csv", ""), "texts.csv: texts are read from .txt or .jsonl files");
    place.fails(
        &embed(&bert, "texts.txt", "--max-length 0"),
        "`max_length` is 0, allowed: at least 3, since the tokenizer adds 2 special tokens",
    );
    place.fails(
        &embed(&bert, "texts.txt", "--dim 65"),
        "an embedding of 65 dimensions cannot be cut from the tower's 64",
    );
    place.fails(&embed(&bert, "texts.txt", "--batch-tokens 0"), "`batch_tokens` is 0, allowed: at least 1");
    #[cfg(not(feature = "cuda"))]
    place.fails(
        &embed(&bert, "texts.txt", "--device cuda:0"),
        "device `cuda:0` is not compiled in: build with the Cargo feature `cuda`",
    );
    let line = format!("embed --model {bert} --role query --input texts.txt --output");
    place.fails(&format!("{line} none/out.npy"), "cannot write none/out.npy: there is no folder none");
    place.fails(&format!("{line} out.bin"), "out.bin: vectors are written to .npy or .jsonl files");
    let left: Vec<_> = fs::read_dir(place.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "only the inputs are here: {left:?}");

    place.refuses("embed", "the following required arguments were not provided");
    place.refuses(&format!("{line} out.npy --pooling max"), "`pooling` is \"max\", allowed: cls, mean, last-token");
    place.refuses(&format!("{line} out.npy --device gpu"), "`device` is \"gpu\", allowed: cpu, wgpu, cuda, cuda:0");
    place.refuses(&format!("{line} out.npy --precision f64"), "`precision` is \"f64\", allowed: f32, bf16, f16");
    place.refuses(&format!("{line} out.npy --dim x"), "invalid value 'x' for '--dim <N>'");
    place.refuses("embed --role both", "possible values: query, document");
    place.refuses("wobble", "unrecognized subcommand 'wobble'");
}

#[test]
fn a_spoiled_model_folder_is_refused() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    let spoil = |name: &str, change: &dyn Fn(&Path)| {
        let folder = place.path(name);
        fs::create_dir(&folder).unwrap();
        for entry in fs::read_dir(tiny("bert")).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
        change(&folder);
        format!("embed --model {name} --role query --input texts.txt --output out.npy")
    };
    let config = |field: &str, value: Value| {
        let field = field.to_owned();
        move |folder: &Path| {
            let path = folder.join("config.json");
            let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            config[&field] = value.clone();
            fs::write(path, config.to_string()).unwrap();
        }
    };
    place.fails(
        &spoil("type", &config("model_type", json!("t5"))),
        "type/config.json: `model_type` is \"t5\", allowed: bert, qwen3",
    );
    place.fails(
        &spoil("shape", &config("type_vocab_size", json!(3))),
        "shape: tensor `embeddings.token_type_embeddings.weight` has shape [2, 64], expected [3, 64]",
    );
    place.fails(
        &spoil("lacks", &|folder| fs::remove_file(folder.join("tokenizer.json")).unwrap()),
        "cannot read lacks/tokenizer.json: No such file or directory (os error 2)",
    );
    place.fails(
        &spoil("swap", &|folder| {
            fs::copy(Path::new(&tiny("qwen3")).join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
        }),
        "the query tower's tokenizer has 320 ids but the embedding table 200 rows",
    );
    place.fails(
        &spoil("half", &|folder| fs::create_dir(folder.join("query_0_Transformer")).unwrap()),
        "half: half written: it has a tower but no care.json",
    );
}

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
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

#[test]
fn metrics_prints_the_documented_json() {
    let place = Place::new();
    place.file("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t2\nq2\td9\t1\n");
    place.file("run.trec", "q1 Q0 d1 1 2.0 x\nq1 Q0 d3 2 1.5 x\nq1 Q0 d2 3 1.0 x\n");
    let base = "metrics --qrels qrels.tsv --run run.trec --measures ndcg@10,map@10,mrr@10,recall@2";
    let json_of = |line: &str| -> Value {
        let (status, stdout, stderr) = place.care(line);
        assert_eq!((status, stderr.as_str()), (0, ""));
        serde_json::from_str(&stdout).unwrap()
    };
    let dropped = json_of(base);
    assert_eq!(
        (&dropped["queries"], &dropped["missing"], &dropped["ties"]),
        (&json!(1), &json!("drop"), &json!("trec_eval"))
    );
    assert!(dropped.get("per_query").is_none());
    let ndcg = (1.0 + 2.0 / 4f64.log2()) / (2.0 + 1.0 / 3f64.log2());
    let near = |value: &Value, expected: f64| assert!((value.as_f64().unwrap() - expected).abs() < 1e-12, "{value}");
    near(&dropped["measures"]["ndcg@10"], ndcg);
    near(&dropped["measures"]["map@10"], (1.0 + 2.0 / 3.0) / 2.0);
    near(&dropped["measures"]["mrr@10"], 1.0);
    near(&dropped["measures"]["recall@2"], 0.5);
    let zero = json_of(&format!("{base} --missing zero --per-query"));
    assert_eq!((&zero["queries"], &zero["missing"]), (&json!(2), &json!("zero")));
    near(&zero["measures"]["ndcg@10"], ndcg / 2.0);
    near(&zero["per_query"]["q1"]["ndcg@10"], ndcg);
    near(&zero["per_query"]["q2"]["ndcg@10"], 0.0);
}

#[test]
fn bad_metrics_input_is_refused() {
    let place = Place::new();
    place.file("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\tgood\n");
    place.file("good.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n");
    place.file("run.trec", "q1 Q0 d1 1 2.0 x\nq1 Q0 d3 2\n");
    place.file("other.trec", "q7 Q0 d1 1 2.0 x\n");
    let metrics = |qrels: &str, run: &str| format!("metrics --qrels {qrels} --run {run} --measures ndcg@10");
    for (line, start) in [
        (metrics("none.tsv", "run.trec"), "error: cannot "),
        (metrics("qrels.tsv", "other.trec"), "error: qrels.tsv:2: "),
        (metrics("good.tsv", "run.trec"), "error: run.trec:2: "),
        (metrics("good.tsv", "other.trec"), "error: no query "),
    ] {
        let (status, stdout, stderr) = place.care(&line);
        assert_eq!((status, stdout.as_str()), (1, ""), "{line}");
        assert!(stderr.starts_with(start), "{line}: {stderr}");
    }
    for measures in ["ndgc@10", "ndcg@0", "ndcg@ten", "recall"] {
        let (status, _, stderr) =
            place.care(&format!("metrics --qrels good.tsv --run other.trec --measures {measures}"));
        assert_eq!(status, 2, "{stderr}");
        assert!(stderr.contains(measures), "{stderr}");
    }
    place.refuses(&format!("{} --missing skip", metrics("a", "b")), "skip");
}

#[test]
fn eval_writes_a_report_and_a_ranking_a_task() {
    let place = Place::new();
    let base = format!("eval --model {} --max-length 48 --pooling mean --output results --task", tiny("bert"));
    let (status, stdout, stderr) = place.care(&format!("{base} mini-sts mini-reranking"));
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.lines().any(|line| line.starts_with("mini-sts\tcosine_spearman\t")), "{stdout}");
    assert!(stdout.lines().any(|line| line.starts_with("mini-reranking\tmap_at_10\t")), "{stdout}");
    let report: Value = serde_json::from_slice(&fs::read(place.path("results/mini-sts.json")).unwrap()).unwrap();
    assert_eq!(report["task_name"], "mini-sts");
    assert_eq!(report["care"]["settings"]["query"]["max_length"], 48);

    // A folder of one's own: written by `demo-data`, cut down, and evaluated with both rankings equal.
    let folder = place.path("own");
    place.file("own/corpus.jsonl", "{\"_id\":\"a\",\"text\":\"头痛多休息\"}\n{\"_id\":\"b\",\"text\":\"发烧三天\"}\n");
    place.file("own/queries.jsonl", "{\"_id\":\"q\",\"text\":\"发烧三天\"}\n");
    place.file("own/qrels/test.tsv", "query-id\tcorpus-id\tscore\nq\tb\t1\n");
    let (status, stdout, stderr) = place.care(&format!("{base} own"));
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("own\tndcg_at_10\t1.0000"), "{stdout}");
    let (status, stdout, _) =
        place.care("metrics --qrels own/qrels/test.tsv --run results/own.trec --measures ndcg@10,mrr@10");
    assert_eq!(status, 0);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["measures"], json!({"ndcg@10": 1.0, "mrr@10": 1.0}));

    place.file("own/qrels/test.tsv", "query-id\tcorpus-id\tscore\nq\tb\t1\nz\tb\t1\n");
    place.fails(&format!("{base} own"), "own: task own: query \"z\" is judged but is not among the queries");
    place.file("own/corpus.jsonl", "");
    place.fails(&format!("{base} own"), "own: task own: there are no documents");
    fs::remove_dir_all(folder).unwrap();
    let (status, _, stderr) = place.care(&format!("{base} own"));
    assert!(status == 1 && stderr.contains("own") && stderr.contains("mini-retrieval"), "{stderr}");
    place.refuses(&format!("eval --model {} --output results", tiny("bert")), "--task");
}

#[test]
fn every_command_with_a_model_refuses_one_that_is_not_whole() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    place.file("corpus.jsonl", "{\"_id\":\"a\",\"text\":\"头痛\"}\n");
    fs::create_dir_all(place.path("half/document_0_Transformer")).unwrap();
    fs::create_dir(place.path("empty")).unwrap();
    for (command, rest) in [
        ("embed", "--role query --input texts.txt --output out.npy"),
        ("eval", "--task mini-sts --output results"),
        ("search", "--corpus corpus.jsonl --query x"),
    ] {
        place.fails(&format!("{command} --model nowhere {rest}"), "nowhere: no such model folder");
        place.fails(&format!("{command} --model half {rest}"), "half: half written: it has a tower but no care.json");
        place.fails(
            &format!("{command} --model empty {rest}"),
            "cannot read empty/config.json: No such file or directory (os error 2)",
        );
    }
    let config =
        "output = \"out\"\n[model]\npair = \"half\"\n[[stage]]\nkind = \"query-alignment\"\ndata = [\"a.jsonl\"]\n";
    place.file("train.toml", config);
    place.file("a.jsonl", "{\"query\":\"a\",\"pos\":[\"a\"]}\n");
    place.fails("train --config train.toml", "half: half written: it has a tower but no care.json");
}

#[test]
fn eval_names_the_line_of_a_bad_task_file() {
    let place = Place::new();
    let corpus = "{\"_id\":\"a\",\"text\":\"头痛多休息\"}\n{\"_id\":\"b\",\"text\":\"发烧三天\"}\n";
    let refused = |file: &str, content: &str, message: &str| {
        let _ = fs::remove_dir_all(place.path("own"));
        place.file("own/corpus.jsonl", corpus);
        place.file("own/queries.jsonl", "{\"_id\":\"q\",\"text\":\"发烧\"}\n");
        place.file("own/qrels.tsv", "query-id\tcorpus-id\tscore\nq\tb\t1\n");
        place.file(&format!("own/{file}"), content);
        place.fails(&format!("eval --model {} --task own --output results", tiny("bert")), message);
        assert!(!place.path("results").exists());
    };
    refused("corpus.jsonl", "{\"_id\":\"a\"}\n", "own/corpus.jsonl:1: missing field `text` (column 11)");
    refused("corpus.jsonl", &format!("{corpus}{{\"_id\":"), "own/corpus.jsonl:3: EOF while parsing a value (column 7)");
    refused(
        "corpus.jsonl",
        &format!("{corpus}{{\"_id\":\"a\",\"text\":\"x\"}}"),
        "own/corpus.jsonl:3: the `_id` \"a\" is already on line 1",
    );
    refused("queries.jsonl", "{\"text\":\"发烧\"}\n", "own/queries.jsonl:1: missing field `_id` (column 17)");
    refused(
        "qrels.tsv",
        "query-id\tcorpus-id\tscore\nq\tb\tgood\n",
        "own/qrels.tsv:2: score \"good\" is not a whole number",
    );
    refused(
        "reranking.jsonl",
        "{\"query\":\"q\",\"positive\":\"a\",\"negative\":[\"b\"]}\n",
        "own/reranking.jsonl:1: invalid type: string \"a\", expected a sequence (column 27)",
    );
    refused(
        "sts.jsonl",
        "{\"sentence1\":\"a\",\"score\":1}\n",
        "own/sts.jsonl:1: missing field `sentence2` (column 27)",
    );
    let base = format!("eval --model {} --output results", tiny("bert"));
    place.fails(
        &format!("{base} --task mini-sts mini-sts"),
        "two tasks are named mini-sts: their results would overwrite each other",
    );
    place.fails(
        &format!("{base} --task mini"),
        "`task` is \"mini\", allowed: mini-retrieval, mini-retrieval-dev, mini-reranking, mini-sts",
    );
    place.refuses(&format!("{base} --task mini-sts --sts both"), "both");
}

/// A configuration over the two tiny checkpoints and a few rows.
fn training(place: &Place) -> String {
    let rows: Vec<(String, String)> = "头痛 发烧 咳嗽 失眠 便秘 鼻炎"
        .split(' ')
        .map(|subject| (format!("{subject}怎么办"), format!("{subject}多休息")))
        .collect();
    let lines =
        |row: &dyn Fn(&(String, String)) -> Value| rows.iter().map(|r| format!("{}\n", row(r))).collect::<String>();
    place.file("align.jsonl", &lines(&|(query, _)| json!({"query": query, "pos": [query], "neg": []})));
    place.file("train.jsonl", &lines(&|(query, text)| json!({"query": query, "pos": [text], "neg": ["别的病"]})));
    format!(
        "output = \"out\"\n\
         [model.query]\nencoder = {:?}\noptions = {{ max_length = 24 }}\n\
         [model.document]\nencoder = {:?}\noptions = {{ max_length = 48 }}\n\
         [[stage]]\nkind = \"query-alignment\"\ndata = [\"align.jsonl\"]\nbatch_size = 3\n\
         [[stage]]\nkind = \"joint-finetuning\"\ndata = [\"train.jsonl\"]\nbatch_size = 3\ngroup_size = 2\n",
        tiny("bert"),
        tiny("qwen3")
    )
}

#[test]
fn train_runs_both_stages_and_its_pair_embeds() {
    let place = Place::new();
    let config = training(&place);
    place.file("train.toml", &config);
    let (status, stdout, stderr) = place.care("train --config train.toml");
    assert_eq!((status, stdout.as_str()), (0, ""), "{stderr}");
    assert!(stderr.contains("the trained pair is in out/model"), "{stderr}");
    let log = fs::read_to_string(place.path("out/log.jsonl")).unwrap();
    let steps: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(steps.len(), 4);
    assert!(steps.iter().all(|step| step["loss"].as_f64().unwrap().is_finite()));
    assert_eq!(steps[3]["kind"], "joint-finetuning");

    place.file("texts.txt", TEXTS);
    for role in ["query", "document"] {
        let (status, _, stderr) =
            place.care(&format!("embed --model out/model --role {role} --input texts.txt --output {role}.npy"));
        assert_eq!((status, stderr.as_str()), (0, format!("3 {role} vectors of 64 dimensions\n").as_str()));
    }
    assert_ne!(read_npy(&place.path("query.npy")), read_npy(&place.path("document.npy")));
    place.fails("train --config train.toml", "out already holds a run: resume it, or choose another output");
    let (status, _, stderr) = place.care("train --config train.toml --resume");
    assert_eq!(status, 0, "{stderr}");
}

#[test]
fn bad_training_input_is_refused_before_the_first_step() {
    let place = Place::new();
    let good = training(&place);
    place.fails("train --config none.toml", "cannot read none.toml: No such file or directory (os error 2)");
    let refused = |from: &str, to: &str, message: &str| {
        assert!(good.contains(from));
        place.file("train.toml", &good.replace(from, to));
        place.fails("train --config train.toml", message);
        assert!(!place.path("out").exists(), "nothing was begun");
    };
    refused("group_size = 2", "group_size = 2\ntemperature = 0.0", "stage[1]: `temperature` is 0, allowed: above 0");
    refused(
        "max_length = 24",
        "max_length = 0",
        "`max_length` is 0, allowed: at least 3, since the tokenizer adds 2 special tokens",
    );
    refused(
        "max_length = 24",
        "max_length = 24, dim = 99",
        "an embedding of 99 dimensions cannot be cut from the tower's 64",
    );
    refused(
        "max_length = 24",
        "max_length = 24, dim = 32",
        "the query tower gives 32 dimensions and the document tower 64: set `dim` of the wider one",
    );
    refused("train.jsonl", "none.jsonl", "cannot open none.jsonl: No such file or directory (os error 2)");
    place.file("bad.jsonl", "{\"query\":\"a\",\"pos\":[\"b\"],\"neg\":[\"c\"]}\n{\"query\":\"a\",\"pos\":\"b\"}\n");
    refused("train.jsonl", "bad.jsonl", "bad.jsonl:2: invalid type: string \"b\", expected a sequence (column 22)");
    refused(
        "train.jsonl",
        "align.jsonl",
        "align.jsonl:1: `neg` is empty, but a group of 2 needs hard negatives; set `group_size = 1` to use in-batch negatives only",
    );
    place.file("train.toml", &good.replace("batch_size = 3", "batchsize = 3"));
    let (status, _, stderr) = place.care("train --config train.toml");
    assert!(status == 1 && stderr.contains("train.toml: ") && stderr.contains("unknown field `batchsize`"), "{stderr}");
    place.file("train.toml", &good);
    place.fails("train --config train.toml --resume", "out holds no checkpoint to resume");
    place.refuses("train", "--config");
}

#[test]
fn demo_data_is_a_folder_that_eval_takes() {
    let place = Place::new();
    let (status, stdout, stderr) = place.care("demo-data --output demo");
    assert_eq!((status, stdout.as_str()), (0, ""));
    assert!(stderr.contains("not medical advice"), "{stderr}");
    let lines = |name: &str| fs::read_to_string(place.path("demo").join(name)).unwrap().lines().count();
    assert_eq!((lines("corpus.jsonl"), lines("train.jsonl"), lines("sts.jsonl")), (432, 320, 160));
    let (status, _, stderr) = place.care("demo-data --output demo");
    assert!(status == 1 && stderr.contains("demo"), "{stderr}");
}
