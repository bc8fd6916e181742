//! The index on disk against a list in memory, bad input, and damaged files.

#![allow(clippy::unwrap_used)]

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use care_core::index::{
    Changes, Codes, DiskIndex, DiskIndexOptions, DocumentTower, FieldInfo, Filter, Hit, IndexWriter, Record,
    SearchOptions, VectorFormat,
};
use care_core::{Embeddings, ErrorKind};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use serde_json::{Map, Value, json};

const DIM: usize = 5;

fn tower() -> DocumentTower {
    DocumentTower::new("tower-a")
}

/// An index with all codes.
fn create(folder: &Path, format: VectorFormat) -> IndexWriter {
    let options = DiskIndexOptions::default().with_vectors(format).with_codes([Codes::Binary, Codes::Int8]);
    IndexWriter::create(folder, &tower(), DIM, &options).unwrap()
}

fn matrix(rows: &[Vec<f32>]) -> Embeddings {
    Embeddings::from_rows(DIM, rows).unwrap()
}

/// What an index should hold: rows in the order in which they were added.
#[derive(Debug, Default, Clone)]
struct Model(Vec<(Record, Vec<f32>)>);

impl Model {
    fn remove(&mut self, ids: &[String]) -> usize {
        let before = self.0.len();
        self.0.retain(|(record, _)| !ids.contains(&record.id));
        before - self.0.len()
    }

    fn add(&mut self, rows: &[(Record, Vec<f32>)]) -> Changes {
        let ids: Vec<String> = rows.iter().map(|(record, _)| record.id.clone()).collect();
        let replaced = self.remove(&ids);
        self.0.extend(rows.iter().cloned());
        Changes { added: rows.len(), replaced }
    }

    /// Ids and scores of the best.
    fn search(&self, query: &[f32], k: usize, filter: Option<&Value>) -> Vec<(String, f32)> {
        let dot = |vector: &[f32]| vector.iter().zip(query).map(|(a, b)| a * b).sum::<f32>() + 0.0;
        let fitting = self.0.iter().filter(|(record, _)| filter.is_none_or(|filter| fits(filter, &record.metadata)));
        let mut hits: Vec<_> = fitting.map(|(record, vector)| (record.id.clone(), dot(vector))).collect();
        hits.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal));
        hits.truncate(k);
        hits
    }
}

/// Whether metadata fit a filter in its JSON form.
fn fits(filter: &Value, metadata: &Map<String, Value>) -> bool {
    filter.as_object().unwrap().iter().all(|(name, value)| match name.as_str() {
        "$and" => value.as_array().unwrap().iter().all(|part| fits(part, metadata)),
        "$or" => value.as_array().unwrap().iter().any(|part| fits(part, metadata)),
        "$not" => !fits(value, metadata),
        _ => {
            let values = match metadata.get(name) {
                None | Some(Value::Null) => Vec::new(),
                Some(Value::Array(values)) => values.clone(),
                Some(value) => vec![value.clone()],
            };
            let Value::Object(operators) = value else { return compares(&values, "$eq", value) };
            let ranges: Vec<_> = operators
                .iter()
                .filter(|(name, _)| name.contains('t'))
                .filter(|(name, _)| *name != "$exists")
                .collect();
            let in_range = |item: &Value| {
                ranges.iter().all(|(operator, value)| compares(std::slice::from_ref(item), operator, value))
            };
            (ranges.is_empty() || values.iter().any(in_range))
                && operators.iter().all(|(operator, value)| match operator.as_str() {
                    "$ne" => !compares(&values, "$eq", value),
                    "$in" => value.as_array().unwrap().iter().any(|value| compares(&values, "$eq", value)),
                    "$nin" => !value.as_array().unwrap().iter().any(|value| compares(&values, "$eq", value)),
                    "$exists" => values.is_empty() != value.as_bool().unwrap(),
                    "$eq" => compares(&values, "$eq", value),
                    _ => true,
                })
        }
    })
}

fn compares(values: &[Value], operator: &str, with: &Value) -> bool {
    let order = |value: &Value| match (value, with) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) if a == b => Some(Ordering::Equal),
        _ => None,
    };
    values.iter().filter_map(order).any(|order| match operator {
        "$eq" => order.is_eq(),
        "$gt" => order.is_gt(),
        "$gte" => order.is_ge(),
        "$lt" => order.is_lt(),
        "$lte" => order.is_le(),
        _ => unreachable!("{operator}"),
    })
}

fn ids() -> Vec<String> {
    ["a", "b/../c", "d\n\"e\"", "病历 7", "\u{0}", "007", "7", " ", "e", "f"].map(str::to_owned).to_vec()
}

fn any_record() -> impl Strategy<Value = Record> {
    let dept = select(vec![json!("内科"), json!("外科"), json!(["内科", "儿科"]), json!([]), Value::Null, json!(3)]);
    let fields = (dept, proptest::option::of(-2i32..3), proptest::option::of(any::<bool>()), any::<bool>());
    fields.prop_map(|(dept, year, open, text)| {
        let mut record = Record::new("").with_field("dept", dept);
        if let Some(year) = year {
            record = record.with_field("year", f64::from(year) + 0.5);
        }
        if let Some(open) = open {
            record = record.with_field("open", open);
        }
        if text { record.with_text("文本 \u{1F600}") } else { record }
    })
}

#[derive(Debug, Clone)]
enum Change {
    Add(Vec<(Record, Vec<f32>)>),
    Remove(Vec<String>),
    Compact,
    Reopen,
}

fn any_vector() -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec(-3i8..=3, DIM - 1)
        .prop_map(|values| values.into_iter().map(f32::from).chain([1.0]).collect())
}

fn any_change() -> impl Strategy<Value = Change> {
    let rows = (subsequence(ids(), 1..8), proptest::collection::vec((any_record(), any_vector()), 8));
    let add = rows.prop_map(|(ids, rows)| {
        let with_id = |(id, (record, vector)): (String, (Record, _))| (Record { id, ..record }, vector);
        Change::Add(ids.into_iter().zip(rows).map(with_id).collect())
    });
    prop_oneof![
        4 => add,
        2 => subsequence(ids(), 0..5).prop_map(Change::Remove),
        1 => Just(Change::Compact),
        1 => Just(Change::Reopen),
    ]
}

fn any_filter() -> impl Strategy<Value = Value> {
    let value =
        select(vec![json!("内科"), json!("外科"), json!("儿科"), json!(3), json!(0.5), json!(true), json!(false)]);
    let leaf = (select(vec!["dept", "year", "open", "none"]), value, select(vec!["$eq", "$ne", "$in", "$nin"]))
        .prop_map(|(field, value, operator)| match operator {
            "$in" | "$nin" => json!({ field: { operator: [value, "外科", -0.5] } }),
            _ => json!({ field: { operator: value } }),
        });
    let range = (-3i32..3, 0i32..4, any::<bool>()).prop_map(|(low, size, included)| {
        let (low, high) = (f64::from(low) + 0.5, f64::from(low + size) + 0.5);
        if included {
            json!({ "year": { "$gte": low, "$lt": high } })
        } else {
            json!({ "year": { "$gt": low, "$lte": high } })
        }
    });
    let text = select(vec![
        json!({"dept": {"$gte": "儿"}}),
        json!({"dept": {"$lt": "外"}}),
        json!({"open": {"$exists": true}}),
        json!({"dept": {"$exists": false}}),
    ]);
    prop_oneof![leaf, range, text].prop_recursive(3, 12, 3, |inner| {
        let parts = || proptest::collection::vec(inner.clone(), 0..3);
        prop_oneof![
            parts().prop_map(|parts| json!({ "$and": parts })),
            parts().prop_map(|parts| json!({ "$or": parts })),
            inner.clone().prop_map(|part| json!({ "$not": part })),
        ]
    })
}

fn found(index: &DiskIndex, hits: &[Hit]) -> Vec<(String, f32)> {
    hits.iter().map(|hit| (index.record(hit.index).unwrap().id, hit.score)).collect()
}

/// Compares rows and searches with the model.
fn assert_equals(index: &DiskIndex, model: &Model, queries: &[Vec<f32>], filter: &Value, k: usize) {
    let rows: Vec<usize> = index.rows().collect();
    let records: Vec<Record> = rows.iter().map(|row| index.record(*row).unwrap()).collect();
    let expected: Vec<Record> = model.0.iter().map(|(record, _)| record.clone()).collect();
    assert_eq!(records, expected);
    assert_eq!(index.len(), model.0.len());
    let vectors: Vec<Vec<f32>> = model.0.iter().map(|(_, vector)| vector.clone()).collect();
    assert_eq!(index.vectors(&rows).unwrap(), matrix(&vectors));
    for id in ids() {
        let at = records.iter().position(|record| record.id == id);
        assert_eq!(index.find(&id).unwrap(), at.map(|at| rows[at]));
    }
    for filter in [None, Some(filter)] {
        let mut options = SearchOptions::new(k);
        options.filter = filter.map(|filter| Filter::from_json(filter).unwrap());
        let exact = index.search(&matrix(queries), &options).unwrap();
        for (query, hits) in queries.iter().zip(&exact) {
            assert_eq!(found(index, hits), model.search(query, k, filter), "{filter:?}");
        }
        // With all rows as candidates, codes lose nothing.
        for codes in [Codes::Int8, Codes::Binary] {
            let options = options.clone().with_codes(codes).with_oversampling(100);
            assert_eq!(index.search(&matrix(queries), &options).unwrap(), exact);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn an_index_equals_a_list_of_its_rows(
        changes in proptest::collection::vec(any_change(), 1..12), queries in proptest::collection::vec(any_vector(), 1..4),
        filter in any_filter(), k in 1usize..6, format in any::<Index>(),
    ) {
        let formats = [VectorFormat::F32, #[cfg(feature = "f16")] VectorFormat::F16];
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("index");
        let mut writer = create(&folder, *format.get(&formats));
        let mut model = Model::default();
        let mut reader = DiskIndex::open(&folder).unwrap();
        for change in changes {
            let before = (reader.clone(), model.clone());
            match change {
                Change::Add(rows) => {
                    let (records, vectors): (Vec<_>, Vec<_>) = rows.iter().cloned().unzip();
                    prop_assert_eq!(writer.add(&tower(), &records, &matrix(&vectors)).unwrap(), model.add(&rows));
                }
                Change::Remove(ids) => prop_assert_eq!(writer.remove(&ids).unwrap(), model.remove(&ids)),
                Change::Compact => {
                    writer.compact().unwrap();
                    prop_assert!(writer.index().removed() == 0 && writer.index().segments() <= 1);
                }
                Change::Reopen => {
                    drop(writer);
                    writer = IndexWriter::open(&folder).unwrap();
                }
            }
            assert_equals(writer.index(), &model, &queries, &filter, k);
            // A reader has what it opened until it opens again.
            assert_equals(&before.0, &before.1, &queries, &filter, k);
            reader = reader.reopen().unwrap();
            assert_equals(&reader, &model, &queries, &filter, k);
            reader.verify().unwrap();
        }
    }
}

/// Pseudorandom vectors.
fn random(rows: usize, dim: usize, mut state: u64) -> Embeddings {
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let rows: Vec<Vec<f32>> = (0..rows).map(|_| (0..dim).map(|_| next()).collect()).collect();
    Embeddings::from_rows(dim, rows).unwrap()
}

#[test]
fn many_blocks_and_segments_are_searched_as_one_list() {
    let (place, dim, n) = (tempfile::tempdir().unwrap(), 96, 9000);
    let options = DiskIndexOptions::default().with_codes([Codes::Int8, Codes::Binary]);
    let mut writer = IndexWriter::create(place.path(), &tower(), dim, &options).unwrap();
    let vectors = random(n, dim, 1);
    for start in (0..n).step_by(4500) {
        let records: Vec<Record> =
            (start..start + 4500).map(|row| Record::new(row.to_string()).with_field("row", row)).collect();
        let part = Embeddings::from(
            vectors.as_array().slice_axis(care_core::ndarray::Axis(0), (start..start + 4500).into()).to_owned(),
        );
        writer.add(&tower(), &records, &part).unwrap();
    }
    let (index, queries) = (writer.index(), random(150, dim, 2));
    let flat = care_core::index::FlatIndex::new(vectors);
    let exact = index.search(&queries, &SearchOptions::new(10)).unwrap();
    assert_eq!(exact, flat.search(&queries, 10).unwrap());
    for (codes, least) in [(Codes::Int8, 0.99), (Codes::Binary, 0.7)] {
        let hits = index.search(&queries, &SearchOptions::new(10).with_codes(codes)).unwrap();
        let common = |(a, b): (&Vec<Hit>, &Vec<Hit>)| a.iter().filter(|hit| b.contains(hit)).count();
        let recall = hits.iter().zip(&exact).map(common).sum::<usize>() as f64 / 1500.0;
        assert!(recall >= least, "{codes:?} {recall}");
    }
    // Dense, sparse and single rows.
    for (low, high) in [(100, 8000), (4400, 4600), (4499, 4501), (8999, 9000), (50, 50)] {
        let filter = Filter::from_json(&json!({"row": {"$gte": low, "$lt": high}})).unwrap();
        for codes in [None, Some(Codes::Int8), Some(Codes::Binary)] {
            let mut options = SearchOptions::new(10_000).with_filter(filter.clone());
            options.codes = codes;
            let hits = index.search(&queries, &options).unwrap();
            let all = flat.search(&queries, 10_000).unwrap();
            for (hits, all) in hits.iter().zip(all) {
                let expected: Vec<Hit> = all.into_iter().filter(|hit| (low..high).contains(&hit.index)).collect();
                assert_eq!(hits, &expected, "{low} {high} {codes:?}");
            }
        }
    }
}

#[test]
fn small_additions_are_merged_and_keep_their_order() {
    let place = tempfile::tempdir().unwrap();
    let (mut writer, mut model) = (create(place.path(), VectorFormat::F32), Model::default());
    for round in 0..40u8 {
        let rows = [(Record::new(format!("{}", round % 30)), vec![1.0, f32::from(round), 0.0, 0.0, 2.0])];
        assert_eq!(
            writer.add(&tower(), &[rows[0].0.clone()], &matrix(&[rows[0].1.clone()])).unwrap(),
            model.add(&rows)
        );
        assert!(writer.index().segments() <= 17);
    }
    assert_equals(writer.index(), &model, &[vec![1.0, 0.0, 0.0, 0.0, 0.0]], &json!({}), 50);
    let folders = fs::read_dir(place.path()).unwrap().flatten().filter(|entry| entry.path().is_dir()).count();
    assert_eq!(folders, writer.index().segments());
}

#[test]
fn an_empty_index_finds_nothing() {
    let place = tempfile::tempdir().unwrap();
    let mut writer = create(&place.path().join("new/index"), VectorFormat::F32);
    assert_eq!(writer.remove(&["a"]).unwrap(), 0);
    assert_eq!(writer.add(&tower(), &[], &Embeddings::zeros(0, DIM)).unwrap(), Changes { added: 0, replaced: 0 });
    writer.compact().unwrap();
    let index = DiskIndex::open(place.path().join("new/index")).unwrap();
    assert!(index.is_empty() && index.rows().next().is_none() && index.fields().unwrap().is_empty());
    for codes in [None, Some(Codes::Int8), Some(Codes::Binary)] {
        let mut options = SearchOptions::new(3).with_filter("a=b".parse().unwrap());
        options.codes = codes;
        assert_eq!(index.search(&Embeddings::zeros(2, DIM), &options).unwrap(), [vec![], vec![]]);
    }
    // Of all rows removed, nothing is left.
    writer.add(&tower(), &[Record::new("a")], &matrix(&[vec![1.0; DIM]])).unwrap();
    assert_eq!((writer.remove(&["a", "a", "b"]).unwrap(), writer.index().segments()), (1, 0));
}

#[test]
fn what_cannot_be_found_is_refused_by_its_id_and_nothing_is_added() {
    let place = tempfile::tempdir().unwrap();
    let mut writer = create(place.path(), VectorFormat::F32);
    writer.add(&tower(), &[Record::new("old")], &matrix(&[vec![1.0; DIM]])).unwrap();
    let good = vec![1.0; DIM];
    let nested = "row \"new\": the field `f` must be a string, a number, a boolean, null or a list of strings";
    for (record, vector, message, kind) in [
        (
            Record::new("new"),
            vec![0.0; DIM],
            "the vector of row \"new\" is zero: nothing is similar to it",
            ErrorKind::Config,
        ),
        (
            Record::new("new"),
            vec![f32::NAN; DIM],
            "the vector of row \"new\" is not finite in f32",
            ErrorKind::NonFinite,
        ),
        (Record::new(""), good.clone(), "the id of a row is empty", ErrorKind::Config),
        (Record::new("first"), good.clone(), "the id \"first\" occurs twice in one addition", ErrorKind::Config),
        (Record::new("new").with_field("f", json!({"a": 1})), good.clone(), nested, ErrorKind::Config),
        (Record::new("new").with_field("f", json!([1, 2])), good.clone(), nested, ErrorKind::Config),
    ] {
        let error =
            writer.add(&tower(), &[Record::new("first"), record], &matrix(&[good.clone(), vector])).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.kind()), (message, kind));
    }
    let error = writer.add(&tower(), &[Record::new("new")], &Embeddings::zeros(1, 3)).unwrap_err();
    assert_eq!(error.to_string(), "vectors have 3 dimensions, the index has 5");
    let error = writer.add(&tower(), &[Record::new("new")], &matrix(&[good.clone(), good.clone()])).unwrap_err();
    assert_eq!(error.to_string(), "1 rows have 2 vectors");
    #[cfg(feature = "f16")]
    {
        let other = place.path().join("half");
        let mut half = create(&other, VectorFormat::F16);
        let error = half.add(&tower(), &[Record::new("new")], &matrix(&[vec![1e6; DIM]])).unwrap_err();
        assert_eq!(error.to_string(), "the vector of row \"new\" is not finite in f16");
        drop(half);
        fs::remove_dir_all(other).unwrap();
    }
    assert_eq!(writer.index().len(), 1);
    let names: Vec<_> = fs::read_dir(place.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let error = |options: SearchOptions, queries: Embeddings| {
        writer.index().search(&queries, &options).unwrap_err().to_string()
    };
    assert_eq!(error(SearchOptions::new(1), Embeddings::zeros(1, 3)), "queries have 3 dimensions, the index has 5");
    assert_eq!(error(SearchOptions::new(1), matrix(&[vec![f32::NAN; DIM]])), "the vector of query 0 is not finite");
    let oversampled = SearchOptions::new(1).with_oversampling(2);
    assert_eq!(error(oversampled, matrix(&[])), "`oversampling` is 2, allowed: none for a search without codes");
    let none = SearchOptions::new(1).with_codes(Codes::Int8).with_oversampling(0);
    assert_eq!(error(none, matrix(&[])), "`oversampling` is 0, allowed: at least 1");
    let plain = place.path().join("plain");
    IndexWriter::create(&plain, &tower(), 2, &DiskIndexOptions::default()).unwrap();
    let search = SearchOptions::new(1).with_codes(Codes::Int8);
    let error = DiskIndex::open(&plain).unwrap().search(&Embeddings::zeros(1, 2), &search).unwrap_err().to_string();
    assert!(error.ends_with("plain has no int8 codes (it has: none); build it with them"), "{error}");
    let error = IndexWriter::create(&plain, &tower(), 0, &DiskIndexOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "`dim` is 0, allowed: 1 to 65536");
}

#[test]
fn vectors_of_another_tower_are_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    let mut writer = create(place.path(), VectorFormat::F32);
    let name = place.path().display().to_string();
    let error =
        writer.add(&DocumentTower::new("tower-b"), &[Record::new("a")], &matrix(&[vec![1.0; DIM]])).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the index {name} has vectors of the document tower tower-a, not of tower-b")
    );
    let instructed = tower().with_instruction("passage: {text}");
    let error = DiskIndex::open(place.path()).unwrap().check_tower(&instructed).unwrap_err();
    let expected = format!("the index {name} has vectors with the instruction \"\", not \"passage: {{text}}\"");
    assert_eq!((error.to_string(), error.kind()), (expected, ErrorKind::Config));
    writer.index().check_tower(&tower()).unwrap();
}

#[test]
fn an_index_has_one_writer_at_a_time() {
    let place = tempfile::tempdir().unwrap();
    let writer = create(place.path(), VectorFormat::F32);
    let error = IndexWriter::open(place.path()).unwrap_err().to_string();
    assert!(error.contains("is in use by process"), "{error}");
    // Readers do not wait.
    DiskIndex::open(place.path()).unwrap();
    drop(writer);
    drop(IndexWriter::open(place.path()).unwrap());
    let again = IndexWriter::create(place.path(), &tower(), DIM, &DiskIndexOptions::default()).unwrap_err();
    assert!(again.to_string().ends_with(": there is an index already"), "{again}");
    let other = place.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("mine.txt"), "").unwrap();
    for error in [
        IndexWriter::create(&other, &tower(), DIM, &DiskIndexOptions::default()).unwrap_err().to_string(),
        IndexWriter::open(place.path().join("none")).unwrap_err().to_string(),
        DiskIndex::open(&other).unwrap_err().to_string(),
    ] {
        assert!(
            error.ends_with("the folder is not empty") || error.ends_with("no index: there is no index.json"),
            "{error}"
        );
    }
    assert!(!place.path().join("none").exists());
}

/// All files of a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    files.retain(|path| !path.ends_with(".lock"));
    files.sort();
    files
}

fn filled(folder: &Path) -> IndexWriter {
    let mut writer = create(folder, VectorFormat::F32);
    let records = ["a", "b", "c"].map(|id| Record::new(id).with_text(id).with_field("dept", id).with_field("n", 3));
    writer.add(&tower(), &records, &matrix(&[vec![1.0; DIM], vec![2.0; DIM], vec![-1.0; DIM]])).unwrap();
    writer.remove(&["b"]).unwrap();
    writer
}

#[test]
fn a_flipped_byte_is_found_and_its_file_named() {
    let place = tempfile::tempdir().unwrap();
    drop(filled(place.path()));
    let files = files(place.path());
    assert_eq!(files.len(), 10, "{files:?}");
    for path in files {
        let intact = fs::read(&path).unwrap();
        for at in [0, intact.len() / 2, intact.len() - 1] {
            let mut bytes = intact.clone();
            bytes[at] ^= 4;
            fs::write(&path, bytes).unwrap();
            let result = DiskIndex::open(place.path()).and_then(|index| {
                index.verify()?;
                index.search(&matrix(&[vec![1.0; DIM]]), &SearchOptions::new(3))
            });
            let error = result.expect_err(&path.display().to_string());
            assert_eq!((error.kind(), error.path()), (ErrorKind::Format, Some(path.as_path())), "{error}");
        }
        fs::write(&path, &intact[..intact.len() - 1]).unwrap();
        assert_eq!(DiskIndex::open(place.path()).unwrap_err().path(), Some(path.as_path()));
        fs::remove_file(&path).unwrap();
        assert!(DiskIndex::open(place.path()).is_err());
        fs::write(&path, intact).unwrap();
    }
    DiskIndex::open(place.path()).unwrap().verify().unwrap();
}

#[test]
fn a_search_reads_damaged_blocks_as_errors_not_as_scores() {
    let place = tempfile::tempdir().unwrap();
    drop(filled(place.path()));
    for (file, codes) in [("vectors", None), ("int8", Some(Codes::Int8)), ("binary", Some(Codes::Binary))] {
        let path = place.path().join("segment-0").join(file);
        let intact = fs::read(&path).unwrap();
        let mut bytes = intact.clone();
        bytes[1] ^= 1;
        fs::write(&path, bytes).unwrap();
        let mut options = SearchOptions::new(3);
        options.codes = codes;
        let error = DiskIndex::open(place.path()).unwrap().search(&matrix(&[vec![1.0; DIM]]), &options).unwrap_err();
        let problem = "the block of 16384 bytes at 0 is damaged: its checksum differs";
        assert_eq!(error.to_string(), format!("{}: {problem}", path.display()));
        fs::write(&path, intact).unwrap();
    }
}

#[test]
fn another_version_of_the_format_is_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    drop(filled(place.path()));
    let path = place.path().join("index.json");
    let index = fs::read_to_string(&path).unwrap();
    let inner = index.split_once("\"index\":").unwrap().1.strip_suffix('}').unwrap();
    for (from, to, problem) in [
        ("care-index-1", "care-index-2", "the format care-index-2 is not known, supported: care-index-1".to_owned()),
        ("\"dim\"", "\"size\"", "not the manifest of an index: unknown field `size`".to_owned()),
    ] {
        let changed = inner.replace(from, to);
        let mut sum = flate2::Crc::new();
        sum.update(changed.as_bytes());
        let crc32 = sum.sum();
        fs::write(&path, format!("{{\"crc32\":{crc32},\"index\":{changed}}}")).unwrap();
        let error = DiskIndex::open(place.path()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: {problem}", path.display())), "{error}");
        fs::write(&path, format!("{{\"crc32\":0,\"index\":{changed}}}")).unwrap();
        let error = DiskIndex::open(place.path()).unwrap_err().to_string();
        assert_eq!(error, format!("{}: the manifest is damaged: its checksum differs", path.display()));
    }
    fs::write(&path, "{}").unwrap();
    let error = DiskIndex::open(place.path()).unwrap_err().to_string();
    assert!(error.contains("index.json: not the manifest of an index: missing field"), "{error}");
}

#[test]
fn fields_are_listed_with_their_values() {
    let place = tempfile::tempdir().unwrap();
    let mut writer = filled(place.path());
    let records = [Record::new("d").with_field("dept", json!(["x", "y"])).with_field("n", true)];
    writer.add(&tower(), &records, &matrix(&[vec![1.0; DIM]])).unwrap();
    let field = |name: &str, terms, numbers| FieldInfo { name: name.to_owned(), terms, numbers };
    assert_eq!(writer.index().fields().unwrap(), [field("dept", 5, 0), field("n", 1, 3)]);
    writer.compact().unwrap();
    assert_eq!(writer.index().fields().unwrap(), [field("dept", 4, 0), field("n", 1, 2)]);
}

#[test]
fn an_addition_in_parts_takes_effect_at_once_or_not_at_all() {
    let place = tempfile::tempdir().unwrap();
    let mut writer = filled(place.path());
    let mut addition = writer.addition(&tower()).unwrap();
    addition.push(&[Record::new("x")], &matrix(&[vec![1.0; DIM]])).unwrap();
    assert!(!addition.is_empty());
    drop(addition);
    assert_eq!(writer.index().find("x").unwrap(), None);
    let mut addition = writer.addition(&tower()).unwrap();
    for id in ["x", "a", "y"] {
        addition.push(&[Record::new(id)], &matrix(&[vec![1.0; DIM]])).unwrap();
        assert_eq!(DiskIndex::open(place.path()).unwrap().len(), 2);
    }
    assert_eq!(addition.commit().unwrap(), Changes { added: 3, replaced: 1 });
    let index = DiskIndex::open(place.path()).unwrap();
    let ids: Vec<String> = index.rows().map(|row| index.record(row).unwrap().id).collect();
    assert_eq!(ids, ["c", "x", "a", "y"]);
}
