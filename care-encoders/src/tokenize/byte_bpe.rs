//! Byte-level BPE tokenizers from a `vocab.json` and a `merges.txt`, for folders without a `tokenizer.json`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use care_core::{Error, ErrorKind, Result};

/// How a byte-level BPE tokenizer splits a text into words, and what it adds to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByteBpe {
    /// GPT-2: its own pattern, nothing added.
    Gpt2,
    /// Qwen2: NFC, digits one by one, nothing added.
    Qwen2,
    /// RoBERTa: as GPT-2, in `<s>` and `</s>`.
    Roberta,
}

/// How a text is split into words for Qwen2.
///
/// # Reference
/// `PRETOKENIZE_REGEX` of transformers' `Qwen2Tokenizer`.
const QWEN2_WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The settings of such a tokenizer, with the names of their fields in `tokenizer_config.json`.
#[derive(Debug, Clone)]
pub(crate) struct ByteBpeSettings {
    pub(crate) kind: ByteBpe,
    /// Whether a blank is put before a text that begins with none.
    pub(crate) add_prefix_space: bool,
    /// The first token of a text, of RoBERTa only.
    pub(crate) cls_token: String,
    /// The last token of a text, of RoBERTa only.
    pub(crate) sep_token: String,
    /// Tokens that are matched as a whole: `AddedToken`s of transformers, by their ids.
    pub(crate) added: BTreeMap<u32, Value>,
}

/// The `tokenizer.json` of a vocabulary and its merges, one pair per line, in order.
///
/// # Errors
/// If a line of the merges is not two tokens with a blank between them, or RoBERTa's vocabulary lacks one of the tokens
/// that every text has.
///
/// # Reference
/// `GPT2Tokenizer`, `Qwen2Tokenizer` and `RobertaTokenizer` of transformers 5.24.
pub(crate) fn byte_bpe_definition(
    vocab: &BTreeMap<String, u32>,
    merges: &str,
    settings: &ByteBpeSettings,
) -> Result<String> {
    let lines = merges.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with("#version"));
    let pair = |(number, line): (usize, &str)| match line.split(' ').collect::<Vec<_>>().as_slice() {
        [left, right] if !left.is_empty() && !right.is_empty() => Ok(json!([left, right])),
        _ => {
            let problem = format!("merges.txt:{}: {line:?} is not two tokens with a blank between them", number + 1);
            Err(Error::new(ErrorKind::Tokenizer, problem))
        }
    };
    let merges = lines.map(pair).collect::<Result<Vec<Value>>>()?;
    let add_prefix_space = settings.add_prefix_space;
    let bytes = |use_regex| json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": use_regex});
    let id = |token: &str| match vocab.get(token) {
        Some(id) => Ok(json!([token, id])),
        None => Err(Error::new(ErrorKind::Tokenizer, format!("has no token {token:?}"))),
    };
    let (normalizer, pre_tokenizer, post_processor) = match settings.kind {
        ByteBpe::Gpt2 => (Value::Null, bytes(true), Value::Null),
        ByteBpe::Qwen2 => {
            let words =
                json!({"type": "Split", "pattern": {"Regex": QWEN2_WORDS}, "behavior": "Isolated", "invert": false});
            let steps = json!({"type": "Sequence", "pretokenizers": [words, bytes(false)]});
            (json!({"type": "NFC"}), steps, Value::Null)
        }
        ByteBpe::Roberta => {
            let (sep, cls) = (id(&settings.sep_token)?, id(&settings.cls_token)?);
            let post = json!({"type": "RobertaProcessing", "sep": sep, "cls": cls, "trim_offsets": true,
                              "add_prefix_space": add_prefix_space});
            (Value::Null, bytes(true), post)
        }
    };
    let added = settings.added.iter().map(|(id, token)| {
        let flag = |name: &str, default: bool| token.get(name).and_then(Value::as_bool).unwrap_or(default);
        json!({"id": id, "content": token["content"], "single_word": flag("single_word", false),
               "lstrip": flag("lstrip", false), "rstrip": flag("rstrip", false),
               "normalized": flag("normalized", false), "special": flag("special", true)})
    });
    let definition = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": merges},
    });
    Ok(definition.to_string())
}
