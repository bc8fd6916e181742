//! Columns of Parquet files as other programs write them (`data/make_columns.py`): ids and texts are read as what they
//! are, or refused by name.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use cmedteb::{Corpus, RerankingRow, for_each_row};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/columns").join(name)
}

/// Ids and texts of a corpus, or the error without the folder.
fn corpus(path: &Path) -> Result<Vec<(String, String)>, String> {
    let read = || {
        let corpus = Corpus::open([path])?;
        let mut texts = Vec::new();
        corpus.visit(8, &mut |documents| {
            texts.extend(documents.iter().map(|document| document.text().to_owned()));
            Ok(())
        })?;
        Ok(corpus.ids().iter().cloned().zip(texts).collect())
    };
    read().map_err(|e: care_core::Error| e.to_string().replace(&path.display().to_string(), "F"))
}

fn owned(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(id, text)| (id.to_string(), text.to_string())).collect()
}

/// The rows of a file, or the error without the folder.
fn rows<R: DeserializeOwned>(name: &str) -> Result<Vec<R>, String> {
    let mut rows = Vec::new();
    let read = for_each_row(file(name), &mut |_, row| {
        rows.push(row);
        Ok(())
    });
    read.map(|()| rows).map_err(|e| e.to_string().replace(&file(name).display().to_string(), "F"))
}

#[test]
fn every_codec_is_read() {
    for codec in ["none", "snappy", "gzip", "brotli", "lz4", "zstd"] {
        let expected = owned(&[("d1", "头痛先休息"), ("d2", "少吃盐")]);
        assert_eq!(corpus(&file(&format!("{codec}.parquet"))), Ok(expected), "{codec}");
    }
}

#[test]
fn bytes_are_text_if_they_are_utf8() {
    assert_eq!(corpus(&file("binary.parquet")), Ok(owned(&[("d1", "头痛先休息"), ("dé", "salt")])));
    let message = "F:2: column `_id` is binary and not UTF-8; write it as text";
    assert_eq!(corpus(&file("bytes.parquet")), Err(message.to_owned()));
}

#[test]
fn uuids_have_their_text_form() {
    let expected = [("6f9619ff-8b86-d011-b42d-00c04fc964ff", "a"), ("00000000-0000-0000-0000-00000000000a", "b")];
    assert_eq!(corpus(&file("uuid.parquet")), Ok(owned(&expected)));
}

#[test]
fn json_columns_are_decoded() {
    assert_eq!(corpus(&file("json.parquet")), Ok(owned(&[("d1", "a"), ("2", "b")])));
    let values: Vec<Value> = rows("json.parquet").unwrap();
    assert_eq!(values[0]["positive"], serde_json::json!(["p", "\"p\""]));
    // As in JSON Lines.
    let message = "F:2: invalid type: string \"s\", expected a sequence";
    assert_eq!(rows::<RerankingRow>("json.parquet"), Err(message.to_owned()));
}

#[test]
fn dates_and_times_are_refused_where_they_are_needed() {
    macro_rules! refused {
        ($($column:ident $what:literal),*) => {$(
            #[derive(Debug, PartialEq, Deserialize)]
            struct Row {
                #[allow(dead_code)]
                $column: Value,
            }
            let message = concat!("F:1: column `", stringify!($column), "` is ", $what, "; write it as text");
            assert_eq!(rows::<Row>("times.parquet").map(|rows| rows.len()), Err(message.to_owned()));
        )*};
    }
    {
        refused!(date "a date");
    }
    {
        refused!(time "a time");
    }
    {
        refused!(time_ns "a time");
    }
    {
        refused!(timestamp "a timestamp");
    }
    {
        refused!(timestamp_ns "a timestamp");
    }
    #[derive(Deserialize)]
    struct Nothing {}
    assert_eq!(rows::<Nothing>("times.parquet").unwrap().len(), 1);
}

#[test]
fn numbers_are_exact() {
    let values: Vec<Value> = rows("numbers.parquet").unwrap();
    let expected = |columns: Value| assert!(values.contains(&columns), "{values:?}");
    expected(serde_json::json!({
        "int8": 7, "uint64": u64::MAX, "decimal": 12, "grade": 1.0, "decimal_grade": 1, "half": 0.5
    }));
    expected(serde_json::json!({
        "int8": -7, "uint64": 0, "decimal": -3, "grade": -1.0, "decimal_grade": 2, "half": 1.5
    }));
}

/// The library panics on some of these files.
#[test]
fn a_damaged_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.parquet");
    let whole = fs::read(file("gzip.parquet")).unwrap();
    let mut problems = Vec::new();
    for place in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] = 0xff;
        fs::write(&path, &damaged).unwrap();
        problems.extend(corpus(&path).err());
    }
    assert!(problems.len() > 100 && problems.iter().all(|problem| problem.starts_with('F')), "{problems:?}");
    let panicked = "F: not a readable Parquet file: it is damaged or of an unsupported type";
    assert!(problems.iter().any(|problem| problem == panicked), "{problems:?}");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(corpus(&path).unwrap_err().starts_with("F: not a readable Parquet file: "));
}
