//! Builds a character-level tokenizer from texts, for towers that are trained from scratch.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::tokenizer::Tokenizer;
use care_core::{Error, Result};

/// The special tokens of a [`character_tokenizer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenizerStyle {
    /// `[CLS] text [SEP]`, as BERT-style towers read it.
    Bert,
    /// `text <|endoftext|>`, as decoder towers with last-token pooling read it; the same token pads.
    EndOfText,
}

impl TokenizerStyle {
    /// Every special token, the padding token first.
    fn specials(self) -> &'static [&'static str] {
        match self {
            TokenizerStyle::Bert => &["[PAD]", "[UNK]", "[CLS]", "[SEP]"],
            TokenizerStyle::EndOfText => &["<|endoftext|>", "[UNK]"],
        }
    }

    /// The template of a single text; `$A` is the text.
    fn single(self) -> impl Iterator<Item = &'static str> {
        match self {
            TokenizerStyle::Bert => "[CLS] $A [SEP]",
            TokenizerStyle::EndOfText => "$A <|endoftext|>",
        }
        .split(' ')
    }
}

/// A tokenizer whose tokens are the most frequent characters of `texts`.
///
/// Chinese characters are words of their own; letters and digits are lower-cased and form words that are read character
/// by character. Characters that are not among the `vocab_size` tokens become `[UNK]`.
///
/// # Errors
/// If `vocab_size` leaves no room beside the special tokens, or `max_length` none for text.
pub fn character_tokenizer<S: AsRef<str>>(
    texts: impl IntoIterator<Item = S>,
    vocab_size: usize,
    style: TokenizerStyle,
    max_length: usize,
) -> Result<Tokenizer> {
    let specials = style.specials();
    if vocab_size <= specials.len() {
        return Err(Error::setting("vocab_size", vocab_size, &format!("above {}", specials.len())));
    }
    let mut counts: HashMap<char, usize> = HashMap::new();
    for text in texts {
        for character in text.as_ref().chars().flat_map(char::to_lowercase).filter(|c| !c.is_whitespace()) {
            *counts.entry(character).or_default() += 1;
        }
    }
    let mut characters: Vec<(char, usize)> = counts.into_iter().collect();
    characters.sort_by_key(|&(character, count)| (std::cmp::Reverse(count), character));

    let mut tokens: Vec<String> = specials.iter().map(|&token| token.to_owned()).collect();
    for (character, _) in characters {
        tokens.push(character.to_string());
        // Punctuation and Chinese characters never continue a word.
        let alone = character.is_ascii_punctuation() || ('\u{2e80}'..='\u{9fff}').contains(&character);
        if !alone {
            tokens.push(format!("##{character}"));
        }
    }
    tokens.truncate(vocab_size);
    Tokenizer::from_json(&definition(&tokens, style).to_string(), 0, max_length)
}

/// The `tokenizer.json` of these tokens, the special ones first.
fn definition(tokens: &[String], style: TokenizerStyle) -> Value {
    let specials = style.specials().iter().zip(0u32..);
    let template = |token: &str| match token {
        "$A" => json!({"Sequence": {"id": "A", "type_id": 0}}),
        special => json!({"SpecialToken": {"id": special, "type_id": 0}}),
    };
    let added = specials.clone().map(|(token, id)| {
        json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    });
    let special_tokens: serde_json::Map<String, Value> =
        specials.map(|(&token, id)| (token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]}))).collect();
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().zip(0u32..).map(|(token, id)| (token.clone(), id.into())).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": style.single().map(template).collect::<Vec<_>>(),
                           "pair": [], "special_tokens": special_tokens},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab},
    })
}
