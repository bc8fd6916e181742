//! Loading tasks from a folder of files.

mod layout;
mod load;

pub use load::{load, splits};
pub(crate) use load::{lacks_judgements, load_as};
