//! `care compare`, `care report` and `care audit`.

use std::fs;

use super::{Place, tiny};

/// The results of two tiny models on the built-in tasks, in folders of their names.
fn results(place: &Place) {
    for name in ["bert", "qwen3"] {
        let tasks = "mini-retrieval mini-reranking mini-sts";
        let (status, _, stderr) =
            place.care(&format!("eval --model {} --max-length 24 --task {tasks} --output {name}", tiny(name)));
        assert_eq!(status, 0, "{stderr}");
    }
}

#[test]
fn two_models_are_compared_and_reported() {
    let place = Place::new();
    results(&place);
    let (status, stdout, stderr) = place.care("compare bert qwen3 --samples 200");
    assert_eq!(status, 0, "{stderr}");
    for row in ["| mini-retrieval | ndcg@10 |", "| mini-reranking | map@10 |", "| mini-sts | cosine_spearman |"] {
        assert!(stdout.contains(row), "{stdout}");
    }
    // Every report states the settings that determine its scores.
    for fact in [
        "- settings.document.weights: ",
        "- settings.query.instruction: ",
        "- settings.query.max_length: 24",
        "- settings.precision: f32",
        "- settings.burn: 0.22.1",
        "- embedding_dim: ",
        "- ties: trec_eval",
        "- version: ",
        "- sts_mode: query-query",
    ] {
        assert!(stdout.contains(fact), "{fact} in {stdout}");
    }
    assert_eq!(place.care("compare bert qwen3 --samples 200").1, stdout);

    let (status, _, stderr) = place.care("report bert qwen3 --output page --samples 200");
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(fs::read_to_string(place.path("page/summary.md")).unwrap(), stdout);
    assert!(fs::read_to_string(place.path("page/summary.html")).unwrap().contains("<svg"));

    for name in ["summary.tex", "summary.csv"] {
        assert!(fs::read_to_string(place.path(&format!("page/{name}"))).unwrap().contains("qwen3"), "{name}");
    }

    // Names of columns, forms and published scores; a setting that both share is stated once.
    assert_eq!(stdout.matches("- settings.query.max_length: 24").count(), 1, "{stdout}");
    let (status, named, _) = place.care("compare small=bert qwen3 --samples 200 --published");
    assert_eq!(status, 0);
    assert!(named.contains("| task | measure | small | qwen3 |") && named.contains("published: CMedTEB"), "{named}");
    let (_, latex, _) = place.care("compare bert qwen3 --samples 200 --format latex");
    assert!(latex.starts_with("% \\usepackage{booktabs}\n\\begin{tabular}"), "{latex}");
    let (_, csv, _) = place.care("compare bert qwen3 --samples 200 --format csv");
    assert!(csv.starts_with("task,measure,model,score,"), "{csv}");
    place.refuses("compare =bert qwen3", "the name before = is empty");

    place.fails("compare bert nowhere", "cannot read the folder nowhere: No such file or directory (os error 2)");
    fs::create_dir(place.path("empty")).unwrap();
    place.fails("compare bert empty", "empty: the folder has no result files");
    place.fails("compare bert bert", "two models are named bert");
}

#[test]
fn an_audit_is_a_table() {
    let place = Place::new();
    place.file(
        "own/corpus.jsonl",
        "{\"_id\":\"a\",\"text\":\"头痛多休息\"}\n{\"_id\":\"b\",\"text\":\"头痛，多休息。\"}\n{\"_id\":\"c\",\"text\":\"发烧\"}\n",
    );
    place.file("own/queries.jsonl", "{\"_id\":\"q\",\"text\":\"头痛\"}\n");
    place.file("own/qrels.tsv", "query-id\tcorpus-id\tscore\nq\ta\t1\nq\tz\t1\n");
    place.file("train.jsonl", "{\"query\":\"别的\",\"pos\":[\"x\"]}\n{\"anchor\":\"头痛？\",\"positive\":\"x\"}\n");
    place.file("run.trec", "q Q0 c 1 0.9 t\nq Q0 a 2 0.5 t\n");
    let base = "audit --task own --train train.jsonl";
    let (status, stdout, stderr) = place.care(&format!("{base} --run run.trec"));
    assert_eq!(status, 0, "{stderr}");
    let counts = "own: 1 duplicate-document, 1 leaked-query, 1 absent-judged, 1 likely-false-negative\n";
    assert!(stderr.ends_with(counts), "{stderr}");
    assert_eq!(
        stdout,
        "task\tfinding\tquery\tdocument\tdetail\n\
         own\tduplicate-document\t\tb\tas a: 头痛，多休息。\n\
         own\tleaked-query\tq\t\tin train.jsonl:2: 头痛\n\
         own\tabsent-judged\tq\tz\tgrade 1\n\
         own\tlikely-false-negative\tq\tc\t头痛 / 发烧\n"
    );
    place.fails("audit --task own mini-sts --run run.trec", "--run needs a single task, not 2");
    place.file("other.trec", "x Q0 c 1 0.9 t\n");
    place.fails(
        &format!("{base} --run other.trec"),
        "task own: the run is of another task: it has the query \"x\", the task \"q\"",
    );
    place.fails(&format!("{base} --near 0.4"), "`near` is 0.4, allowed: 0.5 to 1");
    place.file("bad.jsonl", "{\"question\":\"a\"}\n");
    place.fails("audit --task own --train bad.jsonl", "bad.jsonl:1: no `query` or `anchor`; the row has `question`");
}

#[test]
fn an_audit_finds_answers_of_training_rows_and_similar_texts() {
    let place = Place::new();
    place.file(
        "own/corpus.jsonl",
        "{\"_id\":\"a\",\"text\":\"头痛多休息多喝水少熬夜\"}\n{\"_id\":\"b\",\"text\":\"头痛多休息多喝水少熬夜了\"}\n\
         {\"_id\":\"c\",\"text\":\"发烧\"}\n",
    );
    place.file("own/queries.jsonl", "{\"_id\":\"q\",\"text\":\"头痛\"}\n");
    place.file("own/qrels.tsv", "query-id\tcorpus-id\tscore\nq\ta\t1\n");
    place.file(
        "train.jsonl",
        "{\"query\":\"别的\",\"pos\":[\"头痛？\", \"发烧。\"],\"neg\":[\"头痛多休息多喝水少熬夜\"]}\n",
    );
    let (status, stdout, stderr) = place.care("audit --task own --train train.jsonl");
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(
        stdout,
        "task\tfinding\tquery\tdocument\tdetail\n\
         own\tleaked-document\t\tc\tin train.jsonl:1, pos: 发烧\n\
         own\tnear-duplicate-document\t\tb\t0.90 as a: 头痛多休息多喝水少熬夜了\n\
         own\tleaked-query\tq\t\tin train.jsonl:1, pos: 头痛\n"
    );
    let (status, stdout, stderr) = place.care("audit --task own --near 0.95");
    assert_eq!((status, stdout.lines().count(), stderr.as_str()), (0, 1, "own: no findings\n"));
}
