//! De-duplication of rows: exact, near, and by vectors.

mod exact;
mod field;
mod found;
mod nearby;
mod options;
mod report;
mod run;
mod save;
mod scan;
mod similar;
mod source;
mod subspace;
mod vectors;

pub use field::TextField;
pub use options::{DedupOptions, Keep, Method, VectorOptions};
pub use report::{Cluster, DedupCounts, DroppedRow, RowPlace};
pub use run::Deduplication;
pub use source::{EmbeddedTexts, TextVectors, Vectors};
pub use vectors::{GrowingIndex, VectorMatch};
