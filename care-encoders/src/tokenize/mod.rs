//! Tokenizers: text to token ids, through Hugging Face's `tokenizers`.

mod characters;
mod ends;
mod lower_case;
mod model;
mod tokenizer;
mod unigram;
mod vocabulary;
mod window;

pub use characters::{TokenizerStyle, character_tokenizer};
pub use tokenizer::{TokenLists, Tokenizer};
pub(crate) use vocabulary::{BertSettings, bert_definition};
pub use window::TruncationSide;
