//! Qrels and runs in TREC, BEIR and JSON files.

mod beir;
mod json;
mod judgement;
mod lines;
mod read;
mod trec;

pub use beir::write_beir_qrels;
pub use json::write_json_run;
pub use read::{read_qrels, read_run};
pub use trec::{write_trec_qrels, write_trec_run};
