//! Rerankers: networks that read a query and a document together and return one score.

mod activation;
mod head;
mod input;
mod load;
mod model;
mod options;
mod stated;
mod summary;

pub use activation::ScoreActivation;
pub use model::CrossEncoder;
pub use options::CrossEncoderOptions;
pub use summary::CrossEncoderSummary;
