//! Loading tasks from a folder of files.

mod layout;
mod load;

pub(crate) use load::{Choice, lacks_judgements, load_as, load_folder};
pub use load::{for_each_document, for_each_query, load, read_corpus, splits};
