//! Plans and inputs: Parquet gives what JSON Lines gives, and merged files what the embedder gives.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use care_core::Embedder;
use care_shard::{Dtype, Fields, Job, Plan, PlanOptions, Stores};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::embedders::Hashing;
use super::{JOB, corpus, in_memory, merged, options, plan, work};

const TOWER: Hashing = Hashing("tower-1");

/// Writes the corpus as other programs would: an integer id, text that may be null, groups and pages of odd sizes.
fn write_parquet(path: &Path) {
    let schema = "message m { optional binary body (UTF8); required int64 key; optional binary title (UTF8); optional float x; }";
    let properties = WriterProperties::builder().set_data_page_row_count_limit(37).set_write_batch_size(16).build();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    let documents = corpus::documents();
    for (start, group) in (0..).step_by(300).zip(documents.chunks(300)) {
        let mut out = writer.next_row_group().unwrap();
        let mut column = out.next_column().unwrap().unwrap();
        let texts: Vec<ByteArray> = group.iter().map(|(_, document)| ByteArray::from(document.text())).collect();
        column.typed::<ByteArrayType>().write_batch(&texts, Some(&vec![1; group.len()]), None).unwrap();
        column.close().unwrap();
        let mut column = out.next_column().unwrap().unwrap();
        let keys: Vec<i64> = (start..start + group.len() as i64).collect();
        column.typed::<Int64Type>().write_batch(&keys, None, None).unwrap();
        column.close().unwrap();
        let mut column = out.next_column().unwrap().unwrap();
        let titles = group.iter().map(|(_, document)| document.title()).filter(|title| !title.is_empty());
        let titles: Vec<ByteArray> = titles.map(ByteArray::from).collect();
        let levels: Vec<i16> = group.iter().map(|(_, document)| i16::from(!document.title().is_empty())).collect();
        column.typed::<ByteArrayType>().write_batch(&titles, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = out.next_column().unwrap().unwrap();
        column.typed::<parquet::data_type::FloatType>().write_batch(&[], Some(&vec![0; group.len()]), None).unwrap();
        column.close().unwrap();
        out.close().unwrap();
    }
    writer.close().unwrap();
}

fn fields(id: &str, text: &str) -> Fields {
    Fields { id: id.to_owned(), text: text.to_owned(), ..Fields::default() }
}

#[test]
fn parquet_is_cut_by_rows_and_gives_the_same_vectors() {
    let folder = tempfile::tempdir().unwrap();
    write_parquet(&folder.path().join("corpus.parquet"));
    let expected: Vec<(String, Vec<f32>)> =
        corpus::expected(&TOWER).into_iter().map(|(id, vector)| (id[1..].to_owned(), vector)).collect();
    for rows in [1000, 170, 31] {
        let options = options().with_shard_rows(rows).with_fields(fields("key", "body"));
        let job = plan(&in_memory(), folder.path(), &TOWER, &options);
        assert_eq!(job.plan().shards.len(), 1000usize.div_ceil(rows as usize));
        work(&job, &TOWER).unwrap();
        assert_eq!(merged(&job), expected);
        assert!(job.verify(true, &mut |_| ()).unwrap().is_complete());
    }
}

#[test]
fn columns_that_are_no_documents_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("corpus.parquet");
    write_parquet(&path);
    let failed = |fields: Fields| {
        let job = plan(&in_memory(), folder.path(), &TOWER, &options().with_fields(fields));
        work(&job, &TOWER).unwrap();
        job.verify(false, &mut |_| ()).unwrap().failed[0].problem.rsplit("parquet").next().unwrap().to_owned()
    };
    assert_eq!(failed(fields("_id", "body")), ": missing column `_id`");
    assert_eq!(failed(fields("key", "x")), ": column `x` is no text");
    assert!(failed(fields("title", "body")).contains("the id is null"));
    assert_eq!(failed(fields("key", "key")), ":1: column `key` is 0, expected text");
    fs::write(&path, "PAR1").unwrap();
    let error = Plan::new(&in_memory(), &[path.to_str().unwrap().to_owned()], &TOWER, &options()).unwrap_err();
    assert!(error.to_string().contains("not a readable Parquet file"), "{error}");
}

#[test]
fn files_in_a_folder_are_read_whatever_their_names_and_refused_if_they_are_packed() {
    let folder = tempfile::tempdir().unwrap();
    corpus::write(folder.path());
    for (from, to) in [("a.jsonl", "a#1?.jsonl"), ("b.jsonl", "b%41.jsonl")] {
        fs::rename(folder.path().join(from), folder.path().join(to)).unwrap();
    }
    fs::write(folder.path().join("notes.txt.gz"), "no documents").unwrap();
    let job = plan(&in_memory(), folder.path(), &TOWER, &options());
    work(&job, &TOWER).unwrap();
    assert_eq!(merged(&job), corpus::expected(&TOWER));
    for name in ["more.jsonl.gz", "more.parquet.gz", "more.jsonl.zst"] {
        let path = folder.path().join(name);
        fs::write(&path, "packed").unwrap();
        let error = Plan::new(&in_memory(), &[folder.path().to_str().unwrap().to_owned()], &TOWER, &options());
        let problem = "a file that is packed as a whole cannot be cut into shards: unpack it";
        assert_eq!(error.unwrap_err().to_string(), format!("file://{}: {problem}", path.display()));
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_merged_matrix_is_what_the_embedder_gives() {
    let folder = tempfile::tempdir().unwrap();
    corpus::write(folder.path());
    let job = plan(&in_memory(), folder.path(), &TOWER, &options());
    work(&job, &TOWER).unwrap();
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("all.npy");
    assert_eq!(job.merge(&path, &mut |_| ()).unwrap().rows, 1000);
    let content = fs::read(path).unwrap();
    let header = std::str::from_utf8(&content[10..128]).unwrap();
    assert_eq!(header.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (1000, 6)}");
    let expected: Vec<u8> = corpus::expected(&TOWER)
        .iter()
        .flat_map(|(_, vector)| vector.iter().flat_map(|value| value.to_le_bytes()))
        .collect();
    assert!(content[128..] == expected);
}

#[test]
fn half_precision_and_int8_are_near() {
    let folder = tempfile::tempdir().unwrap();
    corpus::write(folder.path());
    for (dtype, most) in [(Dtype::F16, 3e-4), (Dtype::Int8, 2e-3)] {
        let job = plan(&in_memory(), folder.path(), &TOWER, &options().with_dtype(dtype));
        work(&job, &TOWER).unwrap();
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("all.npy");
        job.merge(&path, &mut |_| ()).unwrap();
        let content = fs::read(path).unwrap();
        let values = content[128..].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let expected: Vec<f32> = corpus::expected(&TOWER).into_iter().flat_map(|(_, vector)| vector).collect();
        assert_eq!(values.len(), expected.len());
        assert!(values.zip(expected).all(|(stored, exact)| (stored - exact).abs() <= most), "{dtype:?}");
    }
}

#[test]
fn shards_have_about_as_many_rows_as_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    corpus::write(folder.path());
    let job = plan(&in_memory(), folder.path(), &TOWER, &PlanOptions::default().with_shard_rows(100));
    assert!((9..=13).contains(&job.plan().shards.len()), "{}", job.plan().shards.len());
    // A shard in which no row begins.
    let tiny = plan(&in_memory(), folder.path(), &TOWER, &options().with_shard_bytes(Some(50)));
    work(&tiny, &TOWER).unwrap();
    assert_eq!(merged(&tiny), corpus::expected(&TOWER));
}

#[test]
fn bad_places_and_options_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let stores = Stores::new().unwrap();
    let refused = |name: &str, options: &PlanOptions| {
        let place = folder.path().join(name).to_str().unwrap().to_owned();
        let error = Plan::new(&stores, &[place], &TOWER, options).unwrap_err().to_string();
        error.replace(&format!("file://{}", folder.path().display()), "F")
    };
    assert!(refused("none", &options()).starts_with("there is no file F/none, and below it is no "));
    for (name, problem) in [
        ("a.jsonl.gz", "F/a.jsonl.gz: a file that is packed as a whole cannot be cut into shards: unpack it"),
        ("a.txt", "F/a.txt: documents are read from .jsonl and .parquet files"),
        ("a.jsonl", "the files of documents are empty"),
    ] {
        fs::write(folder.path().join(name), "").unwrap();
        assert_eq!(refused(name, &options()), problem);
    }
    let error = refused("a.jsonl", &options().with_shard_rows(0));
    assert_eq!(error, "`shard_rows` is 0, allowed: at least 1");
    let error = Job::open(&in_memory(), JOB).unwrap_err().to_string();
    assert_eq!(error, format!("there is no {JOB}/plan.json: make it with `care encode plan`"));
    assert_eq!(TOWER.embedding_dim(), 6);
}

#[test]
fn a_place_has_one_plan() {
    let folder = tempfile::tempdir().unwrap();
    corpus::write(folder.path());
    let stores = in_memory();
    plan(&stores, folder.path(), &TOWER, &options());
    let places = [folder.path().to_str().unwrap().to_owned()];
    let other = Plan::new(&stores, &places, &Hashing("tower-2"), &options()).unwrap();
    let error = other.create(&stores.open(JOB).unwrap()).unwrap_err().to_string();
    assert_eq!(error, format!("{JOB}/plan.json: there is another plan already: choose another place for the job"));
}
