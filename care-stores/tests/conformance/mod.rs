//! What every store must do, and an index on disk to compare with. Results are compared by score, never by id, since each
//! database orders ties in its own way.

#![allow(clippy::unwrap_used, dead_code)]

pub(crate) mod data;
pub(crate) mod disk;
pub(crate) mod faults;
pub(crate) mod searches;

use care_core::index::{DocumentTower, Record, VectorFormat};
use care_core::{Embeddings, ErrorKind, Result};
use care_stores::{PushOptions, PushReport, StoreSearch, VectorStore, push, verify};

use data::{DIM, Fixture, tower};

/// Opens the store of a name, or creates it for vectors of a tower, dimensions and dtype.
pub(crate) type Open<'a> = dyn Fn(&str, &DocumentTower, usize, VectorFormat) -> Result<Box<dyn VectorStore>> + 'a;

/// What a database cannot do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    /// It has no ranges of strings.
    pub(crate) no_string_ranges: bool,
    /// It does not store the character NUL.
    pub(crate) no_nul: bool,
    /// Its paths cannot name fields with quotation marks.
    pub(crate) no_quoted_fields: bool,
    /// It computes digests of what it has, so rows whose vectors it rounds are written again.
    pub(crate) no_digests: bool,
}

/// The conformance test. `prefix` makes the names of stores unique.
pub(crate) fn conform(prefix: &str, limits: Limits, open: &Open<'_>) {
    for format in [VectorFormat::F32, VectorFormat::F16] {
        let name = |what: &str| format!("{prefix}_{what}_{}", format.as_str());
        a_whole_index_is_pushed_once(&name("whole"), format, open);
        faults::a_push_that_stops_is_resumed(&name("resumed"), format, open);
        searches::scores_are_those_of_the_index(&name("small"), 40, format, open);
        searches::scores_are_those_of_the_index(&name("large"), 600, format, open);
        searches::filters_select_the_rows_of_the_index(&name("filters"), limits, format, open);
    }
    changes_of_the_index_follow(&format!("{prefix}_changes"), open);
    if !limits.no_digests {
        vectors_are_rounded_once(&format!("{prefix}_rounded"), open);
    }
    what_would_be_hidden_is_refused(&format!("{prefix}_refused"), limits, open);
    what_f16_cannot_hold_is_refused(&format!("{prefix}_range"), open);
    faults::vectors_of_another_kind_are_refused(&format!("{prefix}_kinds"), open);
    faults::altered_rows_are_found(&format!("{prefix}_altered"), open);
}

pub(crate) fn push_all(fixture: &Fixture, store: &mut dyn VectorStore, options: &PushOptions) -> PushReport {
    let mut last = 0;
    let report = push(&fixture.index(), store, options, &mut |rows| {
        assert!(rows > last, "progress goes on");
        last = rows;
    })
    .expect("pushed");
    assert_eq!(last, report.rows);
    report
}

/// Every row arrives, texts and metadata of every kind included, and a second push writes nothing.
fn a_whole_index_is_pushed_once(name: &str, format: VectorFormat, open: &Open<'_>) {
    let fixture = Fixture::new(300, false);
    let mut store = open(name, &tower(), DIM, format).expect("created");
    assert_eq!((store.count().expect("counted"), store.dim(), store.vector_format()), (0, DIM, format), "{name}");
    let options = PushOptions::default().with_batch(64);
    let report = push_all(&fixture, &mut *store, &options);
    assert_eq!(report, PushReport { rows: 300, written: 300, removed: 0 }, "{name}");
    let verified = verify(&fixture.index(), &mut *store, 300).expect("verified");
    assert!(verified.is_exact() && verified.sampled == 300, "{name}: {verified:?}");
    // A sample that is smaller than the index, and one that is larger.
    assert_eq!(verify(&fixture.index(), &mut *store, 7).expect("verified").sampled, 7);
    assert_eq!(verify(&fixture.index(), &mut *store, 1000).expect("verified").sampled, 300);
    assert_eq!(push_all(&fixture, &mut *store, &options).written, 0, "{name}");
    // It is there for another connection too, which finds its tower, and no blob is read as half as many numbers.
    drop(store);
    let mut store = open(name, &tower(), DIM, format).expect("opened");
    let rows = store.get(&["文档 0", "no such", "文档 299"]).expect("read");
    assert!(rows[1].is_none());
    for (row, id) in [(&rows[0], 0), (&rows[2], 299)] {
        let row = row.as_ref().expect("there");
        assert_eq!((row.record.id.clone(), row.vector.len()), (format!("文档 {id}"), DIM), "{name}");
    }
    // An id that is asked for twice is found twice.
    let (rows, digests) = (store.get(&["文档 7", "文档 7"]).expect("read"), store.digests(&["文档 7", "文档 7"]));
    assert!(rows[0].is_some() && rows[0] == rows[1], "{name}");
    let digests = digests.expect("read");
    assert!(digests[0].is_some() && digests[0] == digests[1], "{name}");
    let mut ids = store.ids(None, 1000).expect("listed");
    assert_eq!(ids.len(), 300, "{name}");
    let (mut paged, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
    loop {
        let page = store.ids(after.as_deref(), 37).expect("listed");
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        paged.extend(page);
    }
    assert_eq!(paged.len(), 300, "{name}");
    ids.sort();
    paged.sort();
    assert_eq!(paged, ids, "{name}");
}

/// Replaced, added and removed rows follow with the next push; rows of others stay unless they are to go.
fn changes_of_the_index_follow(name: &str, open: &Open<'_>) {
    let fixture = Fixture::new(60, false);
    let mut store = open(name, &tower(), DIM, VectorFormat::F32).expect("created");
    push_all(&fixture, &mut *store, &PushOptions::default());
    let other = data::vectors(3, 99);
    let records =
        [Record::new("文档 5").with_text("新"), Record::new("new 1"), Record::new("new 2").with_field("year", 1)];
    fixture.add(&records, &other);
    fixture.remove(&["文档 7", "文档 8"]);
    let report = push_all(&fixture, &mut *store, &PushOptions::default().with_batch(10));
    assert_eq!(report, PushReport { rows: 60, written: 3, removed: 0 });
    let verified = verify(&fixture.index(), &mut *store, 60).expect("verified");
    assert!(
        !verified.is_exact() && (verified.stored, verified.missing, verified.different) == (62, 0, 0),
        "{verified:?}"
    );
    let report = push_all(&fixture, &mut *store, &PushOptions::default().with_remove_others(true));
    assert_eq!(report, PushReport { rows: 60, written: 0, removed: 2 });
    assert!(verify(&fixture.index(), &mut *store, 60).expect("verified").is_exact());
    let replaced = store.get(&["文档 5"]).expect("read").remove(0).expect("there");
    assert_eq!((replaced.record.text.as_deref(), replaced.record.metadata.len()), (Some("新"), 0));
    assert_eq!(replaced.vector, other.row(0).to_vec());

    assert_eq!(store.remove(&["new 1", "no such", "new 2", "new 1"]).expect("removed"), 2);
    assert_eq!(store.remove(&["new 1"]).expect("removed"), 0);
    assert_eq!(store.remove(&[]).expect("removed"), 0);
    assert_eq!(store.count().expect("counted"), 58);
    let found = store.search(&other, &StoreSearch::new(100)).expect("searched");
    assert!(found.iter().all(|found| found.len() == 58 && found.iter().all(|hit| !hit.record.id.starts_with("new"))));
}

/// A store in 16 bits has each vector rounded to the nearest, and is up to date all the same.
fn vectors_are_rounded_once(name: &str, open: &Open<'_>) {
    let fixture = Fixture::new(3, false);
    let values = (0..DIM).map(|at| (at as f32 - 11.3).exp().min(60000.0) * 0.1).collect::<Vec<_>>();
    fixture.add(&[Record::new("rounded")], &Embeddings::from_rows(DIM, [&values]).expect("of one size"));
    let mut store = open(name, &tower(), DIM, VectorFormat::F16).expect("created");
    assert_eq!(push_all(&fixture, &mut *store, &PushOptions::default()).written, 4);
    assert!(verify(&fixture.index(), &mut *store, 4).expect("verified").is_exact());
    let stored = store.get(&["rounded"]).expect("read").remove(0).expect("there").vector;
    let rounded: Vec<f32> = values.iter().map(|value| half::f16::from_f32(*value).to_f32()).collect();
    assert_eq!(stored, rounded, "{name}");
    assert_ne!(stored, values, "{name}");
    assert_eq!(push_all(&fixture, &mut *store, &PushOptions::default()).written, 0);
}

/// Databases take a zero vector and then hide it, or answer NULL or 0 for it; here none gets in.
fn what_would_be_hidden_is_refused(name: &str, limits: Limits, open: &Open<'_>) {
    let mut store = open(name, &tower(), DIM, VectorFormat::F32).expect("created");
    let vectors = data::vectors(2, 3);
    let (a, b) = (Record::new("a"), Record::new("b"));
    let mut zero = vectors.clone();
    zero.set(1, &[0.0; DIM]);
    let mut infinite = vectors.clone();
    infinite.set(1, &[f32::INFINITY; DIM]);
    let pair = [a.clone(), b.clone()];
    for (records, vectors, kind, problem) in [
        (&pair[..], &zero, ErrorKind::Config, "row \"b\": the vector is zero in f32"),
        (&pair[..], &infinite, ErrorKind::NonFinite, "row \"b\": the vector is not finite in f32"),
        (&[a.clone(), a.clone()][..], &vectors, ErrorKind::Config, "row \"a\": the id occurs twice"),
        (&[a.clone(), Record::new("")][..], &vectors, ErrorKind::Config, "the id of a row is empty"),
        (std::slice::from_ref(&a), &vectors, ErrorKind::Dimension, "1 rows have 2 vectors"),
        (&pair[..], &Embeddings::zeros(2, 3), ErrorKind::Dimension, "vectors have 3 dimensions, the store has 24"),
    ] {
        let error = store.put(records, vectors).expect_err(problem);
        assert_eq!((error.to_string().as_str(), error.kind()), (problem, kind), "{name}");
    }
    let with_nul = [a.with_text("a\0b"), b];
    if limits.no_nul {
        let error = store.put(&with_nul, &vectors).expect_err("NUL").to_string();
        assert!(error.contains("\"a\"") && error.contains("NUL"), "{error}");
        assert_eq!(store.get(&["a\0b"]).expect("asked"), [None]);
    }
    assert_eq!(store.count().expect("counted"), 0, "{name}: all or none");
    let error = store.search(&Embeddings::zeros(1, 3), &StoreSearch::new(1)).expect_err("other dimensions");
    assert_eq!(error.to_string(), "queries have 3 dimensions, the store has 24");
    let error = store.search(&infinite, &StoreSearch::new(1)).expect_err("not finite");
    assert_eq!(error.to_string(), "the vector of query 1 is not finite");
    // Without rows there is nothing to find.
    assert_eq!(store.search(&vectors, &StoreSearch::new(3)).expect("searched"), [vec![], vec![]]);
    assert_eq!(store.put(&[], &Embeddings::zeros(0, DIM)).map_err(|e| e.to_string()), Ok(()));
}

/// Numbers above 65,504 are infinite in 16 bits, and those below 2^-25 are zero.
fn what_f16_cannot_hold_is_refused(name: &str, open: &Open<'_>) {
    for format in [VectorFormat::F32, VectorFormat::F16] {
        let mut store = open(&format!("{name}_{}", format.as_str()), &tower(), DIM, format).expect("created");
        for (value, kind, problem) in [
            (70_000.0, ErrorKind::NonFinite, "the vector is not finite in f16"),
            (1e-9, ErrorKind::Config, "the vector is zero in f16"),
        ] {
            let fixture = Fixture::new(3, false);
            let vector = Embeddings::from_rows(DIM, [[value; DIM]]).expect("of one size");
            fixture.add(&[Record::new("far")], &vector);
            let pushed = push(&fixture.index(), &mut *store, &PushOptions::default(), &mut |_| ());
            if format == VectorFormat::F32 {
                assert!(verify(&fixture.index(), &mut *store, 4).expect("verified").is_exact(), "{name}: {pushed:?}");
                continue;
            }
            let error = pushed.expect_err(problem);
            assert_eq!((error.to_string(), error.kind()), (format!("row \"far\": {problem}"), kind), "{name}");
            assert_eq!(store.count().expect("counted"), 0, "{name}: all or none");
        }
    }
}
