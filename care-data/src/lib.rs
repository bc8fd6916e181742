//! Training data for retrieval, without a model: rows in the forms of the field's tools, normalisation and near-duplicates
//! of texts.
//!
//! ```
//! use care_data::near::NearDuplicates;
//!
//! let texts = ["糖尿病人能吃西瓜吗？", "糖尿病人，能吃西瓜吗", "高血压能喝酒吗"];
//! assert_eq!(NearDuplicates::default().groups(&texts), [0, 0, 2]);
//! ```

mod against;
pub mod bm25;
mod chunk;
pub mod clean;
pub mod dedup;
mod disjoint;
pub mod hybrid;
pub mod mine;
pub mod near;
mod normalise;
pub mod rows;
pub mod split;
pub mod stats;
pub mod table;

pub use normalise::normalise;
