//! Named tasks: built in, on the Hugging Face hub, or in a folder.

mod file;
mod hub;
mod mini;
mod open;
mod table;

pub use file::load_task_file;
pub use hub::{Fetch, Sources};
pub use open::{built_in_names, find, names, open};
