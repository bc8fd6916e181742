//! Finding the documents whose vectors are nearest to a query's.

mod flat;

pub use flat::{FlatIndex, Hit, VectorFormat};
