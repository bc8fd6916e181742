//! Experts check the judges: a stratified sample of pairs, sheets to fill, and their labels read back.
//!
//! 1. [`Sample::draw`] samples pairs by strata and assigns each to some of the experts; it is the file `sample.json`.
//! 2. [`Sheets`] writes what experts fill, as CSV, XLSX, an offline HTML page or Label Studio tasks. All are blind: they
//!    show no votes, no labels, no systems and no ids.
//! 3. [`read_sheets`] and [`read_label_studio`] check every row against the sample and return [`ExpertLabels`], the file
//!    `labels.jsonl`.
//! 4. [`adjudication`] samples the pairs that experts dispute for another expert, and [`final_labels`] joins all into one
//!    label per pair.

mod adjudicate;
mod allocate;
mod assign;
mod csv;
mod guide;
mod label_studio;
mod labels;
mod page;
mod read;
mod sample;
mod score;
mod sheet;
mod table;
mod write;
#[cfg(feature = "xlsx")]
mod xlsx;

pub use adjudicate::{Dispute, FinalLabel, Join, Source, adjudication, final_labels, write_final_labels};
pub use allocate::Allocation;
pub use label_studio::{label_studio_config, label_studio_tasks, read_label_studio};
pub use labels::{Answer, ExpertLabels, LabelledPair};
pub use read::{Missing, read_sheets, sheet_files};
pub use sample::{By, Candidate, Expert, Questionnaire, Sample, SampleOptions, SampledPair, Stratum, Value};
pub use score::parse_score;
pub use sheet::Sheets;
pub use write::Format;
