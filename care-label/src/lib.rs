//! Relevance labels by several LLM judges, checked by experts.
//!
//! The stages, each with plain files in and out:
//!
//! 1. [`collect`]: pools the best documents of several systems for each query into [`Pair`]s.
//! 2. [`judge`]: LLM judges score the pairs; each call is a [`Vote`] in a journal.
//! 3. [`resolve`]: a rule joins the votes of a pair, tabled by [`ballots`], into a label.
//! 4. [`experts`]: a stratified sample as sheets, which are read back.
//! 5. [`agree`]: how far experts and judges agree, with intervals.
//! 6. [`audit`]: false negatives of an existing benchmark, and judges that know the systems they judge.
//! 7. [`build`]: task folders of a benchmark with a data card.
//!
//! The same judges clean training data of false negatives ([`clean`]) and write questions for documents ([`generate`]).
//!
//! # Reference
//! CMedTEB, section 3 of the CARE paper (arXiv 2604.10937). Its prompts are not published; the presets are our own.

pub mod agree;
pub mod audit;
pub mod ballots;
pub mod batch;
pub mod build;
pub mod clean;
pub mod collect;
pub mod estimate;
pub mod experts;
pub mod generate;
pub mod journal;
pub mod judge;
pub mod pair;
pub mod prompt;
pub mod resolve;
pub mod run;
pub mod scale;
pub mod vote;

pub use collect::Pool;
pub use journal::Journal;
pub use pair::Pair;
pub use prompt::Prompt;
pub use scale::Scale;
pub use vote::{State, Vote};
