//! `care index`

use serde_json::{Value, json};

use super::{Place, tiny};

const CORPUS: &str = r#"{"_id":"a","title":"头痛","text":"头痛先休息","department":"神经内科","year":2019}
{"_id":"b","text":"发烧三天","department":"发热门诊","tags":["急诊","儿科"],"year":2024}
{"_id":7,"text":"孩子咳嗽","department":"儿科","year":2022,"icu":false,"note":null}
"#;

/// A folder with an index of the corpus.
fn built() -> Place {
    let place = Place::new();
    place.file("corpus.jsonl", CORPUS);
    let line =
        format!("index build --model {} --index idx --corpus corpus.jsonl --codes int8,binary --json", tiny("bert"));
    let (status, stdout, stderr) = place.care(&line);
    assert_eq!((status, stdout.as_str()), (0, "{\"added\":3,\"replaced\":0}\n"), "{stderr}");
    assert_eq!(stderr, "3 documents added to idx, of which 0 replace one\n");
    place
}

/// The ids that a search finds.
fn found(place: &Place, arguments: &str) -> Vec<String> {
    let (status, stdout, stderr) =
        place.care(&format!("index search --model {} --index idx --json {arguments}", tiny("bert")));
    assert_eq!((status, stderr.as_str()), (0, ""), "{arguments}");
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    answer["hits"].as_array().unwrap().iter().map(|hit| hit["_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_index_is_built_once_and_searched_with_filters() {
    let place = built();
    let base = format!("index search --model {} --index idx", tiny("bert"));
    let (status, stdout, stderr) = place.care(&format!("{base} --query 发烧三天 --top-k 1 --json"));
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    let hit = &answer["hits"][0];
    assert_eq!(
        (status, &hit["_id"], &hit["text"], &hit["rank"]),
        (0, &json!("b"), &json!("发烧三天"), &json!(1)),
        "{stderr}"
    );
    assert_eq!(hit["metadata"], json!({"department": "发热门诊", "tags": ["急诊", "儿科"], "year": 2024}));
    assert!((hit["score"].as_f64().unwrap() - 1.0).abs() < 1e-5);
    // The scores are those of `care search`.
    let (_, flat, _) = place.care(&format!("search --model {} --corpus corpus.jsonl --query 咳嗽", tiny("bert")));
    let (_, disk, _) = place.care(&format!("{base} --query 咳嗽 --json"));
    let scores = |line: &str| -> Vec<(Value, Value)> {
        let answer: Value = serde_json::from_str(line).unwrap();
        answer["hits"].as_array().unwrap().iter().map(|hit| (hit["_id"].clone(), hit["score"].clone())).collect()
    };
    assert_eq!(scores(&flat), scores(&disk));

    for (arguments, expected) in [
        ("--filter department=儿科", vec!["7"]),
        ("--filter tags=儿科", vec!["b"]),
        ("--filter year>=2022 --filter year<2024", vec!["7"]),
        ("--filter {\"$or\":[{\"title\":\"头痛\"},{\"icu\":false}]} --codes int8", vec!["7", "a"]),
        ("--filter icu!=false --codes binary --oversampling 3", vec!["a", "b"]),
    ] {
        let mut ids = found(&place, &format!("--query 咳嗽 {arguments}"));
        ids.sort();
        assert_eq!(ids, expected, "{arguments}");
    }

    let one = format!("{base} --query 头痛先休息 --top-k 1 --filter title=头痛");
    // Without a terminal the answer is JSON, with the fields of `care search`.
    let (_, stdout, _) = place.care(&one);
    assert_eq!(place.care(&format!("{one} --json")).1, stdout);
    let hit = serde_json::from_str::<Value>(&stdout).unwrap()["hits"][0].clone();
    assert_eq!((&hit["title"], &hit["metadata"]), (&json!("头痛"), &json!({"department": "神经内科", "year": 2019})));
    let (status, stdout, stderr) = place.care(&format!("{one} --pretty"));
    assert_eq!((status, stderr.as_str()), (0, ""));
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], "头痛先休息: 1 document");
    assert!(lines[1].starts_with("  1  ") && lines[1].ends_with("  a  头痛"), "{stdout}");
    assert_eq!(lines[2..], ["     头痛先休息", "     department=神经内科  year=2019"]);

    let (status, stdout, stderr) = place.care_with(&format!("{base} --pretty"), "头痛\n \n发烧\n");
    assert_eq!((status, stdout.matches(": 3 documents\n").count()), (1, 2));
    assert_eq!(stderr, "error: stdin:2: the query is empty\nerror: 1 of 3 lines of stdin could not be answered\n");
    let (status, _, stderr) = place.care(&format!("{base} --query 头痛 --filter yaer=2019"));
    let warning = "warning: no document has the field `yaer`; fields: department, icu, tags, title, year\n";
    assert_eq!((status, stderr.as_str()), (0, warning));
}

/// BEIR's form, in which further fields are in an object.
#[test]
fn the_demonstration_set_is_indexed_with_its_departments() {
    let place = Place::new();
    assert_eq!(place.care("demo-data --output demo").0, 0);
    let bert = tiny("bert");
    let (status, _, stderr) =
        place.care(&format!("index build --model {bert} --index idx --corpus demo/corpus.jsonl --max-length 16"));
    assert_eq!(status, 0, "{stderr}");
    let base = format!("--model {bert} --max-length 16 --query 血压 --top-k 3");
    let (_, stdout, stderr) = place.care(&format!("index search --index idx {base} --filter department=心血管内科"));
    assert_eq!(stdout.matches("\"metadata\":{\"department\":\"心血管内科\",\"topic\":").count(), 3, "{stderr}");
    let (_, stdout, _) = place.care(&format!("search --corpus demo/corpus.jsonl {base}"));
    assert_eq!(stdout.matches("\"metadata\":{\"department\":").count(), 3, "{stdout}");
}

#[test]
fn documents_are_added_replaced_and_removed() {
    let place = built();
    let bert = tiny("bert");
    place.file("more.csv", "text,id,year\n发烧三天,c,2025\n少吃盐,a,2026\n");
    let (status, stdout, stderr) =
        place.care(&format!("index add --model {bert} --index idx --corpus more.csv --cache cache --json"));
    assert_eq!((status, stdout.as_str()), (0, "{\"added\":2,\"replaced\":1}\n"), "{stderr}");
    // Equal documents in the order in which they were added.
    assert_eq!(found(&place, "--query 发烧三天 --top-k 2"), ["b", "c"]);
    assert_eq!(found(&place, "--query 少吃盐 --top-k 1 --filter year=\"2026\""), ["a"]);
    place.file("ids.txt", "b\n\n7\n");
    let (status, stdout, stderr) = place.care("index remove --index idx --ids ids.txt --id none --json");
    assert_eq!((status, stdout.as_str()), (0, "{\"absent\":1,\"removed\":2}\n"));
    assert_eq!(stderr, "warning: 1 of 3 ids are not in the index\n2 documents removed from idx, 2 left\n");
    let info = |place: &Place| -> Value {
        let (status, stdout, stderr) = place.care("index info --index idx --verify --json");
        assert_eq!((status, stderr.as_str()), (0, ""));
        serde_json::from_str(&stdout).unwrap()
    };
    let before = info(&place);
    assert_eq!(
        (&before["documents"], &before["codes"], &before["dim"]),
        (&json!(2), &json!(["int8", "binary"]), &json!(64))
    );
    let (status, _, stderr) = place.care("index compact --index idx");
    assert_eq!(status, 0, "{stderr}");
    let after = info(&place);
    assert_eq!((&after["documents"], &after["removed"], &after["segments"]), (&json!(2), &json!(0), &json!(1)));
    assert_eq!(after["fields"], json!([{"name": "year", "terms": 2, "numbers": 0}]));
    let (status, stdout, _) = place.care("index info --index idx");
    assert!(
        status == 0 && stdout.contains("\ndocuments       2\n") && stdout.contains("\ncodes           int8, binary\n")
    );
}

#[test]
fn what_is_no_index_or_of_another_tower_is_refused() {
    let place = built();
    let bert = tiny("bert");
    let build = format!("index build --model {bert} --index");
    place.fails(
        &format!("{build} idx --corpus corpus.jsonl"),
        "idx is not empty; add documents to an index with `care index add`",
    );
    place.file("bad.jsonl", "{\"_id\":\"a\",\"text\":\"x\"}\n{\"_id\":\"b\",\"text\":\"y\",\"n\":{\"m\":1}}\n");
    place.fails(
        &format!("{build} new --corpus bad.jsonl"),
        "bad.jsonl:2: row \"b\": the field `n` must be a string, a number, a boolean, null or a list of strings",
    );
    place.file("twice.jsonl", "{\"_id\":1,\"text\":\"a\"}\n{\"_id\":\"1\",\"text\":\"b\"}\n");
    place.fails(&format!("{build} new --corpus twice.jsonl"), "twice.jsonl:2: duplicate `_id` \"1\", first on line 1");
    place.file("empty.jsonl", "");
    place.fails(&format!("{build} new --corpus empty.jsonl"), "empty.jsonl: the corpus is empty");
    assert!(!place.path("new").exists());
    place.fails("index info --index new", "new: no index: there is no index.json");
    place.fails("index remove --index new --id a", "new: no index: there is no index.json");
    for line in [
        format!("index search --model {bert} --dim 32 --index idx --query x"),
        format!("index add --model {bert} --dim 32 --index idx --corpus corpus.jsonl"),
        format!("index search --model {bert} --document-instruction passage:~ --index idx --query x"),
    ] {
        let (status, stdout, stderr) = place.care(&line);
        assert_eq!((status, stdout.as_str()), (1, ""));
        let problem =
            if line.contains("--dim") { "vectors of the document tower " } else { "vectors with the instruction " };
        assert!(stderr.starts_with(&format!("error: the index idx has {problem}")), "{stderr}");
    }
    place.refuses(
        "index search --model x --index idx --filter year",
        "\"year\" is not understood, allowed: FIELD=VALUE",
    );
    place.refuses("index remove --index idx", "--id <ID>");
    place.refuses("index search --model x --index idx --oversampling 3", "--codes");
    place.fails(
        "index search --model x --store qdrant --url http://127.0.0.1:1 --name n --codes int8 --query x",
        "--codes and --expansion are for an index; a database has its own (--approximate)",
    );
    assert_eq!(found(&place, "--query x").len(), 3);
}

#[cfg(not(feature = "approximate"))]
#[test]
fn a_program_without_approximate_search_says_so() {
    let place = built();
    let missing = "this program has no approximate search; build it with `--features approximate`";
    place.fails(&format!("index approximate --model {} --index idx", tiny("bert")), missing);
    place.fails(
        &format!("index build --model {} --index new --corpus corpus.jsonl --approximate", tiny("bert")),
        missing,
    );
    assert!(!place.path("new").exists());
}

#[cfg(feature = "approximate")]
#[test]
fn graphs_are_built_searched_and_their_loss_is_told() {
    let place = built();
    let bert = tiny("bert");
    let info = || place.care("index info --index idx").1;
    assert!(!info().contains("approximate"));
    let none = "the index idx has no graphs for an approximate search: build them with `care index approximate` or \
                `IndexWriter::build_graphs`";
    place.fails(&format!("index search --model {bert} --index idx --approximate --query x"), none);
    let (status, stdout, stderr) = place.care(&format!("index approximate --model {bert} --index idx --json"));
    let built: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (status, &built["loss"]["sample"], &built["loss"]["mean"]),
        (0, &json!("documents"), &json!(0.0)),
        "{stderr}"
    );
    assert!(info().contains("\napproximate     graphs of 3 documents lose 0.00 % (0.00 % to 0.00 %) of the 10 best"));
    assert_eq!(found(&place, "--query 发烧三天 --approximate"), found(&place, "--query 发烧三天"));
    place.file("queries.txt", "发烧\n咳嗽\n");
    let line =
        format!("index build --model {bert} --index new --corpus corpus.jsonl --approximate --queries queries.txt");
    let (status, _, stderr) = place.care(&line);
    assert!(status == 0 && stderr.contains("by 2 queries, 128 candidates each"), "{stderr}");
    place.refuses(&format!("index search --model {bert} --index new --approximate --codes int8"), "--codes");
}
