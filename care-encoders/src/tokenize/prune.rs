//! Cuts a tokenizer's vocabulary to the tokens that texts need.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use care_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::tokenizer::Tokenizer;

impl Tokenizer {
    /// The tokenizer with only some tokens, and the former id of each of its ids, ascending.
    ///
    /// Kept are the tokens of `used`, all added and special tokens, the tokens of single bytes, that of unknown
    /// characters, and what a BPE merges the kept ones from. Texts whose tokens are all in `used` are split into the same
    /// tokens as before; others may be split into more, or have unknown characters.
    ///
    /// # Errors
    /// If an id of `used` is not in the vocabulary, or the tokenizer is of another kind than Unigram, BPE, WordPiece or
    /// WordLevel, or a BPE with a prefix for the pieces inside a word.
    pub fn pruned(&self, used: &BTreeSet<u32>) -> Result<(Self, Vec<u32>)> {
        let refuse =
            |problem: String| Error::new(ErrorKind::Tokenizer, format!("cannot prune the vocabulary: {problem}"));
        let json = self.to_json()?;
        let mut definition: Value = serde_json::from_str(&json).map_err(|e| refuse(e.to_string()).with_source(e))?;
        let mut kept = used.clone();
        if let Some(id) = used.iter().find(|id| self.id_to_token(**id).is_none()) {
            return Err(refuse(format!("there is no token with id {id}")));
        }
        kept.insert(self.pad_id());
        kept.extend(self.added_ids());
        let model = &mut definition["model"];
        match model["type"].as_str() {
            Some("Unigram") => prune_unigram(model, &mut kept),
            Some("BPE") => prune_bpe(model, &mut kept).map_err(refuse)?,
            Some("WordPiece" | "WordLevel") => prune_words(model, &mut kept),
            kind => return Err(refuse(format!("a model of kind {} is not supported", kind.unwrap_or("?")))),
        }
        let former: Vec<u32> = kept.into_iter().collect();
        let renumbered = |id: &Value| {
            let id = u32::try_from(id.as_u64()?).ok()?;
            former.binary_search(&id).ok()
        };
        for added in definition["added_tokens"].as_array_mut().into_iter().flatten() {
            if let Some(id) = renumbered(&added["id"]) {
                added["id"] = id.into();
            }
        }
        renumber_post_processor(&mut definition["post_processor"], &renumbered);
        let pruned = self.redefined(&definition.to_string(), &former)?;
        for (id, &before) in (0..).zip(&former) {
            let (token, expected) = (pruned.id_to_token(id), self.id_to_token(before));
            if token != expected {
                return Err(refuse(format!("token {id} is {token:?}, not {expected:?}")));
            }
        }
        Ok((pruned, former))
    }

    /// The tokens of one character each, with or without the mark of a word's beginning or inside.
    pub fn single_characters(&self) -> Vec<(u32, char)> {
        let single = |id: u32| {
            let text = self.decode_bare(id)?;
            let mut characters = text.strip_prefix("##").unwrap_or(&text).trim().chars();
            Some((id, characters.next().filter(|_| characters.next().is_none())?))
        };
        (0..self.vocab_size() as u32).filter_map(single).collect()
    }
}

/// Keeps the pieces with the ids of `kept`, and what the scores of unknown characters depend on.
fn prune_unigram(model: &mut Value, kept: &mut BTreeSet<u32>) {
    let unknown = model["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok());
    kept.extend(unknown);
    if let Some(pieces) = model["vocab"].as_array_mut() {
        let numbered =
            |pieces: &[Value]| (0..).zip(pieces.iter().map(|piece| piece[1].as_f64().unwrap_or_default())).collect();
        let scores: Vec<(u32, f64)> = numbered(pieces);
        // An unknown character costs more than the least likely piece.
        let least = scores.iter().min_by(|a, b| a.1.total_cmp(&b.1)).map(|(id, _)| *id);
        kept.extend(least);
        kept.extend((0..).zip(&*pieces).filter(|(_, piece)| piece[0].as_str().is_some_and(is_byte)).map(|(id, _)| id));
        let mut id = 0..;
        pieces.retain(|_| id.next().is_some_and(|id| kept.contains(&id)));
    }
    if let Some(unknown) = unknown {
        model["unk_id"] = kept.range(..unknown).count().into();
    }
}

/// Keeps the words with the ids of `kept` and that of unknown ones.
fn prune_words(model: &mut Value, kept: &mut BTreeSet<u32>) {
    let unknown = model["unk_token"].as_str().and_then(|token| id(&model["vocab"][token]));
    kept.extend(unknown);
    renumber_vocabulary(model, kept);
}

/// Keeps the tokens with the ids of `kept`, the bytes, and the tokens and merges by which the kept ones come about.
///
/// A token comes about by the merges that apply to it alone, since none reaches beyond it. So these and any other merges of
/// the full list, in their order, leave a text whose tokens are kept as it was.
fn prune_bpe(model: &mut Value, kept: &mut BTreeSet<u32>) -> std::result::Result<(), String> {
    if model["continuing_subword_prefix"].as_str().is_some_and(|prefix| !prefix.is_empty()) {
        return Err("a BPE with a `continuing_subword_prefix` is not supported".to_owned());
    }
    let suffix = model["end_of_word_suffix"].as_str().unwrap_or_default().to_owned();
    let merges = model["merges"].as_array().cloned().unwrap_or_default();
    let pairs: Vec<(&str, &str)> = merges.iter().filter_map(pair).collect();
    if pairs.len() != merges.len() {
        return Err("`merges` has an entry that is no pair of tokens".to_owned());
    }
    let empty = Map::new();
    let vocabulary = model["vocab"].as_object().unwrap_or(&empty);
    let ids: HashMap<&str, u32> = vocabulary.iter().filter_map(|(token, value)| Some((&**token, id(value)?))).collect();
    let tokens: BTreeMap<u32, &str> = ids.iter().map(|(token, id)| (*id, *token)).collect();
    let ranks: HashMap<(&str, &str), usize> = pairs.iter().copied().zip(0..).collect();
    kept.extend(model["unk_token"].as_str().and_then(|token| ids.get(token)));
    let bytes = ids.iter().filter(|(token, _)| is_byte(token) || is_letter_of_bytes(token)).map(|(_, id)| *id);
    kept.extend(bytes);
    let mut parts: BTreeSet<u32> = BTreeSet::new();
    for token in kept.iter().filter_map(|id| tokens.get(id)) {
        parts.extend(parts_of(token, &suffix, &ranks).iter().filter_map(|part| ids.get(&**part)));
    }
    kept.extend(parts);
    let is_kept = |token: &str| ids.get(token).is_some_and(|id| kept.contains(id));
    let has_all = |(left, right): &(&str, &str)| is_kept(left) && is_kept(right) && is_kept(&format!("{left}{right}"));
    let left: Vec<Value> =
        pairs.iter().zip(&merges).filter(|(pair, _)| has_all(pair)).map(|(_, merge)| merge.clone()).collect();
    model["merges"] = left.into();
    renumber_vocabulary(model, kept);
    Ok(())
}

/// Everything that a token is merged from, itself included.
fn parts_of(token: &str, suffix: &str, ranks: &HashMap<(&str, &str), usize>) -> BTreeSet<String> {
    let stem = token.strip_suffix(suffix).unwrap_or(token);
    let mut symbols: Vec<String> = stem.chars().map(String::from).collect();
    if let Some(last) = symbols.last_mut().filter(|_| stem.len() < token.len()) {
        last.push_str(suffix);
    }
    let mut parts: BTreeSet<String> = symbols.iter().cloned().collect();
    let rank = |pair: &[String]| ranks.get(&(&*pair[0], &*pair[1])).copied();
    while let Some((at, _)) =
        symbols.windows(2).enumerate().filter_map(|(at, pair)| Some((at, rank(pair)?))).min_by_key(|(_, rank)| *rank)
    {
        let right = symbols.remove(at + 1);
        symbols[at].push_str(&right);
        parts.insert(symbols[at].clone());
    }
    parts
}

/// The two tokens of a merge, in either form.
fn pair(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(both) => both.split_once(' '),
        both => Some((both[0].as_str()?, both[1].as_str()?)),
    }
}

/// Whether a token stands for a byte that has no token as a character, e.g. `<0x0A>`.
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Whether a token is one of the 256 letters that a byte-level BPE writes bytes as: U+0021 to U+0143.
fn is_letter_of_bytes(token: &str) -> bool {
    let mut letters = token.chars();
    letters.next().is_some_and(|letter| ('!'..='\u{143}').contains(&letter)) && letters.next().is_none()
}

/// Keeps a vocabulary's tokens with the ids of `kept`, which then count from 0.
fn renumber_vocabulary(model: &mut Value, kept: &BTreeSet<u32>) {
    let former: Vec<u32> = kept.iter().copied().collect();
    if let Some(vocabulary) = model["vocab"].as_object_mut() {
        let all = std::mem::take(vocabulary);
        let renumbered =
            |(token, value): (String, Value)| Some((token, former.binary_search(&id(&value)?).ok()?.into()));
        *vocabulary = all.into_iter().filter_map(renumbered).collect();
    }
}

/// Replaces the ids of the special tokens that a post-processor adds.
fn renumber_post_processor(post: &mut Value, renumbered: &impl Fn(&Value) -> Option<usize>) {
    let replace = |id: &mut Value| {
        if let Some(new) = renumbered(id) {
            *id = new.into();
        }
    };
    for each in post.get_mut("processors").and_then(Value::as_array_mut).into_iter().flatten() {
        renumber_post_processor(each, renumbered);
    }
    // RoBERTa's and BERT's: a token and its id.
    for role in ["sep", "cls"] {
        if let Some(id) = post.get_mut(role).and_then(|pair| pair.get_mut(1)) {
            replace(id);
        }
    }
    if let Some(tokens) = post.get_mut("special_tokens").and_then(Value::as_object_mut) {
        tokens.values_mut().filter_map(|token| token["ids"].as_array_mut()).flatten().for_each(replace);
    }
}

fn id(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}
