//! Tokenizers: text to token ids, through Hugging Face's `tokenizers`.

mod byte_bpe;
mod characters;
mod ends;
mod lower_case;
mod model;
mod prune;
mod tokenizer;
mod unigram;
mod vocabulary;
mod window;

pub(crate) use byte_bpe::{ByteBpe, ByteBpeSettings, byte_bpe_definition};
pub use characters::{TokenizerStyle, character_tokenizer};
pub use tokenizer::{TokenLists, Tokenizer};
pub(crate) use vocabulary::{BertSettings, bert_definition};
pub use window::TruncationSide;
