//! Judges: which models are asked, where, and how.

pub mod answer;
pub mod client;
mod config;
mod limits;
pub mod questions;
mod text;

pub use config::{Budget, Judge, Judges, Structured};
pub(crate) use limits::{Gate, Rates, nap};
