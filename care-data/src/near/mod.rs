//! Near-duplicates by character n-grams, found exactly: no pair is missed, and none is reported that is none.

mod forms;
mod grams;
mod index;
mod overlap;
mod pairs;
mod prefix;
mod settings;

pub use forms::Forms;
pub(crate) use grams::mix;
pub use index::{NearIndex, NearMatch};
pub use pairs::NearPair;
pub use settings::NearDuplicates;
