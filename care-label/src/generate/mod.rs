//! Questions for documents, written by LLMs, so that a corpus without a question log can be trained on.
//!
//! ```text
//! documents -> requests -> judge_pairs (journal, budget) or batch files -> answers -> select -> round_trip -> rows
//! ```
//!
//! A request is a [`Pair`](crate::Pair) of a kind of questions and a document, so everything that serves judges serves
//! writers: the same TOML, journal, budget, retries and batch files.

mod answers;
mod question;
mod request;
mod round_trip;
mod select;

pub use answers::{Answered, answers};
pub use question::{Filter, Reject};
pub use request::{Source, requests};
pub use round_trip::{Agree, RoundTrip, Trip, round_trip};
pub use select::{Selection, WrittenQuestion, select, write_questions};
