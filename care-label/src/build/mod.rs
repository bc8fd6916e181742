//! Builds a benchmark from labelled pairs: retrieval, reranking and similarity tasks in mteb's layout, with a data card.
//!
//! A task is a folder that `care eval`, mteb and the `datasets` library read as it is:
//!
//! | file | content |
//! |---|---|
//! | `README.md` | the data card; its front matter tells the `datasets` library where the parts are |
//! | `corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.jsonl` | retrieval and reranking |
//! | `top_ranked/SPLIT.jsonl` | the candidates of reranking, in random order |
//! | `SPLIT.jsonl` | similarity: `sentence1`, `sentence2`, `score` |
//! | `descriptive_stats.json` | mteb's descriptive statistics of each split |
//! | `task.py` | the task's class and metadata for mteb |

mod card;
mod statistics;
mod tasks;
mod write;

pub use card::{Card, Section};
pub use care_data::split::{Split, parse_splits};
pub use tasks::{BuildOptions, Built, CorpusDocument, Material, Reranking, Retrieval, Sts, TaskKind, Visit};
pub use write::write_task;
