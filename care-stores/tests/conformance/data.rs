//! An index with vectors of very different lengths, ties, and texts and metadata of every kind.

use care_core::Embeddings;
use care_core::index::{DiskIndex, DiskIndexOptions, DocumentTower, IndexWriter, Record};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tempfile::TempDir;

/// Dimensions of the vectors. No power of two, so that padding would show.
pub(crate) const DIM: usize = 24;

pub(crate) fn tower() -> DocumentTower {
    DocumentTower::new("tower A's \"fingerprint\"").with_instruction("为这段文字: {title} {text}")
}

/// Vectors whose lengths differ by a factor of 100, so that cosine and dot product order them differently. All values are
/// multiples of 1/64 below 8, which 16 bits hold exactly.
pub(crate) fn vectors(n: usize, seed: u64) -> Embeddings {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let rows = (0..n).map(|row| {
        let scale = [0.1, 1.0, 8.0][row % 3];
        let mut value = || (random.random_range(-1.0f32..1.0) * scale * 64.0).round() / 64.0;
        let mut vector: Vec<f32> = (0..DIM).map(|_| value()).collect();
        vector[0] += 1.0 / 64.0;
        vector
    });
    Embeddings::from_rows(DIM, rows).expect("of one size")
}

/// An index in a folder of its own.
pub(crate) struct Fixture {
    folder: TempDir,
}

impl Fixture {
    /// `n` rows; with ties, every fourth row has the vector of the first.
    pub(crate) fn new(n: usize, with_ties: bool) -> Self {
        let folder = TempDir::new().expect("a folder");
        let options = DiskIndexOptions::default();
        IndexWriter::create(folder.path(), &tower(), DIM, &options).expect("created");
        let fixture = Self { folder };
        let mut vectors = vectors(n, 1);
        if with_ties {
            let first = vectors.row(0).to_vec();
            (0..n).step_by(4).for_each(|row| vectors.set(row, &first));
        }
        fixture.add(&(0..n).map(record).collect::<Vec<_>>(), &vectors);
        fixture
    }

    pub(crate) fn index(&self) -> DiskIndex {
        DiskIndex::open(self.folder.path()).expect("opened")
    }

    pub(crate) fn add(&self, records: &[Record], vectors: &Embeddings) {
        IndexWriter::open(self.folder.path()).expect("opened").add(&tower(), records, vectors).expect("added");
    }

    pub(crate) fn remove(&self, ids: &[&str]) {
        IndexWriter::open(self.folder.path()).expect("opened").remove(ids).expect("removed");
    }
}

/// A row with metadata of every kind, and now and then what databases stumble over.
fn record(row: usize) -> Record {
    let mut record = Record::new(format!("文档 {row}"))
        .with_field("department", ["内科", "外科", "儿科", "急诊"][row % 4])
        .with_field("year", 1990 + row % 35)
        .with_field("date", format!("20{:02}-{:02}-15", row % 25, 1 + row % 12));
    if !row.is_multiple_of(5) {
        record = record.with_text(format!("第 {row} 段\n\t\"文字\" 'quoted' \\ 😀"));
    }
    match row % 7 {
        0 => record.with_field("score", 0.5 + row as f64).with_field("open", true),
        1 => record.with_field("tags", json!(["急诊", format!("tag {}", row % 3)])).with_field("open", false),
        2 => record.with_field("tags", json!([])).with_field("a.b", "点"),
        3 => record.with_field("year", json!(null)).with_field("large", 1e15),
        4 => record.with_field("year", "2001").with_field("it's \"q\"", 1),
        5 => record.with_field("score", -3).with_field("tags", "急诊"),
        _ => Record { metadata: serde_json::Map::new(), ..record },
    }
}
