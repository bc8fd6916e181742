//! `care eval` and the tasks it reads.

use std::fs;

use serde_json::{Value, json};

use super::{Place, TEXTS, tiny};

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

    // A custom task folder, whose ranking `care metrics` scores in the same way.
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
fn a_report_names_the_dtypes_in_which_towers_are_stored() {
    let place = Place::new();
    let (status, _, stderr) =
        place.care(&format!("convert --model {} --pooling mean --query-precision int8 --output mixed", tiny("bert")));
    assert_eq!(status, 0, "{stderr}");
    let base = "eval --model mixed --max-length 48 --output results --task mini-sts";
    for (options, query, document) in [("", "int8", "f32"), (" --precision f32", "f32", "f32")] {
        let (status, _, stderr) = place.care(&format!("{base}{options}"));
        assert_eq!(status, 0, "{stderr}");
        let report: Value = serde_json::from_slice(&fs::read(place.path("results/mini-sts.json")).unwrap()).unwrap();
        let settings = &report["care"]["settings"];
        assert_eq!((&settings["query_precision"], &settings["precision"]), (&json!(query), &json!(document)));
    }
}

#[test]
fn a_task_without_a_score_does_not_stop_the_others() {
    let place = Place::new();
    let line = |first: &str, second: &str, score: u8| {
        json!({"sentence1": first, "sentence2": second, "score": score}).to_string() + "\n"
    };
    let flat = |score| line("头痛", "发烧", score);
    place.file("flat/sts.jsonl", &(flat(1) + &flat(2) + &flat(3)));
    place.file("level/sts.jsonl", &(line("咳嗽", "失眠", 5) + &line("咳嗽", "失眠", 1)));
    place.file("good/sts.jsonl", &(line("头痛", "头痛", 5) + &line("头痛", "发烧三天", 1) + &line("咳嗽", "头痛", 2)));
    let base = format!("eval --model {} --max-length 48 --output results --task", tiny("bert"));
    for (tasks, count) in [("flat good", 1), ("flat good level", 2)] {
        let (status, stdout, stderr) = place.care(&format!("{base} {tasks}"));
        assert_eq!(status, 1, "{stderr}");
        let all = tasks.split(' ').count();
        assert!(
            stderr.starts_with(&format!("error: {count} of {all} tasks have no score and no result file: ")),
            "{stderr}"
        );
        assert!(stderr.contains("task flat-sts: the correlation of the query-query cosines"), "{stderr}");
        assert_eq!(stderr.contains("task level-sts: "), count == 2, "{stderr}");
        assert!(stdout.contains("good-sts\tcosine_spearman\t") && !stdout.contains("flat"), "{stdout}");
        assert!(place.path("results/good-sts.json").exists() && !place.path("results/flat-sts.json").exists());
        fs::remove_dir_all(place.path("results")).unwrap();
    }
}

#[test]
fn queries_in_the_corpus_are_named_and_ignored_on_request() {
    let place = Place::new();
    place.file(
        "own/corpus.jsonl",
        "{\"_id\":\"q1\",\"text\":\"头痛怎么办\"}\n{\"_id\":\"q2\",\"text\":\"发烧三天\"}\n\
        {\"_id\":\"d1\",\"text\":\"头痛怎么治\"}\n{\"_id\":\"d2\",\"text\":\"发烧三次\"}\n",
    );
    place.file(
        "own/queries.jsonl",
        "{\"_id\":\"q1\",\"text\":\"头痛怎么办\"}\n{\"_id\":\"q2\",\"text\":\"发烧三天\"}\n",
    );
    place.file("own/qrels.tsv", "q1\td1\t1\nq2\td2\t1\n");
    let base = "eval --model bm25 --output results --task own";
    let warning = "warning: own: 2 of 2 queries have a document with their own id, e.g. \"q1\"; if it is the query itself, as \
                   in ArguAna, set ignore_identical_ids\n";
    let (status, stdout, stderr) = place.care(base);
    assert_eq!((status, stderr.as_str()), (0, warning));
    assert!(stdout.contains("own\tmrr_at_10\t0.5000\n"), "{stdout}");
    let metrics = "metrics --qrels own/qrels.tsv --run results/own.trec --measures mrr@10";
    let mean = |line: &str| {
        let (status, stdout, stderr) = place.care(line);
        assert_eq!(status, 0, "{stderr}");
        (serde_json::from_str::<Value>(&stdout).unwrap()["measures"]["mrr@10"].clone(), stderr)
    };
    let (score, stderr) = mean(metrics);
    assert_eq!(score, json!(0.5));
    assert!(stderr.starts_with("warning: 2 queries retrieve a document with their own id; "), "{stderr}");
    // What is left of such short rankings ends above the cut-off.
    let cut = "warning: cut-offs below the end of the longest ranking, 1 documents: mrr@10; unless the rankings hold the \
               whole corpus, these are values at 1\n";
    assert_eq!(mean(&format!("{metrics} --ignore-identical-ids")), (json!(1.0), cut.to_owned()));

    let (status, stdout, stderr) = place.care(&format!("{base} --ignore-identical-ids"));
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(stdout.contains("own\tmrr_at_10\t1.0000\n"), "{stdout}");
    assert_eq!(mean(metrics).0, json!(1.0));
    let report: Value = serde_json::from_slice(&fs::read(place.path("results/own.json")).unwrap()).unwrap();
    assert_eq!(report["care"]["ignore_identical_ids"], json!(true));
    place.file("own/task.toml", "name = \"own\"\nignore_identical_ids = true\n");
    assert_eq!(place.care(base), (0, stdout, String::new()));
    place.fails(
        "eval --model bm25 --output results --task mini-sts --ignore-identical-ids",
        "--ignore-identical-ids applies only to retrieval, and no task is",
    );
}

#[test]
fn judged_documents_that_the_corpus_lacks_are_named() {
    let place = Place::new();
    place.file("own/corpus.jsonl", "{\"_id\":\"a\",\"text\":\"头痛\"}\n{\"_id\":\"b\",\"text\":\"发烧\"}\n");
    place.file("own/queries.jsonl", "{\"_id\":\"q\",\"text\":\"头痛\"}\n");
    let base = "eval --model bm25 --output results --task own";
    place.file("own/qrels.tsv", "q\t\"a\"\t1\nq\t\"b\"\t1\n");
    place.fails(
        base,
        "own: task own: no judged document is in the corpus: the judgements have e.g. \"\\\"a\\\"\", the corpus \"a\"",
    );
    place.file("own/qrels.tsv", "q\ta\t1\nq\ty\t1\nq\tz\t0\n");
    let (status, _, stderr) = place.care(base);
    let warning = "warning: own: 2 of 3 judged documents are not in the corpus: the judgements have e.g. \"y\", the corpus \"a\"\n";
    assert_eq!((status, stderr.as_str()), (0, warning));
    place.file("own/qrels.tsv", "q\ta\t1\nq\tb\t1\nq\tz\t0\n");
    let (status, _, stderr) = place.care(base);
    assert_eq!((status, stderr.as_str()), (0, "warning: own: 1 of 3 judged documents are not in the corpus\n"));
}

#[test]
fn the_baseline_is_tested_like_a_model() {
    let place = Place::new();
    let (status, stdout, stderr) = place.care("eval --model bm25 --output results --task mini-retrieval");
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(stdout.contains("mini-retrieval\tndcg_at_10\t0.6582\n"), "{stdout}");
    assert!(place.path("results/mini-retrieval.trec").exists());
    let report: Value = serde_json::from_slice(&fs::read(place.path("results/mini-retrieval.json")).unwrap()).unwrap();
    assert_eq!(report["care"]["settings"], json!({"model": "bm25"}));
    for _ in 0..2 {
        let named_after_it = place.care("eval --model bm25 --output bm25 --task mini-retrieval");
        assert_eq!((named_after_it.0, &named_after_it.1), (status, &stdout), "{}", named_after_it.2);
    }
    let skipped = "eval --model bm25 --output results --task mini-sts mini-retrieval mini-reranking";
    let note = |task: &str| format!("note: {task} is skipped: bm25 is a baseline for retrieval tasks only\n");
    assert_eq!(place.care(skipped), (0, stdout, note("mini-sts") + &note("mini-reranking")));
    place.fails(
        "eval --model bm25 --output results --task mini-sts mini-reranking",
        "bm25 is a baseline for retrieval tasks only, not for mini-reranking, mini-sts",
    );
}

#[test]
fn a_model_and_the_baseline_are_evaluated_together() {
    let place = Place::new();
    let model = format!("eval --model {} --output results", tiny("bert"));
    let (status, stdout, stderr) = place.care(&format!("{model} --task mini-retrieval mini-sts --hybrid weighted:0"));
    assert_eq!(status, 0, "{stderr}");
    assert!(stderr.contains("note: mini-sts is skipped: --hybrid is for retrieval tasks only\n"), "{stderr}");
    // With all the weight on BM25, its ranks are first.
    assert!(stdout.contains("mini-retrieval\tndcg_at_10\t0.6582\n"), "{stdout}");
    let report: Value = serde_json::from_slice(&fs::read(place.path("results/mini-retrieval.json")).unwrap()).unwrap();
    assert_eq!(report["care"]["settings"]["hybrid"], json!("weighted:0"));
    place.fails(
        &format!("{model} --task mini-sts --hybrid rrf"),
        "--hybrid is for retrieval tasks only, not for mini-sts",
    );
    place.fails(
        "eval --model bm25 --output results --task mini-retrieval --hybrid rrf",
        "--hybrid fuses a model with bm25, so --model must be another",
    );
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
        place.fails(
            &format!("{command} --model nowhere {rest}"),
            "nowhere: no such model folder; a model is a folder, ORG/NAME on the Hugging Face hub, or mini",
        );
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
        "own/corpus.jsonl:3: duplicate `_id` \"a\", first on line 1",
    );
    refused("queries.jsonl", "{\"text\":\"发烧\"}\n", "own/queries.jsonl:1: missing field `_id` (column 17)");
    refused(
        "qrels.tsv",
        "query-id\tcorpus-id\tscore\nq\tb\tgood\n",
        "own/qrels.tsv:2: score \"good\" is not an integer",
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
        "`task` is \"mini\", allowed: mini-retrieval, mini-retrieval-dev, mini-reranking, mini-sts, CMedTEB-retrieval, CMedTEB-reranking, CMedTEB-sts, CmedqaRetrieval, MedicalRetrieval, CMedQAv1-reranking, CMedQAv2-reranking, a folder, a task file (.toml), or ORG/NAME on the Hugging Face hub",
    );
    place.refuses(&format!("{base} --task mini-sts --sts both"), "both");
}

#[test]
fn demo_data_is_a_folder_that_eval_takes() {
    let place = Place::new();
    let (status, stdout, stderr) = place.care("demo-data --output demo");
    assert_eq!((status, stdout.as_str()), (0, ""));
    assert!(stderr.contains("not medical advice"), "{stderr}");
    let lines = |name: &str| fs::read_to_string(place.path("demo").join(name)).unwrap().lines().count();
    assert_eq!((lines("corpus.jsonl"), lines("train.jsonl"), lines("sts.jsonl")), (432, 320, 160));
    assert_eq!(place.care("demo-data --output demo").0, 0, "the set is there already");
    place.file("demo/notes.txt", "mine");
    place.fails("demo-data --output demo", "demo is not empty; choose a new or empty folder");
}

#[test]
fn several_subsets_are_refused_until_one_is_named() {
    let place = Place::new();
    for (subset, other) in [("en", "发烧"), ("zh", "头痛")] {
        let corpus = format!("{{\"_id\":\"a\",\"text\":\"头痛\"}}\n{{\"_id\":\"b\",\"text\":\"{other}三天\"}}\n");
        place.file(&format!("own/{subset}-corpus/test.jsonl"), &corpus);
        place.file(&format!("own/{subset}-queries/test.jsonl"), "{\"_id\":\"q\",\"text\":\"发烧\"}\n");
        let judged = "{\"query-id\":\"q\",\"corpus-id\":\"b\",\"score\":1}\n";
        place.file(&format!("own/{subset}-qrels/test.jsonl"), judged);
    }
    let base = "eval --model bm25 --output results --task own";
    let refused =
        "own: several subsets: en, zh; choose one with --subset NAME, or with `subset = \"NAME\"` in a task file";
    place.fails(base, refused);
    place.fails(&base.replace("eval", "audit").replace(" --model bm25 --output results", ""), refused);
    place.fails(&format!("{base} --subset fr"), "own: there is no subset \"fr\"; found: en, zh");
    for (subset, score) in [("en", "1.0000"), ("zh", "0.0000")] {
        let (status, stdout, stderr) = place.care(&format!("{base} --subset {subset}"));
        assert_eq!((status, stderr.as_str()), (0, ""));
        assert!(stdout.contains(&format!("own\tmrr_at_10\t{score}\n")), "{stdout}");
        let report: Value = serde_json::from_slice(&fs::read(place.path("results/own.json")).unwrap()).unwrap();
        assert_eq!(report["scores"]["test"][0]["hf_subset"], json!(subset));
    }
}
