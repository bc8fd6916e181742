//! Tokenizers: text to token ids, through Hugging Face's `tokenizers`.

mod characters;
mod lower_case;
mod model;
mod tokenizer;
mod unigram;

pub use characters::{TokenizerStyle, character_tokenizer};
pub use tokenizer::Tokenizer;
