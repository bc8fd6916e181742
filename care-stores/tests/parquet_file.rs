//! What is in an exported Parquet file, read back by another reader.

mod conformance;

use std::fs::File;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use care_core::Embeddings;
use care_core::index::{Record, VectorFormat};
use care_stores::parquet::export_parquet;
use conformance::data::{DIM, Fixture, tower};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Rows and vectors of a file.
fn read(path: &Path, format: VectorFormat) -> Vec<(Record, Vec<f32>)> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("opened")).expect("Parquet");
    let keys = reader.metadata().file_metadata().key_value_metadata().expect("metadata").clone();
    let value = |name: &str| keys.iter().find(|pair| pair.key == name).and_then(|pair| pair.value.clone());
    assert_eq!(value("care.fingerprint"), Some(tower().fingerprint));
    assert_eq!(value("care.instruction"), Some(tower().instruction));
    let rows = |batch: RecordBatch| (0..batch.num_rows()).map(|row| row_of(&batch, row, format)).collect::<Vec<_>>();
    reader.build().expect("a reader").flat_map(|batch| rows(batch.expect("read"))).collect()
}

fn row_of(batch: &RecordBatch, row: usize, format: VectorFormat) -> (Record, Vec<f32>) {
    let string = |name: &str| {
        let column = batch.column_by_name(name).expect(name).as_string::<i32>();
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let (id, text, metadata) = (string("id").expect("an id"), string("text"), string("metadata").expect("metadata"));
    let list = batch.column_by_name("vector").expect("vector").as_fixed_size_list().value(row);
    let vector = if format == VectorFormat::F16 {
        list.as_primitive::<Float16Type>().values().iter().map(|value| value.to_f32()).collect()
    } else {
        list.as_primitive::<Float32Type>().values().to_vec()
    };
    (Record { id, text, metadata: serde_json::from_str(&metadata).expect("an object") }, vector)
}

#[test]
fn every_row_is_in_the_file_in_both_dtypes() {
    let fixture = Fixture::new(2500, true);
    fixture.remove(&["文档 3", "文档 2499"]);
    let (index, folder) = (fixture.index(), tempfile::tempdir().expect("a folder"));
    for (format, number) in [(VectorFormat::F32, DataType::Float32), (VectorFormat::F16, DataType::Float16)] {
        let path = folder.path().join(format!("{}.parquet", format.as_str()));
        let mut done = Vec::new();
        let written = export_parquet(&index, &path, format, &mut |rows| done.push(rows)).expect("written");
        assert_eq!((written, done), (2498, vec![1024, 2048, 2498]));
        let file = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).expect("opened")).expect("Parquet");
        let schema = file.schema();
        let DataType::FixedSizeList(element, dim) = schema.field_with_name("vector").expect("vector").data_type()
        else {
            panic!("{schema}");
        };
        assert_eq!((element.data_type(), *dim as usize), (&number, DIM));
        let rows = read(&path, format);
        assert_eq!(rows.len(), 2498);
        for (row, (record, vector)) in index.rows().zip(rows) {
            assert_eq!(record, index.record(row).expect("read"));
            // All test vectors are the same in 16 bits.
            assert_eq!(vector, index.vectors(&[row]).expect("read").row(0).to_vec());
        }
    }
    let sizes = ["f32", "f16"]
        .map(|name| std::fs::metadata(folder.path().join(format!("{name}.parquet"))).expect("there").len());
    let saved = (2498 * DIM * 2) as u64;
    assert!(sizes[0] - sizes[1] > saved * 9 / 10, "{sizes:?}");
}

#[test]
fn an_empty_index_has_a_file_and_a_failure_leaves_the_old_one() {
    let (empty, folder) = (Fixture::new(0, false), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("docs.parquet");
    assert_eq!(export_parquet(&empty.index(), &path, VectorFormat::F32, &mut |_| ()).expect("written"), 0);
    assert!(read(&path, VectorFormat::F32).is_empty());
    let old = std::fs::read(&path).expect("read");

    let damaged = Fixture::new(2000, false);
    let index = damaged.index();
    let vectors = index.folder().join("segment-0").join("vectors");
    let mut bytes = std::fs::read(&vectors).expect("read");
    bytes[1500 * DIM * 4] ^= 1;
    std::fs::write(&vectors, bytes).expect("damaged");
    let error = export_parquet(&index, &path, VectorFormat::F32, &mut |_| ()).expect_err("damaged");
    assert!(error.to_string().contains("vectors"), "{error}");
    assert_eq!(std::fs::read(&path).expect("read"), old);
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 1);

    let nowhere = folder.path().join("no").join("docs.parquet");
    let error = export_parquet(&empty.index(), nowhere, VectorFormat::F32, &mut |_| ()).expect_err("no folder");
    assert!(error.to_string().contains("no/docs.parquet"), "{error}");
}

#[test]
fn vectors_that_f16_cannot_hold_are_refused_by_their_ids() {
    let folder = tempfile::tempdir().expect("a folder");
    for (value, problem) in
        [(70_000.0, "row \"far\": the vector is not finite in f16"), (1e-9, "row \"far\": the vector is zero in f16")]
    {
        let (fixture, path) = (Fixture::new(2, false), folder.path().join("docs.parquet"));
        fixture.add(&[Record::new("far")], &Embeddings::from_rows(DIM, [[value; DIM]]).expect("of one size"));
        let export = |format| export_parquet(&fixture.index(), &path, format, &mut |_| ());
        assert_eq!(export(VectorFormat::F16).expect_err(problem).to_string(), problem);
        assert!(!path.exists());
        assert_eq!(export(VectorFormat::F32).expect("written"), 3);
        std::fs::remove_file(&path).expect("removed");
    }
}
