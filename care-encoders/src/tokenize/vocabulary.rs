//! BERT's tokenizer from a `vocab.txt`, one token per line, for folders without a `tokenizer.json`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use care_core::{Error, ErrorKind, Result};

/// How BERT's tokenizer reads texts, with the names of its fields in `tokenizer_config.json`.
#[derive(Debug, Clone)]
pub(crate) struct BertSettings {
    /// Whether letters are lower-cased.
    pub(crate) do_lower_case: bool,
    /// Whether accents are taken off; `None` if letters are lower-cased.
    pub(crate) strip_accents: Option<bool>,
    /// Whether each Chinese character is a word.
    pub(crate) tokenize_chinese_chars: bool,
    /// The token for unknown words.
    pub(crate) unk_token: String,
    /// The first token of a text.
    pub(crate) cls_token: String,
    /// The last token of a text.
    pub(crate) sep_token: String,
    /// Tokens that are matched as a whole, if the vocabulary has them.
    pub(crate) other_tokens: Vec<String>,
}

/// The `tokenizer.json` of a vocabulary.
///
/// # Errors
/// If the vocabulary lacks one of the three tokens that every text may have.
///
/// # Reference
/// `BertTokenizer` of transformers: a token that is duplicated has the id of its last line.
pub(crate) fn bert_definition(vocabulary: &str, settings: &BertSettings) -> Result<String> {
    let lines = vocabulary.replace("\r\n", "\n").replace('\r', "\n");
    let lines = lines.strip_suffix('\n').unwrap_or(&lines);
    let vocab: BTreeMap<&str, u32> = lines.split('\n').zip(0..).collect();
    let BertSettings { unk_token, cls_token, sep_token, other_tokens, .. } = settings;
    let required = [unk_token, cls_token, sep_token];
    if let Some(token) = required.into_iter().find(|token| !vocab.contains_key(token.as_str())) {
        return Err(Error::new(ErrorKind::Tokenizer, format!("has no token {token:?}")));
    }
    let special =
        required.into_iter().chain(other_tokens).filter_map(|token| Some((vocab.get(token.as_str())?, token)));
    let special: BTreeMap<u32, &String> = special.map(|(&id, token)| (id, token)).collect();
    let added: Vec<Value> = special
        .iter()
        .map(|(id, token)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let piece = |token: &str, type_id: u32| match token {
        "A" | "B" => json!({"Sequence": {"id": token, "type_id": type_id}}),
        token => json!({"SpecialToken": {"id": token, "type_id": type_id}}),
    };
    let single = [piece(cls_token, 0), piece("A", 0), piece(sep_token, 0)];
    let pair = [&single[..], &[piece("B", 1), piece(sep_token, 1)]].concat();
    let ends: BTreeMap<&str, Value> = [cls_token, sep_token]
        .map(|token| (token.as_str(), json!({"id": token, "ids": [vocab[token.as_str()]], "tokens": [token]})))
        .into();
    let definition = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true,
                       "handle_chinese_chars": settings.tokenize_chinese_chars,
                       "strip_accents": settings.strip_accents, "lowercase": settings.do_lower_case},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": ends},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": unk_token, "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab},
    });
    Ok(definition.to_string())
}
