//! `care rerank`, `care eval --reranker` and `care data score`.

use std::fs;

use serde_json::{Value, json};

use super::{Place, tiny};

/// A tiny reranker.
fn reranker(name: &str) -> String {
    tiny(&format!("rerankers/{name}"))
}

/// A corpus of three documents, two queries, judgements and a ranking.
fn files(place: &Place) {
    place.file(
        "own/corpus.jsonl",
        "{\"_id\":\"a\",\"title\":\"头痛\",\"text\":\"头痛多休息\"}\n{\"_id\":\"b\",\"text\":\"发烧三天\"}\n\
         {\"_id\":\"c\",\"text\":\"孩子咳嗽\"}\n",
    );
    place.file("own/queries.jsonl", "{\"_id\":\"p\",\"text\":\"发烧三天\"}\n{\"_id\":\"q\",\"text\":\"头痛怎么办\"}\n");
    place.file("own/qrels/test.tsv", "query-id\tcorpus-id\tscore\np\tb\t1\nq\ta\t1\n");
    place.file("run.trec", "p Q0 c 1 3.0 x\np Q0 a 2 2.0 x\np Q0 b 3 1.0 x\nq Q0 b 1 0.5 x\n");
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The ids and scores of a row's hits.
fn hits(row: &Value) -> Vec<(String, f64)> {
    let hits = row["hits"].as_array().unwrap().iter();
    hits.map(|hit| (hit["_id"].as_str().unwrap().to_owned(), hit["score"].as_f64().unwrap())).collect()
}

#[test]
fn documents_and_rankings_are_reordered() {
    let place = Place::new();
    files(&place);
    let base = format!("rerank --reranker {} --corpus own/corpus.jsonl", reranker("bge-reranker-base"));
    let (status, stdout, stderr) = place.care(&format!("{base} --query 发烧三天"));
    assert_eq!(status, 0, "{stderr}");
    assert!(stderr.starts_with("reranker: classifier of XLMRobertaForSequenceClassification, sigmoid "), "{stderr}");
    let all = hits(&rows(&stdout)[0]);
    assert_eq!(all.len(), 3);
    assert!(
        all.windows(2).all(|pair| pair[0].1 >= pair[1].1) && all.iter().all(|(_, score)| (0.0..=1.0).contains(score))
    );
    let (_, best, _) = place.care(&format!("{base} --query 发烧三天 --top-k 1"));
    assert_eq!(hits(&rows(&best)[0]), all[..1]);
    let first = &rows(&best)[0]["hits"][0];
    assert_eq!((&first["rank"], first["text"].is_string()), (&json!(1), true));

    // The same scores for the ranking, of which only the two best documents are reordered.
    let run = format!("{base} --run run.trec --queries own/queries.jsonl");
    let (status, stdout, stderr) = place.care(&format!("{run} --depth 2"));
    assert_eq!(status, 0, "{stderr}");
    let answers = rows(&stdout);
    assert_eq!((answers.len(), &answers[0]["query_id"], &answers[0]["query"]), (2, &json!("p"), &json!("发烧三天")));
    let two: Vec<_> = all.iter().filter(|(id, _)| id != "b").cloned().collect();
    assert_eq!(hits(&answers[0]), two);
    // In the file of the ranking, the others follow.
    let (status, _, stderr) = place.care(&format!("{run} --depth 2 --output out.trec"));
    assert_eq!(status, 0, "{stderr}");
    let written = care_eval::io::read_run(place.path("out.trec")).unwrap();
    let order: Vec<_> = written.ranked("p", Default::default()).iter().map(|(id, _)| (*id).to_owned()).collect();
    assert_eq!(order, [two[0].0.clone(), two[1].0.clone(), "b".to_owned()]);
    let (status, stdout, _) = place.care(&format!("{run} --output out.jsonl"));
    assert_eq!((status, stdout.as_str()), (0, ""));
    assert_eq!(hits(&rows(&fs::read_to_string(place.path("out.jsonl")).unwrap())[0]), all);
}

#[test]
fn ids_may_be_numbers_files_tables_and_all_fields_are_kept() {
    let place = Place::new();
    place.file(
        "corpus.jsonl",
        "{\"id\":1,\"text\":\"头痛多休息\",\"metadata\":{\"year\":2024}}\n{\"id\":2,\"title\":\"t\",\"text\":\"发烧\",\"a\":\"b\"}\n",
    );
    place.file("queries.csv", "_id,text\n7,头痛\n");
    place.file("run.trec", "7 Q0 1 1 3.0 x\n7 Q0 2 2 2.0 x\n");
    let base = format!("rerank --reranker {} --corpus corpus.jsonl", reranker("bge-reranker-base"));
    let (status, stdout, stderr) = place.care(&format!("{base} --run run.trec --queries queries.csv"));
    assert_eq!(status, 0, "{stderr}");
    let by_run = rows(&stdout);
    assert_eq!((&by_run[0]["query_id"], by_run[0]["hits"][0].get("text")), (&json!("7"), None));
    let (_, stdout, _) = place.care(&format!("{base} --query 头痛"));
    let by_query = rows(&stdout);
    assert_eq!(hits(&by_query[0]), hits(&by_run[0]));
    let found = by_query[0]["hits"].as_array().unwrap();
    let of = |id: &str| found.iter().find(|hit| hit["_id"] == id).unwrap();
    assert_eq!((&of("1")["metadata"], &of("2")["metadata"]), (&json!({"year": 2024}), &json!({"a": "b"})));
    let (status, pretty, stderr) = place.care(&format!("{base} --query 头痛 --pretty"));
    assert!(status == 0 && pretty.starts_with("头痛: 2 documents\n  1  0."), "{stderr}{pretty}");
    let (_, pretty, _) = place.care(&format!("{base} --run run.trec --queries queries.csv --pretty"));
    assert!(pretty.starts_with("7  头痛: 2 documents\n  1  0.") && pretty.lines().count() == 3, "{pretty}");

    place.file("twice.jsonl", "{\"_id\":7,\"text\":\"a\"}\n{\"id\":\"7\",\"text\":\"b\"}\n");
    place.fails(
        &format!("{base} --run run.trec --queries twice.jsonl"),
        "twice.jsonl:2: duplicate `_id` \"7\", first on line 1",
    );
    place.file("empty.jsonl", "{\"_id\":7,\"text\":\" \"}\n");
    place.fails(&format!("{base} --run run.trec --queries empty.jsonl"), "empty.jsonl:1: `text` is empty");
    place.refuses(&format!("{base} --query x --output o.jsonl --pretty"), "cannot be used with");
}

#[test]
fn what_cannot_be_reranked_is_refused() {
    let place = Place::new();
    files(&place);
    let base = format!("rerank --reranker {} --corpus own/corpus.jsonl", reranker("bge-reranker-base"));
    place.refuses("rerank --corpus own/corpus.jsonl --query x", "--reranker");
    place.refuses(&base, "--query");
    place.refuses(&format!("{base} --run run.trec"), "--queries");
    place.refuses(&format!("{base} --query x --depth 5"), "cannot be used with");
    place.fails(&format!("{base} --query ~"), "the query is empty");
    place.fails(
        &format!("{base} --query x --output out.trec"),
        "out.trec: answers are written to .jsonl files, and rankings (--run) to .trec files too",
    );
    place.file("few.jsonl", "{\"_id\":\"q\",\"text\":\"头痛怎么办\"}\n");
    place.fails(&format!("{base} --run run.trec --queries few.jsonl"), "run.trec: query \"p\" is not in few.jsonl");
    place.file("foreign.trec", "q Q0 z 1 0.5 x\n");
    let (status, _, stderr) = place.care(&format!("{base} --run foreign.trec --queries own/queries.jsonl"));
    assert_eq!(status, 1);
    assert!(stderr.contains("the run ranks document \"z\" for query \"q\", but the corpus lacks it"), "{stderr}");
    let bi = format!("rerank --reranker {} --corpus own/corpus.jsonl --query x", reranker("bi-encoder"));
    let (status, _, stderr) = place.care(&bi);
    assert!(status == 1 && stderr.contains("make an embedding model, no reranker"), "{stderr}");
}

#[test]
fn eval_has_a_row_of_its_own_for_model_and_reranker() {
    let place = Place::new();
    files(&place);
    let model = format!("eval --model {} --max-length 48 --pooling mean --output results/bert", tiny("bert"));
    let with = format!("--reranker {} --reranker-activation identity --rerank-depth 2", reranker("bge-reranker-base"));
    let tasks = "--task own mini-reranking mini-sts";
    let (status, stdout, stderr) = place.care(&format!("{model} {with} {tasks}"));
    assert_eq!(status, 0, "{stderr}");
    assert!(stderr.contains("note: mini-sts is not reranked: it has no documents to rank"), "{stderr}");
    for line in ["own\tndcg_at_10\t", "own (reranked)\tndcg_at_10\t", "mini-reranking (reranked)\tmap_at_10\t"] {
        assert!(stdout.lines().any(|found| found.starts_with(line)), "{line}: {stdout}");
    }
    let read = |path: &str| serde_json::from_slice::<Value>(&fs::read(place.path(path)).unwrap()).unwrap();
    assert_eq!(read("results/bert/own.json")["care"]["settings"].get("reranker"), None);
    let settings = &read("results/bert-reranked/own.json")["care"]["settings"];
    assert_eq!((&settings["rerank_depth"], &settings["reranker"]["activation"]), (&json!(2), &json!("identity")));
    assert!(!place.path("results/bert-reranked/mini-sts.json").exists());
    let (status, page, stderr) = place.care("compare results/bert results/bert-reranked --samples 100");
    assert!(status == 0 && page.contains("bert-reranked"), "{stderr}");

    // The same ranking as of `care rerank` on the first ranking.
    let (status, _, stderr) = place.care(&format!(
        "rerank --reranker {} --reranker-activation identity --corpus own/corpus.jsonl --queries own/queries.jsonl --run \
         results/bert/own.trec --depth 2 --output again.trec",
        reranker("bge-reranker-base")
    ));
    assert_eq!(status, 0, "{stderr}");
    let [one, two] = ["results/bert-reranked/own.trec", "again.trec"].map(|path| fs::read(place.path(path)).unwrap());
    assert!(one == two, "{}{}", String::from_utf8_lossy(&one), String::from_utf8_lossy(&two));

    // BM25 finds, the reranker orders.
    let (status, stdout, stderr) = place
        .care(&format!("eval --model bm25 --output words {with} --reranked-output both --task own mini-reranking"));
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("mini-reranking (reranked)\t") && place.path("both/mini-reranking.json").exists());
    place.refuses(&format!("{model} --task own --rerank-depth 5"), "--reranker");
}

#[test]
fn training_rows_get_scores_and_a_killed_run_goes_on() {
    let place = Place::new();
    place.file(
        "train.jsonl",
        "{\"query\":\"发烧三天\",\"pos\":[\"多喝水\",\"就医\"],\"neg\":[\"孩子咳嗽\"],\"pos_id\":[\"1\",\"2\"]}\n\
         {\"query\":\"头痛\",\"pos\":[\"多休息\"],\"neg\":[\"发烧三天\",\"孩子咳嗽\",\"就医\"]}\n",
    );
    let base = format!("data score train.jsonl --reranker {}", reranker("ms-marco-MiniLM-L6-v2"));
    let (status, _, stderr) = place.care(&format!("{base} --output out.jsonl"));
    assert_eq!(status, 0, "{stderr}");
    let scored = rows(&fs::read_to_string(place.path("out.jsonl")).unwrap());
    let lengths = |row: &Value, field: &str| row[field].as_array().unwrap().len();
    assert_eq!((lengths(&scored[0], "pos_scores"), lengths(&scored[0], "neg_scores")), (2, 1));
    assert_eq!((lengths(&scored[1], "pos_scores"), lengths(&scored[1], "neg_scores")), (1, 3));
    assert_eq!(scored[0]["pos_id"], json!(["1", "2"]));
    assert!(stderr.contains("3 positives, mean score") && stderr.contains("2 rows in out.jsonl"), "{stderr}");
    let manifest: Value = serde_json::from_slice(&fs::read(place.path("out.jsonl.manifest.json")).unwrap()).unwrap();
    assert_eq!((&manifest["step"], &manifest["counts"]["negatives"]), (&json!("data score"), &json!(4)));
    assert_eq!(manifest["options"]["scorer"]["reranker"]["activation"], "identity");
    assert!(!place.path("out.jsonl.scores.jsonl").exists());

    // What a killed run has scored is taken over, here with a mark; other rows, another reranker or reader start anew.
    let sha = manifest["inputs"][0]["file"]["sha256"].clone();
    let weights = manifest["options"]["scorer"]["reranker"]["weights"].clone();
    let journal = |scorer: &Value| {
        format!(
            "{}\n{{\"positives\":[7.5,7.25],\"negatives\":[-1.0]}}\n{{\"pos",
            json!({"rows": [sha], "scorer": scorer})
        )
    };
    place.file("again.jsonl.scores.jsonl", &journal(&weights));
    let (status, _, stderr) = place.care(&format!("{base} --output again.jsonl"));
    assert!(status == 0 && stderr.contains("1 rows were scored by an earlier run"), "{stderr}");
    let again = rows(&fs::read_to_string(place.path("again.jsonl")).unwrap());
    assert_eq!((&again[0]["pos_scores"], &again[1]), (&json!([7.5, 7.25]), &scored[1]));
    let converted = journal(&weights).replacen('{', "{\"reader\":\"converted\",", 1);
    for other in [journal(&json!("another")), converted] {
        place.file("again.jsonl.scores.jsonl", &other);
        let (status, _, stderr) = place.care(&format!("{base} --output again.jsonl"));
        let begun = "note: again.jsonl.scores.jsonl is of other rows or another scorer, and is begun anew";
        assert!(status == 0 && stderr.contains(begun), "{stderr}");
        assert_eq!(fs::read(place.path("again.jsonl")).unwrap(), fs::read(place.path("out.jsonl")).unwrap());
    }

    // By a pair of towers: cosines.
    let (status, _, stderr) =
        place.care(&format!("data score train.jsonl --model {} --output pair.jsonl", tiny("bert")));
    assert_eq!(status, 0, "{stderr}");
    let pair = rows(&fs::read_to_string(place.path("pair.jsonl")).unwrap());
    let scores = pair[1]["neg_scores"].as_array().unwrap().iter().map(|score| score.as_f64().unwrap());
    assert!(scores.clone().count() == 3 && scores.into_iter().all(|score| score.abs() <= 1.0 + 1e-6), "{pair:?}");

    // Rows stay as they are beside the scores, which may have a name of their own; with a form they are converted.
    place.file(
        "own.jsonl",
        "{\"anchor\":\"发烧三天\", \"positive\":\"多喝水\",\"negative_1\":\"头痛\",\"pos_e5\":[0.50],\"from\":{\"page\":7}}\n",
    );
    let scored = |more: &str| {
        let command = base.replace("train.jsonl", "own.jsonl");
        let (status, _, stderr) = place.care(&format!("{command} {more} --output own.out.jsonl"));
        assert_eq!(status, 0, "{stderr}");
        fs::read_to_string(place.path("own.out.jsonl")).unwrap()
    };
    let kept = "{\"anchor\":\"发烧三天\",\"positive\":\"多喝水\",\"negative_1\":\"头痛\",\"pos_e5\":[0.50],\"from\":{\"page\":7},\"";
    let line = scored("");
    assert!(line.starts_with(&format!("{kept}pos_scores\":[")) && line.contains("],\"neg_scores\":["), "{line}");
    assert_eq!(scored("--name minilm"), line.replace("_scores", "_minilm"));
    let converted = rows(&scored("--format triplet"));
    assert_eq!((&converted[0]["negative"], &converted[0]["from"]), (&json!("头痛"), &Value::Null));
    place.refuses(&format!("{base} --name e5 --format triplet --output x.jsonl"), "--format");
    place.fails(
        &format!("{base} --name e5 --output x.parquet"),
        "`--name` is for rows that stay as they are: read and write .jsonl or .jsonl.gz",
    );

    place.refuses("data score train.jsonl --output x.jsonl", "--model");
    place.fails(
        &format!("{base} --format tevatron --output x.jsonl"),
        "the form tevatron has no scores: use flagembedding, triplet or n-tuple-N",
    );
    place.file("empty.jsonl", "{\"query\":\"a\",\"pos\":[]}\n");
    let bad = base.replace("train.jsonl", "empty.jsonl");
    let (status, _, stderr) = place.care(&format!("{bad} --output x.jsonl"));
    assert!(status == 1 && stderr.contains("empty.jsonl:1: `pos` is empty"), "{stderr}");
    assert!(!place.path("x.jsonl").exists());
}
