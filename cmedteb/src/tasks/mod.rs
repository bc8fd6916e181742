//! The tasks that have a name: built in, on the hub, or in a folder of the user's.

mod file;
mod hub;
mod mini;
mod open;

pub use file::load_task_file;
pub use hub::{Fetch, Sources};
pub use open::{built_in_names, find, names, open};
