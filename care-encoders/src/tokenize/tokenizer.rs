//! The [`Tokenizer`] of a tower, with its length limit.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokenizers::utils::truncation::{TruncationDirection, TruncationParams, TruncationStrategy};

use care_core::{Error, ErrorKind, Result};

use super::lower_case::with_lower_case;
use super::model::Model;

/// A tokenizer of `tokenizers` with our [`Model`].
type Inner = tokenizers::TokenizerImpl<
    Model,
    tokenizers::normalizers::NormalizerWrapper,
    tokenizers::pre_tokenizers::PreTokenizerWrapper,
    tokenizers::processors::PostProcessorWrapper,
    tokenizers::decoders::DecoderWrapper,
>;

/// A tokenizer with its length limit. Clones are cheap: they share the vocabulary.
///
/// Special tokens are added at both ends by the post-processor of `tokenizer.json`; only the text between them is
/// truncated, so the terminal token that last-token pooling reads is always kept.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
    vocab_size: usize,
    pad_id: u32,
    max_length: usize,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size)
            .field("pad_id", &self.pad_id)
            .field("max_length", &self.max_length)
            .finish()
    }
}

impl Tokenizer {
    /// Parses the content of a `tokenizer.json`. `pad_id` pads batches; `max_length` includes special tokens.
    ///
    /// # Errors
    /// If it is not a tokenizer, or `max_length` leaves no room for text beside the special tokens.
    pub fn from_json(json: &str, pad_id: u32, max_length: usize) -> Result<Self> {
        let inner = serde_json::from_str(json)
            .map_err(|e| Error::new(ErrorKind::Tokenizer, format!("not a tokenizer: {e}")).with_source(e))?;
        Self::new(inner, pad_id, max_length)
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// If the file cannot be read, and as [`Tokenizer::from_json`].
    pub fn from_file(path: impl AsRef<Path>, pad_id: u32, max_length: usize) -> Result<Self> {
        let path = path.as_ref();
        let json = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        let inner = serde_json::from_str(&json).map_err(|e| {
            Error::format(path, format!("not a tokenizer: {e}")).with_kind(ErrorKind::Tokenizer).with_source(e)
        })?;
        Self::new(inner, pad_id, max_length)
    }

    fn new(mut inner: Inner, pad_id: u32, max_length: usize) -> Result<Self> {
        inner.with_padding(None);
        limit(&mut inner, max_length)?;
        let added = inner.get_added_vocabulary().get_vocab().values().max().map_or(0, |&id| id as usize + 1);
        let vocab_size = inner.get_model().id_bound().max(added);
        Ok(Self { inner: Arc::new(inner), vocab_size, pad_id, max_length })
    }

    /// The same tokenizer with another length limit; copies the vocabulary.
    ///
    /// # Errors
    /// If `max_length` leaves no room for text beside the special tokens.
    pub fn with_max_length(&self, max_length: usize) -> Result<Self> {
        if max_length == self.max_length {
            return Ok(self.clone());
        }
        let mut inner = (*self.inner).clone();
        limit(&mut inner, max_length)?;
        Ok(Self { inner: Arc::new(inner), max_length, ..*self })
    }

    /// The same tokenizer, turning texts into lower case before all else if it does not yet; copies the vocabulary then.
    ///
    /// # Errors
    /// If the tokenizer cannot be changed.
    pub fn with_lower_case(self) -> Result<Self> {
        let Some(normalizer) = with_lower_case(self.inner.get_normalizer()) else { return Ok(self) };
        let mut inner = (*self.inner).clone();
        inner.with_normalizer(Some(normalizer)).map_err(|e| {
            Error::new(ErrorKind::Tokenizer, format!("cannot turn texts into lower case: {e}")).with_source(e)
        })?;
        Ok(Self { inner: Arc::new(inner), ..self })
    }

    /// Sets the padding id.
    #[must_use]
    pub fn with_pad_id(self, pad_id: u32) -> Self {
        Self { pad_id, ..self }
    }

    /// Token ids of each text, special tokens included, at most [`Tokenizer::max_length`] of them.
    ///
    /// A text without tokens (an empty text, if the tokenizer adds none) becomes one padding token, so that every text
    /// has a vector.
    ///
    /// # Errors
    /// If the tokenizer rejects a text.
    pub fn encode<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Vec<u32>>> {
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let encodings = self
            .inner
            .encode_batch_fast(texts, true)
            .map_err(|e| Error::new(ErrorKind::Tokenizer, format!("cannot tokenize: {e}")).with_source(e))?;
        Ok(encodings
            .iter()
            .map(|encoding| match encoding.get_ids() {
                [] => vec![self.pad_id],
                ids => ids.to_vec(),
            })
            .collect())
    }

    /// The special token that ends every text, if the tokenizer adds one.
    pub fn terminal_token(&self) -> Option<u32> {
        let last = |text| self.inner.encode_fast(text, true).ok()?.get_ids().last().copied();
        // In an empty text, a token that only starts texts would also be the last one.
        last("").filter(|&token| last("1") == Some(token))
    }

    /// The id of a token, as spelled in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id, as spelled in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The ids of the special tokens, ascending. Special tokens are matched as a whole wherever they occur in a text.
    pub fn special_tokens(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self
            .inner
            .get_added_tokens_decoder()
            .iter()
            .filter(|(_, token)| token.special)
            .map(|(&id, _)| id)
            .collect();
        ids.sort_unstable();
        ids
    }

    /// The largest id + 1, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The padding id.
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// Largest number of tokens per text, special tokens included.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The content of a `tokenizer.json`, without the length limit.
    ///
    /// # Errors
    /// If the tokenizer cannot be serialised.
    pub fn to_json(&self) -> Result<String> {
        let mut inner = (*self.inner).clone();
        let write = |inner: &mut Inner| {
            inner.with_truncation(None)?;
            inner.to_string(true)
        };
        write(&mut inner).map_err(|e| {
            Error::new(ErrorKind::Tokenizer, format!("cannot serialise the tokenizer: {e}")).with_source(e)
        })
    }

    /// Writes a `tokenizer.json`, without the length limit.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        std::fs::write(path, self.to_json()?).map_err(|e| Error::io("write", path, e))
    }
}

/// Makes a tokenizer truncate texts to `max_length` tokens, special tokens included.
fn limit(tokenizer: &mut Inner, max_length: usize) -> Result<()> {
    let reserved = tokenizer.get_post_processor().map_or(0, |post| {
        use tokenizers::PostProcessor;
        post.added_tokens(false)
    });
    if max_length <= reserved {
        let allowed = format!("at least {}, since the tokenizer adds {reserved} special tokens", reserved + 1);
        return Err(Error::setting("max_length", max_length, &allowed));
    }
    let truncation = TruncationParams {
        direction: TruncationDirection::Right,
        max_length,
        strategy: TruncationStrategy::LongestFirst,
        stride: 0,
    };
    match tokenizer.with_truncation(Some(truncation)) {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::new(ErrorKind::Tokenizer, format!("cannot truncate to {max_length} tokens: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenize::{TokenizerStyle, character_tokenizer};

    fn tokenizer(style: TokenizerStyle, max_length: usize) -> Result<Tokenizer> {
        character_tokenizer(["头痛怎么办", "发烧 38 度"], 100, style, max_length)
    }

    #[test]
    fn truncation_keeps_the_terminal_token() {
        for style in [TokenizerStyle::Bert, TokenizerStyle::EndOfText] {
            let long = tokenizer(style, 64).expect("fits");
            let end = long.terminal_token().expect("both styles end with one");
            let short = long.with_max_length(4).expect("fits");
            let ids = short.encode(&["头痛怎么办头痛怎么办"]).expect("encodes");
            assert_eq!(ids[0].len(), 4);
            assert_eq!(ids[0][3], end);
        }
    }

    #[test]
    fn a_limit_without_room_for_text_is_refused() {
        let error = tokenizer(TokenizerStyle::Bert, 0).expect_err("zero");
        assert_eq!(
            error.to_string(),
            "`max_length` is 0, allowed: at least 3, since the tokenizer adds 2 special tokens"
        );
    }

    #[test]
    fn empty_text_whitespace_emoji_and_very_long_text_have_tokens() {
        let tokenizer = tokenizer(TokenizerStyle::EndOfText, 32).expect("fits");
        let long = "痛".repeat(100_000);
        for ids in tokenizer.encode(&["", "  \n", "🤒🤒", &long]).expect("encodes") {
            assert!((1..=32).contains(&ids.len()));
        }
    }

    #[test]
    fn a_unit_does_not_hide_the_number_before_it() {
        let tokenizer = character_tokenizer(["体温38.5℃"], 100, TokenizerStyle::EndOfText, 32).expect("fits");
        let ids = tokenizer.encode(&["5℃", "8℃", "未"]).expect("encodes");
        let unknown = ids[2][0];
        assert!(ids[..2].iter().flatten().all(|&id| id != unknown), "{ids:?}");
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn saving_keeps_ids() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokenizer.json");
        let one = tokenizer(TokenizerStyle::Bert, 16).expect("fits");
        one.save(&path).expect("written");
        let two = Tokenizer::from_file(&path, one.pad_id(), 16).expect("read");
        let texts = ["头痛38度，怎么办？", ""];
        assert_eq!(one.encode(&texts).expect("encodes"), two.encode(&texts).expect("encodes"));
    }
}
