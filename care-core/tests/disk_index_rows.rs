//! Rows of an index by ids and by filters, for callers that join it with another one.

use care_core::Embeddings;
use care_core::index::{DiskIndex, DiskIndexOptions, DocumentTower, IndexWriter, Record};

/// An index of ten rows in two segments, from which one row of each is removed.
fn index(folder: &std::path::Path) -> DiskIndex {
    let tower = DocumentTower::new("tower");
    let mut writer = IndexWriter::create(folder, &tower, 1, &DiskIndexOptions::default()).expect("creates");
    for rows in [0..5, 5..10] {
        let records: Vec<Record> =
            rows.map(|row| Record::new(format!("d{row}")).with_field("half", row / 5).with_field("row", row)).collect();
        let vectors = Embeddings::from_rows(1, records.iter().map(|_| [1.0])).expect("one value each");
        writer.add(&tower, &records, &vectors).expect("adds");
    }
    writer.remove(&["d1", "d7"]).expect("removes");
    writer.index().clone()
}

#[test]
fn ids_are_found_in_their_order_and_those_that_are_gone_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let index = index(folder.path());
    let rows = index.find_all(&["d9", "d1", "d0", "x", "d9", "d5"]).expect("reads");
    assert_eq!(rows, [Some(9), None, Some(0), None, Some(9), Some(5)]);
    for id in ["d9", "d1", "d0"] {
        assert_eq!(index.find_all(&[id]).expect("reads"), [index.find(id).expect("reads")]);
    }
    assert!(index.find_all::<&str>(&[]).expect("nothing to read").is_empty());
}

#[test]
fn the_rows_that_fit_a_filter_are_ascending_and_live() {
    let folder = tempfile::tempdir().expect("a folder");
    let index = index(folder.path());
    for (filter, expected) in [
        ("half=1", vec![5, 6, 8, 9]),
        ("row>=4", vec![4, 5, 6, 8, 9]),
        ("row=1", vec![]),
        ("{}", vec![0, 2, 3, 4, 5, 6, 8, 9]),
        ("{\"absent\": {\"$exists\": false}}", vec![0, 2, 3, 4, 5, 6, 8, 9]),
    ] {
        assert_eq!(index.matching(&filter.parse().expect("a filter")).expect("reads"), expected, "{filter}");
    }
}
