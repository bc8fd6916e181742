//! SentencePiece's unigram model, with a vocabulary that loads fast and takes little memory.
//!
//! The model of `tokenizers` keeps a trie with a hash table in each node, which costs a second and 300 MB for the
//! 250,000 tokens of XLM-R. Here tokens are sorted by their bytes, so that those with a common prefix are a range,
//! which every further byte narrows. Texts get the same tokens.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokenizers::{Result, Token};

/// The score of an unknown character is this far below the lowest score of a token, as in SentencePiece.
const UNKNOWN_PENALTY: f64 = 10.0;

/// Tokens with scores: a word is split into the tokens whose scores have the largest sum (Kudo 2018, arXiv 1804.10959).
#[derive(Clone)]
pub(crate) struct Unigram {
    /// The distinct tokens, sorted by their bytes and concatenated.
    text: String,
    /// The distinct tokens, sorted by their bytes.
    entries: Vec<Entry>,
    /// The index into `entries` for each id.
    places: Vec<u32>,
    /// The score of each id.
    scores: Vec<f64>,
    unknown: Option<u32>,
    unknown_score: f64,
    byte_fallback: bool,
}

/// A token: its range in `text`, and its id (the last one, if the token is duplicated).
#[derive(Clone, Copy)]
struct Entry {
    start: u32,
    end: u32,
    id: u32,
}

/// The last token on the best path to a position in a word.
#[derive(Clone, Copy)]
struct Step {
    start: usize,
    id: u32,
    /// The score of the whole path.
    score: f64,
}

/// A token and its score, as in the file.
#[derive(Deserialize)]
struct Piece<'a>(#[serde(borrow)] Cow<'a, str>, f64);

impl Unigram {
    fn new(vocab: &[Piece<'_>], unknown: Option<u32>, byte_fallback: bool) -> Result<Self> {
        if let Some(id) = unknown.filter(|&id| id as usize >= vocab.len()) {
            return Err(format!("`unk_id` is {id}, but `vocab` has {} tokens", vocab.len()).into());
        }
        let token = |id: u32| &*vocab[id as usize].0;
        let mut order: Vec<u32> = (0..u32::try_from(vocab.len())?).collect();
        order.par_sort_unstable_by(|&a, &b| token(a).cmp(token(b)).then(b.cmp(&a)));
        let mut model = Self {
            text: String::with_capacity(vocab.iter().map(|piece| piece.0.len()).sum()),
            entries: Vec::with_capacity(vocab.len()),
            places: vec![0; vocab.len()],
            scores: vocab.iter().map(|piece| piece.1).collect(),
            unknown,
            unknown_score: vocab.iter().map(|piece| piece.1).fold(f64::INFINITY, f64::min) - UNKNOWN_PENALTY,
            byte_fallback,
        };
        for id in order {
            let token = token(id);
            if model.entries.last().is_none_or(|last| model.token(last) != token) {
                let start = u32::try_from(model.text.len())?;
                model.text.push_str(token);
                model.entries.push(Entry { start, end: u32::try_from(model.text.len())?, id });
            }
            model.places[id as usize] = model.entries.len() as u32 - 1;
        }
        Ok(model)
    }

    /// Number of ids.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// The tokens in the order of their ids.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|&place| self.token(&self.entries[place as usize]))
    }

    pub(crate) fn id_to_token(&self, id: u32) -> Option<&str> {
        self.places.get(id as usize).map(|&place| self.token(&self.entries[place as usize]))
    }

    pub(crate) fn token_to_id(&self, token: &str) -> Option<u32> {
        let place = self.entries.binary_search_by(|entry| self.token(entry).cmp(token)).ok()?;
        Some(self.entries[place].id)
    }

    /// The tokens of a word with their offsets.
    ///
    /// # Errors
    /// If a character is not a token, and there is no token for unknown characters.
    pub(crate) fn tokenize(&self, word: &str) -> Result<Vec<Token>> {
        let mut tokens = Vec::new();
        for (span, id) in self.pieces(word)? {
            let (piece, offsets) = (&word[span.clone()], (span.start, span.end));
            // Consecutive unknown characters may together be a token.
            let known = if Some(id) == self.unknown { self.token_to_id(piece) } else { Some(id) };
            match known.map_or_else(|| self.bytes(piece), |_| None) {
                Some(bytes) => tokens.extend(bytes.into_iter().map(|(id, byte)| Token::new(id, byte, offsets))),
                None => tokens.push(Token::new(known.unwrap_or(id), piece.to_owned(), offsets)),
            }
        }
        Ok(tokens)
    }

    /// The tokens of a piece's bytes, if byte fallback is on and every byte has a token.
    fn bytes(&self, piece: &str) -> Option<Vec<(u32, String)>> {
        let token = |byte| {
            let token = format!("<0x{byte:02X}>");
            Some((self.token_to_id(&token)?, token))
        };
        self.byte_fallback.then(|| piece.bytes().map(token).collect()).flatten()
    }

    /// The best path through a word: its pieces and their ids. Consecutive unknown characters are one piece.
    fn pieces(&self, word: &str) -> Result<Vec<(Range<usize>, u32)>> {
        let mut steps: Vec<Option<Step>> = vec![None; word.len() + 1];
        for (start, character) in word.char_indices() {
            let before = steps[start].map_or(0.0, |step| step.score);
            let mut reach = |end: usize, id, score| {
                let score = before + score;
                let better = steps[end].is_none_or(|best| score > best.score);
                if better {
                    steps[end] = Some(Step { start, id, score });
                }
                better
            };
            let next = start + character.len_utf8();
            let mut is_token = false;
            self.prefixes(&word.as_bytes()[start..], |length, id| {
                reach(start + length, id, self.scores[id as usize]);
                is_token |= start + length == next;
            });
            let reached = !is_token && reach(next, self.unknown.unwrap_or_default(), self.unknown_score);
            if reached && self.unknown.is_none() {
                return Err(format!("{character:?} is not a token, and `unk_id` is not set").into());
            }
        }
        let mut pieces: Vec<(Range<usize>, u32)> = Vec::new();
        let mut end = word.len();
        while let Some(Step { start, id, .. }) = steps[end] {
            match pieces.last_mut() {
                Some((span, after)) if *after == id && Some(id) == self.unknown => span.start = start,
                _ => pieces.push((start..end, id)),
            }
            end = start;
        }
        pieces.reverse();
        Ok(pieces)
    }

    /// Calls `found` with the length and the id of each token that is a prefix of `text`, shortest first.
    fn prefixes(&self, text: &[u8], mut found: impl FnMut(usize, u32)) {
        let mut entries = self.entries.as_slice();
        for (at, &byte) in text.iter().enumerate() {
            // All entries share the bytes before this one; a token that ends there comes first.
            let next = |entry: &Entry| self.token(entry).as_bytes().get(at).copied();
            entries = &entries[entries.partition_point(|entry| next(entry) < Some(byte))..];
            entries = &entries[..entries.partition_point(|entry| next(entry) == Some(byte))];
            let Some(first) = entries.first() else { return };
            if self.token(first).len() == at + 1 {
                found(at + 1, first.id);
            }
        }
    }

    fn token(&self, entry: &Entry) -> &str {
        &self.text[entry.start as usize..entry.end as usize]
    }
}

impl<'de> Deserialize<'de> for Unigram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Definition<'a> {
            unk_id: Option<u32>,
            #[serde(default)]
            byte_fallback: bool,
            #[serde(borrow)]
            vocab: Vec<Piece<'a>>,
        }
        let Definition { unk_id, byte_fallback, vocab } = Definition::deserialize(deserializer)?;
        Self::new(&vocab, unk_id, byte_fallback).map_err(serde::de::Error::custom)
    }
}

impl Serialize for Unigram {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let vocab: Vec<(&str, f64)> = self.tokens().zip(self.scores.iter().copied()).collect();
        let mut model = serializer.serialize_struct("Unigram", 4)?;
        model.serialize_field("type", "Unigram")?;
        model.serialize_field("unk_id", &self.unknown)?;
        model.serialize_field("vocab", &vocab)?;
        model.serialize_field("byte_fallback", &self.byte_fallback)?;
        model.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::Model;

    use super::*;

    /// Few characters and few scores, so that tokens overlap, are duplicated and tie.
    fn vocabulary() -> impl Strategy<Value = Vec<(String, f64)>> {
        let byte = (0..=0xffu8).prop_map(|byte| format!("<0x{byte:02X}>"));
        let token = prop_oneof![6 => "[ab头痛🤒]{1,4}", 1 => Just("<unk>".to_owned()), 1 => byte];
        let score = prop_oneof![(-4..=1).prop_map(f64::from), -9.0..1.0];
        prop::collection::vec((token, score), 1..60)
    }

    proptest! {
        #[test]
        fn tokens_are_those_of_tokenizers(
            vocab in vocabulary(),
            unknown in prop::option::of(0..60u32),
            byte_fallback: bool,
            words in prop::collection::vec("([ab头痛🤒c]|<unk>){0,12}", 1..8),
        ) {
            let unknown = unknown.filter(|&id| (id as usize) < vocab.len());
            let theirs =
                tokenizers::models::unigram::Unigram::from(vocab.clone(), unknown.map(|id| id as usize), byte_fallback)
                    .expect("a valid vocabulary");
            let json = serde_json::to_string(&theirs).expect("written");
            let ours: Unigram = serde_json::from_str(&json).expect("read");
            prop_assert_eq!(serde_json::to_string(&ours).expect("written"), json);
            for word in &words {
                prop_assert_eq!(ours.tokenize(word).ok(), theirs.tokenize(word).ok(), "{}", word);
                prop_assert_eq!(ours.token_to_id(word), theirs.token_to_id(word));
            }
            for id in 0..=vocab.len() as u32 {
                prop_assert_eq!(ours.id_to_token(id).map(str::to_owned), theirs.id_to_token(id));
            }
        }
    }

    #[test]
    fn a_token_for_the_unknown_outside_the_vocabulary_is_refused() {
        let read = serde_json::from_str::<Unigram>(r#"{"type": "Unigram", "unk_id": 1, "vocab": [["头", -1.0]]}"#);
        assert!(read.err().expect("refused").to_string().contains("`unk_id` is 1, but `vocab` has 1 tokens"));
    }
}
