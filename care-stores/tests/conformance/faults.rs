//! Pushes that stop, stores of another kind, and rows that were altered.

use care_core::index::{DocumentTower, Record, VectorFormat};
use care_core::{Embeddings, Error, ErrorKind, Result};
use care_stores::{Found, PushOptions, StoreSearch, StoredRow, VectorStore, push, verify};

use super::data::{DIM, Fixture, tower, vectors};
use super::{Open, push_all};

/// A store whose connection breaks at a batch: before it arrives, or before its answer does.
struct Breaks<'a> {
    store: &'a mut dyn VectorStore,
    batches: usize,
    arrives: bool,
}

impl VectorStore for Breaks<'_> {
    fn name(&self) -> String {
        self.store.name()
    }

    fn tower(&self) -> &DocumentTower {
        self.store.tower()
    }

    fn dim(&self) -> usize {
        self.store.dim()
    }

    fn vector_format(&self) -> VectorFormat {
        self.store.vector_format()
    }

    fn count(&mut self) -> Result<usize> {
        self.store.count()
    }

    fn put(&mut self, records: &[Record], vectors: &Embeddings) -> Result<()> {
        let broken = || Error::new(ErrorKind::Io, "the connection broke");
        if self.batches == 0 {
            if self.arrives {
                self.store.put(records, vectors)?;
            }
            return Err(broken());
        }
        self.batches -= 1;
        self.store.put(records, vectors)
    }

    fn remove(&mut self, ids: &[&str]) -> Result<usize> {
        self.store.remove(ids)
    }

    fn get(&mut self, ids: &[&str]) -> Result<Vec<Option<StoredRow>>> {
        self.store.get(ids)
    }

    fn digests(&mut self, ids: &[&str]) -> Result<Vec<Option<String>>> {
        self.store.digests(ids)
    }

    fn ids(&mut self, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        self.store.ids(after, limit)
    }

    fn search(&mut self, queries: &Embeddings, search: &StoreSearch) -> Result<Vec<Vec<Found>>> {
        self.store.search(queries, search)
    }

    fn finish(&mut self) -> Result<()> {
        self.store.finish()
    }
}

/// Nothing is doubled and nothing lost, wherever it stopped.
pub(crate) fn a_push_that_stops_is_resumed(name: &str, format: VectorFormat, open: &Open<'_>) {
    let fixture = Fixture::new(90, false);
    let options = PushOptions::default().with_batch(20);
    let mut store = open(name, &tower(), DIM, format).expect("created");
    for (batches, arrives, stored) in [(0, false, 0), (0, true, 20), (2, false, 60), (1, true, 90)] {
        let mut breaks = Breaks { store: &mut *store, batches, arrives };
        let error = push(&fixture.index(), &mut breaks, &options, &mut |_| ()).expect_err("it stops");
        assert_eq!(error.to_string(), "the connection broke");
        assert_eq!(store.count().expect("counted"), stored, "{name}: {batches} batches");
        let verified = verify(&fixture.index(), &mut *store, 10).expect("verified");
        assert_eq!((verified.missing, verified.different), (90 - stored, 0), "{name}");
    }
    assert_eq!(push_all(&fixture, &mut *store, &options).written, 0, "{name}");
    assert!(verify(&fixture.index(), &mut *store, 90).expect("verified").is_exact(), "{name}");
    let error = push(&fixture.index(), &mut *store, &options.with_batch(0), &mut |_| ()).expect_err("no batch");
    assert_eq!(error.to_string(), "`batch` is 0, allowed: at least 1");
}

/// Vectors of another tower, other dimensions or another dtype, refused by name before anything is written.
pub(crate) fn vectors_of_another_kind_are_refused(name: &str, open: &Open<'_>) {
    let other = DocumentTower::new("tower B").with_instruction(tower().instruction);
    drop(open(name, &other, DIM, VectorFormat::F32).expect("created"));
    let problem = |opened: Result<Box<dyn VectorStore>>| opened.err().expect("refused").to_string();
    let of_tower = problem(open(name, &tower(), DIM, VectorFormat::F32));
    assert!(of_tower.contains("has vectors of the document tower tower B, not of tower A's"), "{of_tower}");
    let instructed = DocumentTower::new("tower B").with_instruction("'; --");
    let of_instruction = problem(open(name, &instructed, DIM, VectorFormat::F32));
    assert!(of_instruction.contains("has vectors with the instruction"), "{of_instruction}");
    for (dim, format) in [(DIM + 1, VectorFormat::F32), (DIM, VectorFormat::F16)] {
        let of_kind = problem(open(name, &other, dim, format));
        assert!(of_kind.contains("has vectors"), "{of_kind}");
    }
    let fixture = Fixture::new(3, false);
    let mut store = open(name, &other, DIM, VectorFormat::F32).expect("opened");
    let error = push(&fixture.index(), &mut *store, &PushOptions::default(), &mut |_| ()).expect_err("another tower");
    assert!(error.to_string().contains(&store.name()), "{error}");
    assert!(verify(&fixture.index(), &mut *store, 1).is_err());
    assert_eq!(store.count().expect("counted"), 0);
}

/// Rows that somebody else changed are found and, by the next push, mended.
pub(crate) fn altered_rows_are_found(name: &str, open: &Open<'_>) {
    let fixture = Fixture::new(30, false);
    let mut store = open(name, &tower(), DIM, VectorFormat::F32).expect("created");
    push_all(&fixture, &mut *store, &PushOptions::default());
    store.put(&[Record::new("文档 4").with_text("altered")], &vectors(1, 8)).expect("altered");
    store.remove(&["文档 9"]).expect("removed");
    let verified = verify(&fixture.index(), &mut *store, 5).expect("verified");
    assert_eq!((verified.missing, verified.different, verified.stored), (1, 1, 29));
    assert_eq!(verified.ids, ["文档 4", "文档 9"]);
    assert_eq!(push_all(&fixture, &mut *store, &PushOptions::default()).written, 2);
    assert!(verify(&fixture.index(), &mut *store, 30).expect("verified").is_exact());
}
