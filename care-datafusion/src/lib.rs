//! `care_embed`: embeddings in the SQL of DataFusion and Ballista.

mod function;
mod tower;

pub use function::CareEmbed;
