//! Judges: which models are asked, where, and how.

mod config;

pub use config::{Budget, Judge, Judges, Structured};
