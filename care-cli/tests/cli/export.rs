//! `care index export`, and searches of databases

use serde_json::{Value, json};

use super::stub::Stub;
use super::{Place, tiny};

const CORPUS: &str = r#"{"_id":"a","title":"头痛","text":"头痛先休息","year":2019}
{"_id":"b","text":"发烧三天","year":2024}
{"_id":"c","text":"孩子咳嗽","year":2022}
"#;

fn built() -> Place {
    let place = Place::new();
    place.file("corpus.jsonl", CORPUS);
    let (status, _, stderr) =
        place.care(&format!("index build --model {} --index idx --corpus corpus.jsonl", tiny("bert")));
    assert_eq!(status, 0, "{stderr}");
    place
}

#[test]
fn an_index_becomes_a_parquet_file() {
    let place = built();
    let (status, stdout, stderr) = place.care("index export --index idx --to parquet --output docs.parquet --json");
    assert_eq!((status, stdout.as_str()), (0, "{\"rows\":3}\n"), "{stderr}");
    assert_eq!(stderr, "3 rows written to docs.parquet\n");
    // It is a corpus again.
    let (status, stdout, stderr) =
        place.care(&format!("search --model {} --corpus docs.parquet --query 发烧三天 --top-k 1", tiny("bert")));
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &answer["hits"][0]["_id"]), (0, &json!("b")), "{stderr}");
    let (status, _, stderr) = place.care("index export --index idx --to parquet --output half.parquet --vectors f16");
    assert_eq!((status, stderr.as_str()), (0, "3 rows written to half.parquet\n"));

    let export = "index export --index idx --to";
    place.fails(&format!("{export} parquet"), "which file? Give --output");
    place.fails(&format!("{export} parquet --output a --hnsw"), "--hnsw: not an option of this target");
    place.fails(&format!("{export} parquet --output a --name b"), "--url and --name: not an option of this target");
    place.fails(&format!("{export} qdrant --output a"), "--output: not an option of this target");
    place.fails(
        &format!("{export} qdrant --name a"),
        "where is the database? Give --url or set the variable CARE_STORE_URL",
    );
    place.fails(&format!("{export} pgvector --url host=localhost"), "which collection or table? Give --name");
    place.refuses(&format!("{export} oracle"), "invalid value 'oracle'");
}

#[test]
fn an_index_is_pushed_into_a_database_and_searched_there() {
    let (place, stub) = (built(), Stub::start());
    let at = format!("--url {} --name docs", stub.url);
    let export = format!("index export --index idx --to qdrant {at} --json");
    let pushed = |line: &str| {
        let (status, stdout, stderr) = place.care(line);
        assert_eq!(status, 0, "{stderr}");
        (serde_json::from_str::<Value>(&stdout).unwrap(), stderr)
    };
    let (numbers, stderr) = pushed(&export);
    let all = json!({"rows": 3, "written": 3, "removed": 0, "stored": 3, "missing": 0, "different": 0, "sampled": 3});
    assert_eq!(numbers, all);
    let name = format!("the collection docs at {}", stub.url);
    assert_eq!(stderr, format!("{name} has 3 rows: 3 written, 0 there already, 0 removed; 3 read back\n"));

    // Scores and documents are those of the index.
    for filter in ["", "--filter year>=2020", "--filter title=头痛"] {
        let search = format!("index search --model {} --query 咳嗽 --json {filter}", tiny("bert"));
        let (status, from_index, stderr) = place.care(&format!("{search} --index idx"));
        assert_eq!(status, 0, "{stderr}");
        let (status, from_store, stderr) = place.care(&format!("{search} --store qdrant {at}"));
        assert_eq!((status, stderr.as_str()), (0, ""));
        let hits = |line: &str| {
            let answer: Value = serde_json::from_str(line).unwrap();
            let hits = answer["hits"].as_array().unwrap().clone();
            hits.into_iter().map(|mut hit| (hit["score"].take().as_f64().unwrap(), hit)).collect::<Vec<_>>()
        };
        let (from_index, from_store) = (hits(&from_index), hits(&from_store));
        assert_eq!(from_store.len(), from_index.len());
        for ((score, hit), (stored_score, stored)) in from_index.iter().zip(&from_store) {
            assert!((score - stored_score).abs() < 1e-5);
            assert_eq!(hit, stored);
        }
    }

    place.care("index remove --index idx --id c");
    let (numbers, stderr) = pushed(&export);
    assert_eq!((&numbers["written"], &numbers["stored"]), (&json!(0), &json!(3)));
    assert!(stderr.ends_with("warning: 1 rows are not of this index; --remove-others removes them\n"), "{stderr}");
    let (numbers, _) = pushed(&format!("{export} --remove-others --batch 1"));
    assert_eq!((&numbers["removed"], &numbers["stored"]), (&json!(1), &json!(2)));

    let (status, _, stderr) =
        place.care(&format!("index search --model {} --dim 32 --store qdrant {at} --query 头痛", tiny("bert")));
    assert!(status == 1 && stderr.contains("has vectors of the document tower"), "{stderr}");
    let search = format!("index search --model {} --query 头痛", tiny("bert"));
    place.refuses(&format!("{search} --store qdrant --index idx {at}"), "cannot be used with");
    place.refuses(&search, "--index <DIR>");
    #[cfg(not(feature = "approximate"))]
    place.fails(
        &format!("{search} --index idx --approximate"),
        "approximate search is not part of this program: build care-core with the feature `approximate`",
    );
    place.fails(&format!("{search} --index idx {at}"), "--url and --name are of a database; name it by --store");
    place.fails(
        &format!("{search} --store qdrant --url {} --name no", stub.url),
        &format!("the collection no at {} does not exist", stub.url),
    );
}
