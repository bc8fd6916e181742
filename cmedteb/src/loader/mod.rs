//! Loading tasks from a folder of files.

mod layout;
mod load;

pub(crate) use load::{lacks_judgements, load_as};
pub use load::{load, read_corpus, splits};
