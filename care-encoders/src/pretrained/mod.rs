//! Networks from files and seeds, and back into files.

mod checkpoint;
mod folder;
mod pair;
mod random;
mod weights;

pub(crate) use folder::tower_of;
pub use folder::{EncoderOptions, load_encoder, load_tower, network_with_head};
pub use pair::open_tower;
pub(crate) use pair::{check_target, is_pair, load_pair, save_pair};
pub use random::random_encoder;
pub(crate) use weights::WeightTable;
