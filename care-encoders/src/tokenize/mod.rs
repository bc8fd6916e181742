//! Tokenizers: text to token ids, through Hugging Face's `tokenizers`.

mod characters;
mod lower_case;
mod ends;
mod model;
mod tokenizer;
mod unigram;
mod window;

pub use characters::{TokenizerStyle, character_tokenizer};
pub use tokenizer::Tokenizer;
pub use window::TruncationSide;
