//! The [`Tokenizer`] of a tower, with its length limit.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use tokenizers::utils::truncation::{TruncationDirection, TruncationParams, TruncationStrategy, truncate_encodings};
use tokenizers::{Encoding, PostProcessor, Token};

use care_core::files::read_file;
use care_core::{Error, ErrorKind, Result};

use super::ends::{Special, with_ends};
use super::lower_case::with_lower_case;
use super::model::Model;
use super::window::{self, TruncationSide};

/// One list per text, of token ids or of token types.
pub type TokenLists = Vec<Vec<u32>>;

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
    /// The file that it was read from.
    path: Option<Arc<Path>>,
    vocab_size: usize,
    pad_id: u32,
    max_length: usize,
    side: TruncationSide,
    remarks: Arc<[String]>,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size)
            .field("pad_id", &self.pad_id)
            .field("max_length", &self.max_length)
            .field("side", &self.side)
            .finish()
    }
}

impl Tokenizer {
    /// Parses the content of a `tokenizer.json`. `pad_id` pads batches; `max_length` includes special tokens.
    ///
    /// # Errors
    /// If it is not a tokenizer, or `max_length` leaves no room for text beside the special tokens.
    pub fn from_json(json: &str, pad_id: u32, max_length: usize) -> Result<Self> {
        Self::parse(json, None, pad_id, max_length)
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// If the file cannot be read, and as [`Tokenizer::from_json`].
    pub fn from_file(path: impl AsRef<Path>, pad_id: u32, max_length: usize) -> Result<Self> {
        let path = path.as_ref();
        let json = read_file(path)?;
        let json =
            str::from_utf8(&json).map_err(|e| refuse(Some(path), format!("not a tokenizer: {e}")).with_source(e))?;
        Self::parse(json, Some(path), pad_id, max_length)
    }

    /// Parses the content of a `tokenizer.json`, which `path` names in messages.
    pub(crate) fn parse(json: &str, path: Option<&Path>, pad_id: u32, max_length: usize) -> Result<Self> {
        let refuse = |problem: String| refuse(path, format!("not a tokenizer: {problem}"));
        let read = || serde_json::from_str::<Inner>(json);
        let mut inner = guarded(read).map_err(&refuse)?.map_err(|e| refuse(e.to_string()).with_source(e))?;
        // The file's own settings; the direction is what Python falls back on too.
        let side = match inner.get_truncation().map(|truncation| truncation.direction) {
            Some(TruncationDirection::Left) => TruncationSide::Left,
            _ => TruncationSide::Right,
        };
        inner.with_padding(None);
        // Cannot fail: there are no settings to check.
        let _ = inner.with_truncation(None);
        let path = path.map(Arc::from);
        let mut tokenizer =
            Self { inner: Arc::new(inner), path, vocab_size: 0, pad_id, max_length, side, remarks: Arc::new([]) };
        // What makes the library panic shows at the first text, so that comes now.
        for text in ["", "1 a\u{e9} \u{5934}"] {
            guarded(|| tokenizer.inner.encode_fast(text, true)).map(drop).map_err(&refuse)?;
        }
        // A template may leave the text out or have it twice: the length limit would be wrong.
        let one = guarded(|| tokenizer.inner.post_process(one_token(), None, true)).map_err(&refuse)?;
        let one = one.map_err(|e| refuse(e.to_string()).with_source(e))?;
        if one.len() != tokenizer.reserved(false) + 1 {
            return Err(refuse("its post-processor does not have a text exactly once".to_owned()));
        }
        tokenizer.vocab_size = guarded(|| tokenizer.id_bound()).map_err(&refuse)?;
        tokenizer.with_max_length(max_length)
    }

    /// The largest id of the model and the added tokens + 1.
    fn vocabulary_bound(&self) -> usize {
        let added = self.inner.get_added_vocabulary().get_vocab().values().max();
        self.inner.get_model().id_bound().max(added.map_or(0, |&id| id as usize + 1))
    }

    /// The largest id that a text can have + 1.
    fn id_bound(&self) -> usize {
        let post = self.post_processed().into_iter().map(|(id, _)| id as usize + 1).max();
        self.vocabulary_bound().max(post.unwrap_or(0))
    }

    /// The tokens that the post-processor adds, with their ids.
    fn post_processed(&self) -> Vec<(u32, String)> {
        let tokens = |pair| {
            let encoding = self.inner.post_process(Encoding::default(), pair, true).unwrap_or_default();
            encoding.get_ids().iter().copied().zip(encoding.get_tokens().to_vec()).collect::<Vec<_>>()
        };
        let second = guarded(|| tokens(Some(Encoding::default()))).unwrap_or_default();
        [tokens(None), second].concat()
    }

    /// The same tokenizer with another length limit.
    ///
    /// # Errors
    /// If `max_length` leaves no room for text beside the special tokens.
    pub fn with_max_length(&self, max_length: usize) -> Result<Self> {
        let reserved = self.reserved(false);
        if max_length <= reserved {
            let allowed = format!("at least {}, since the tokenizer adds {reserved} special tokens", reserved + 1);
            return Err(Error::setting("max_length", max_length, &allowed));
        }
        Ok(Self { max_length, ..self.clone() })
    }

    /// Number of special tokens that are added to a text, or to a pair of texts.
    fn reserved(&self, pair: bool) -> usize {
        self.inner.get_post_processor().map_or(0, |post| post.added_tokens(pair))
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

    /// Sets the side on which texts are truncated. Default: as in `tokenizer.json`, else right.
    #[must_use]
    pub fn with_truncation_side(self, side: TruncationSide) -> Self {
        Self { side, ..self }
    }

    /// Adds special tokens before and after each text, which truncation keeps.
    ///
    /// `first` is not added if texts begin with a special token already, and `last` not if they end with one.
    ///
    /// # Errors
    /// If the vocabulary has no such token, or the length limit leaves no room for text beside the special tokens.
    pub fn with_ends(self, first: Option<&str>, last: Option<&str>) -> Result<Self> {
        let first = first.filter(|_| self.initial_token().is_none());
        let last = last.filter(|_| self.terminal_token().is_none());
        if first.or(last).is_none() {
            return Ok(self);
        }
        let post = with_ends(self.inner.get_post_processor(), self.special(first)?, self.special(last)?);
        let post = post.map_err(|e| self.error(format!("cannot add special tokens: {e}")))?;
        let mut inner = (*self.inner).clone();
        inner.with_post_processor(Some(post));
        Self { inner: Arc::new(inner), ..self.clone() }.with_max_length(self.max_length)
    }

    fn special<'a>(&self, token: Option<&'a str>) -> Result<Option<Special<'a>>> {
        let with_id = |token| match self.token_to_id(token) {
            Some(id) => Ok((token, id)),
            None => Err(self.error(format!("has no token {token:?}"))),
        };
        token.map(with_id).transpose()
    }

    /// Adds a remark.
    #[must_use]
    pub(crate) fn with_remark(self, remark: String) -> Self {
        Self { remarks: self.remarks.iter().cloned().chain([remark]).collect(), ..self }
    }

    /// What a user should know about how this tokenizer was put together, e.g. a terminal token that other programs do
    /// not add. One sentence each, without a final full stop; empty if there is nothing.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Token ids of each text, special tokens included, at most [`Tokenizer::max_length`] of them.
    ///
    /// A text without tokens (an empty text, if the tokenizer adds none) becomes one padding token, so that every text
    /// has a vector.
    ///
    /// A long text is cut before it is tokenized, far behind the tokens that are kept, so that its length hardly
    /// matters. The ids are those of the whole text, except in a word of thousands of characters whose pieces depend on
    /// its other end. Of a text that has almost no tokens, only the first 256 KiB, or 256 bytes for each token of
    /// the length limit, are read.
    ///
    /// # Errors
    /// If the tokenizer rejects a text.
    pub fn encode<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Vec<u32>>> {
        texts.par_iter().map(|text| self.ids(text.as_ref())).collect()
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>> {
        match self.guard(|| self.single(text))?.get_ids() {
            [] => Ok(vec![self.pad_id]),
            ids => Ok(ids.to_vec()),
        }
    }

    fn single(&self, text: &str) -> tokenizers::Result<Encoding> {
        let kept = self.max_length - self.reserved(false);
        let (mut encoding, _) = self.part(text, kept)?;
        encoding.truncate(kept, 0, self.side.direction());
        encoding.take_overflowing();
        self.inner.post_process(encoding, None, true)
    }

    /// Token ids and token types of pairs of texts, special tokens included, at most [`Tokenizer::max_length`] of them:
    /// of the longer text, tokens are cut off first.
    ///
    /// # Errors
    /// If the tokenizer rejects a text, has no template for pairs, or its length limit leaves no room for them.
    pub fn encode_pairs<S: AsRef<str> + Sync>(&self, pairs: &[(S, S)]) -> Result<(TokenLists, TokenLists)> {
        self.require_pairs()?;
        let encode = |(first, second): &(S, S)| {
            let encoding = self.guard(|| self.pair(first.as_ref(), second.as_ref()))?;
            Ok((encoding.get_ids().to_vec(), encoding.get_type_ids().to_vec()))
        };
        pairs.par_iter().map(encode).collect()
    }

    fn pair(&self, first: &str, second: &str) -> tokenizers::Result<Encoding> {
        let kept = self.max_length - self.reserved(true);
        let (first, mut second) = self.parts(first, second, kept)?;
        second.set_type_ids(vec![1; second.len()]);
        let direction = self.side.direction();
        let strategy = TruncationStrategy::LongestFirst;
        let truncation = TruncationParams { direction, max_length: kept, strategy, stride: 0 };
        let (mut first, mut second) = truncate_encodings(first, Some(second), &truncation)?;
        first.take_overflowing();
        if let Some(second) = &mut second {
            second.take_overflowing();
        }
        self.inner.post_process(first, second, true)
    }

    /// Returns an error if pairs of texts cannot be encoded.
    pub(crate) fn require_pairs(&self) -> Result<()> {
        let reserved = self.reserved(true);
        if self.max_length < reserved + 2 {
            let allowed =
                format!("at least {}, since the tokenizer adds {reserved} special tokens to a pair", reserved + 2);
            return Err(Error::setting("max_length", self.max_length, &allowed));
        }
        match self.guard(|| self.inner.post_process(one_token(), Some(one_token()), true))?.len() {
            both if both == reserved + 2 => Ok(()),
            _ => Err(self.error("the post-processor has no template for pairs of texts".to_owned())),
        }
    }

    /// The tokens of the two texts of a pair, each as [`Tokenizer::part`] reads it.
    fn parts(&self, first: &str, second: &str, kept: usize) -> tokenizers::Result<(Encoding, Encoding)> {
        let ((mut left, left_whole), (mut right, right_whole)) = (self.part(first, kept)?, self.part(second, kept)?);
        // Of two halves of an odd number, the longer text gets the larger: both lengths are needed.
        if kept % 2 == 1 && left.len().min(right.len()) > kept / 2 && !(left_whole && right_whole) {
            left = if left_whole { left } else { self.inner.encode_fast(first, false)? };
            right = if right_whole { right } else { self.inner.encode_fast(second, false)? };
        }
        Ok((left, right))
    }

    /// The tokens of a text without special tokens, and whether they are all; of a long text at least the first (or last)
    /// `kept` ones.
    fn part(&self, text: &str, kept: usize) -> tokenizers::Result<(Encoding, bool)> {
        let (mut encoding, mut whole) = (Encoding::default(), false);
        for size in window::sizes(kept) {
            let part = window::cut(text, size, self.side);
            encoding = self.inner.encode_fast(part, false)?;
            whole = part.len() == text.len();
            if whole || window::suffices(encoding.len(), kept) {
                break;
            }
        }
        Ok((encoding, whole))
    }

    /// Token ids of a whole text without special tokens, whatever its length.
    ///
    /// # Errors
    /// If the tokenizer rejects the text.
    pub(crate) fn encode_bare(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.guard(|| self.inner.encode_fast(text, false))?.get_ids().to_vec())
    }

    /// The text of a single token, as a word of its own.
    pub(super) fn decode_bare(&self, id: u32) -> Option<String> {
        self.guard(|| self.inner.decode(&[id], false)).ok()
    }

    /// The ids of the tokens that were added to the model's, or that the post-processor adds.
    pub(super) fn added_ids(&self) -> Vec<u32> {
        let added = self.inner.get_added_vocabulary().get_vocab().values().copied();
        added.chain(self.post_processed().into_iter().map(|(id, _)| id)).collect()
    }

    /// The same settings for another `tokenizer.json`, whose ids have these former ones.
    pub(super) fn redefined(&self, json: &str, former: &[u32]) -> Result<Self> {
        let pad = former.binary_search(&self.pad_id).map_err(|_| self.error("loses its padding token".to_owned()))?;
        let tokenizer = Self::parse(json, None, pad as u32, self.max_length)?.with_truncation_side(self.side);
        Ok(Self { path: self.path.clone(), remarks: self.remarks.clone(), ..tokenizer })
    }

    /// Runs a part of `tokenizers`; a panic in it is an error too.
    fn guard<T>(&self, run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
        match guarded(run) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(e)) => Err(self.error(format!("cannot tokenize: {e}")).with_source(e)),
            Err(panic) => Err(self.error(format!("cannot tokenize: {panic}"))),
        }
    }

    fn error(&self, problem: String) -> Error {
        refuse(self.path.as_deref(), problem)
    }

    /// The special token that ends every text, if the tokenizer adds one.
    pub fn terminal_token(&self) -> Option<u32> {
        self.same_token(|ids| ids.last().copied())
    }

    /// The special token that begins every text, if the tokenizer adds one.
    pub fn initial_token(&self) -> Option<u32> {
        self.same_token(|ids| ids.first().copied())
    }

    /// The token at one end of an empty text, if another text has it too: in an empty text alone, the token of the
    /// other end would be there.
    fn same_token(&self, end: impl Fn(&[u32]) -> Option<u32>) -> Option<u32> {
        let at_end = |text| end(self.guard(|| self.inner.encode_fast(text, true)).ok()?.get_ids());
        at_end("").filter(|&token| at_end("1") == Some(token))
    }

    /// Returns an error if an id is not in an embedding table of this many rows, which `owner` names.
    pub(crate) fn require_rows(&self, rows: usize, owner: &str) -> Result<()> {
        if self.vocab_size <= rows {
            return Ok(());
        }
        let vocabulary = self.vocabulary_bound();
        let added = self.post_processed().into_iter().find(|(id, _)| *id as usize >= rows.max(vocabulary));
        let problem = match added.filter(|_| vocabulary <= rows) {
            Some((id, token)) => format!("the post-processor adds {token:?} with id {id}"),
            None => format!("the tokenizer has {vocabulary} ids"),
        };
        Err(self.error(format!("{problem}, but the embedding table of {owner} has {rows} rows")))
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

    /// The largest id + 1, added tokens and those of the post-processor included.
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

    /// The side on which texts are truncated.
    pub fn truncation_side(&self) -> TruncationSide {
        self.side
    }

    /// The content of a `tokenizer.json`, without length limit and side of truncation.
    ///
    /// # Errors
    /// If the tokenizer cannot be serialised.
    pub fn to_json(&self) -> Result<String> {
        self.json(true)
    }

    fn json(&self, pretty: bool) -> Result<String> {
        self.inner.to_string(pretty).map_err(|e| {
            Error::new(ErrorKind::Tokenizer, format!("cannot serialise the tokenizer: {e}")).with_source(e)
        })
    }

    /// Writes a `tokenizer.json` without blanks, without length limit and side of truncation.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        std::fs::write(path, self.json(false)?).map_err(|e| Error::io("write", path, e))
    }
}

/// An error of a tokenizer, with its file if there is one.
fn refuse(path: Option<&Path>, problem: String) -> Error {
    match path {
        Some(path) => Error::format(path, problem).with_kind(ErrorKind::Tokenizer),
        None => Error::new(ErrorKind::Tokenizer, problem),
    }
}

/// The result of `run`, or an error for a panic in it. Damaged files make the library panic.
fn guarded<T>(run: impl FnOnce() -> T) -> std::result::Result<T, String> {
    care_core::guard::guarded(run).map_err(|panic| format!("the tokenizer is damaged ({panic})"))
}

/// A text of one token, as a post-processor takes it.
fn one_token() -> Encoding {
    Encoding::from_tokens(vec![Token::new(0, String::new(), (0, 0))], 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

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
    fn a_template_that_has_the_text_twice_or_not_at_all_is_refused() {
        let mut json: Value =
            serde_json::from_str(&tokenizer(TokenizerStyle::Bert, 64).expect("fits").to_json().expect("JSON"))
                .expect("JSON");
        let single = json["post_processor"]["single"].as_array().expect("a template").clone();
        let text = single.iter().position(|piece| piece.get("Sequence").is_some()).expect("has the text");
        let twice = [&single[..=text], &single[text..]].concat();
        let without = [&single[..text], &single[text + 1..]].concat();
        for template in [twice, without] {
            json["post_processor"]["single"] = Value::Array(template);
            let error = Tokenizer::from_json(&json.to_string(), 0, 64).expect_err("refused");
            assert!(error.to_string().contains("does not have a text exactly once"), "{error}");
        }
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

    /// The tokenizer of a fixture, whose definition `change` may edit.
    fn fixture(name: &str, max_length: usize, change: impl FnOnce(&mut Value)) -> Result<Tokenizer> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name).join("tokenizer.json");
        let here =
            std::env::var_os("CARE_TEST_DATA").map_or(path, |data| Path::new(&data).join(name).join("tokenizer.json"));
        let mut json = serde_json::from_slice(&std::fs::read(here).expect("a fixture")).expect("JSON");
        change(&mut json);
        Tokenizer::from_json(&json.to_string(), 0, max_length)
    }

    /// The ids of a text that is tokenized as a whole.
    fn whole(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        let mut encoding = tokenizer.inner.encode_fast(text, false).expect("encodes");
        encoding.truncate(tokenizer.max_length - tokenizer.reserved(false), 0, tokenizer.side.direction());
        encoding.take_overflowing();
        tokenizer.inner.post_process(encoding, None, true).expect("processes").get_ids().to_vec()
    }

    /// WordPiece, byte-level BPE and unigram.
    const MODELS: [&str; 3] = ["bert", "qwen3", "gte_new"];

    /// Words, numbers, blanks, punctuation, a byte-order mark and a combining accent.
    const PARTS: &str = "[a-zA-Z头痛怎么办发烧é]{1,12}|[0-9]{1,3}[ ]{0,3}|[ \n]{1,4}|[，。?!]|\u{feff}|\u{301}";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_long_text_has_the_ids_of_the_whole(
            parts in prop::collection::vec(PARTS, 2..12),
            gap in prop::sample::select(vec!["", " ", "\n"]),
            max_length in 3usize..300,
            left: bool,
        ) {
            let text = parts.iter().cycle().take(6000).fold(String::new(), |text, part| text + gap + part);
            for name in MODELS {
                let side = if left { TruncationSide::Left } else { TruncationSide::Right };
                let tokenizer = fixture(name, max_length, |_| {}).expect("fits").with_truncation_side(side);
                prop_assert_eq!(&tokenizer.encode(&[&text]).expect("encodes")[0], &whole(&tokenizer, &text), "{}", name);
            }
        }
    }

    /// The ids of a pair whose texts are tokenized as a whole.
    fn whole_pair(tokenizer: &Tokenizer, first: &str, second: &str) -> Vec<u32> {
        let encode = |text| tokenizer.inner.encode_fast(text, false).expect("encodes");
        let max_length = tokenizer.max_length - tokenizer.reserved(true);
        let (direction, strategy) = (tokenizer.side.direction(), TruncationStrategy::LongestFirst);
        let truncation = TruncationParams { direction, max_length, strategy, stride: 0 };
        let (mut first, second) =
            truncate_encodings(encode(first), Some(encode(second)), &truncation).expect("truncates");
        first.take_overflowing();
        let second = second.map(|mut second| {
            second.take_overflowing();
            second
        });
        tokenizer.inner.post_process(first, second, true).expect("processes").get_ids().to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn a_pair_of_long_texts_has_the_ids_of_the_whole(
            lengths in prop::array::uniform2(prop::sample::select(vec![2usize, 40, 3000, 6000, 6001])),
            max_length in 20usize..90,
            left: bool,
        ) {
            let texts = lengths.map(|length| ["头痛", "怎么办", "发烧 ", "abc", "，"].iter().cycle().take(length).copied().collect::<String>());
            for name in ["bert", "gte_new"] {
                let side = if left { TruncationSide::Left } else { TruncationSide::Right };
                let tokenizer = fixture(name, max_length, |_| {}).expect("fits").with_truncation_side(side);
                let (ids, _) = tokenizer.encode_pairs(&[(&texts[0], &texts[1])]).expect("encodes");
                prop_assert_eq!(&ids[0], &whole_pair(&tokenizer, &texts[0], &texts[1]), "{}", name);
            }
        }
    }

    #[test]
    fn twenty_megabytes_cost_what_their_first_tokens_cost() {
        for name in MODELS {
            let tokenizer = fixture(name, 512, |_| {}).expect("fits");
            for unit in ["高血压患者能吃党参吗", "high blood pressure, ", "a", " ", "\n", "0", "头 "] {
                let text = unit.repeat((20 << 20) / unit.len());
                let short = unit.repeat((64 << 10) / unit.len());
                let ids = tokenizer.encode(&[&text]).expect("encodes");
                assert_eq!(ids[0], whole(&tokenizer, &short), "{name}: {unit:?}");
            }
        }
        // A word of more than 100 characters is unknown, wherever it is cut.
        let tokenizer = fixture("bert", 16, |_| {}).expect("fits");
        let ids = tokenizer.encode(&["a ".repeat(9) + &"b".repeat(1 << 20)]).expect("encodes");
        assert_eq!(ids[0], whole(&tokenizer, &("a ".repeat(9) + &"b".repeat(101))));
    }

    #[test]
    fn a_text_can_be_truncated_on_the_left() {
        for name in MODELS {
            let right = fixture(name, 9, |json| json["truncation"] = Value::Null).expect("fits");
            let truncation = json!({"direction": "Left", "max_length": 7, "strategy": "LongestFirst", "stride": 0});
            let left = fixture(name, 9, |json| json["truncation"] = truncation).expect("fits");
            assert_eq!([right.side, left.side], [TruncationSide::Right, TruncationSide::Left]);
            let long = right.with_max_length(100).expect("fits");
            let [right, left, long] = [right, left, long].map(|one| {
                (
                    one.encode(&["头痛 怎么办 头痛 发烧 hot"]).expect("encodes").remove(0),
                    one.initial_token(),
                    one.terminal_token(),
                )
            });
            let (first, last) = (usize::from(long.1.is_some()), usize::from(long.2.is_some()));
            let text = &long.0[first..long.0.len() - last];
            assert_eq!(left.0[first..9 - last], text[text.len() - (9 - first - last)..], "{name}");
            assert_eq!(right.0[first..9 - last], text[..9 - first - last], "{name}");
            assert_eq!((left.0[0], left.0[8]), (long.1.unwrap_or(left.0[0]), long.2.expect("ends")), "{name}");
        }
    }

    #[test]
    fn ends_are_added_where_there_are_none() {
        let template = |single: &[&str]| {
            let piece = |token: &&str| match *token {
                "$A" => json!({"Sequence": {"id": "A", "type_id": 0}}),
                token => json!({"SpecialToken": {"id": token, "type_id": 0}}),
            };
            let token = |id: u32, token: &str| json!({"id": token, "ids": [id], "tokens": [token]});
            let tokens =
                json!({"<|im_start|>": token(318, "<|im_start|>"), "<|endoftext|>": token(317, "<|endoftext|>")});
            json!({"type": "TemplateProcessing", "single": single.iter().map(piece).collect::<Vec<_>>(), "pair": [],
                   "special_tokens": tokens})
        };
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true});
        let (first, last) = (Some("<|im_start|>"), Some("<|endoftext|>"));
        for (post, first, last, expected) in [
            (Value::Null, None, last, [None, Some(317)]),
            (bytes.clone(), None, last, [None, Some(317)]),
            (bytes.clone(), first, None, [Some(318), None]),
            (bytes.clone(), first, last, [Some(318), Some(317)]),
            (bytes.clone(), None, None, [None, None]),
            (template(&["<|im_start|>", "$A"]), first, last, [Some(318), Some(317)]),
            (template(&["$A", "<|endoftext|>"]), first, last, [Some(318), Some(317)]),
            (template(&["$A", "<|im_start|>"]), None, last, [None, Some(318)]),
            (
                json!({"type": "Sequence", "processors": [bytes, template(&["<|im_start|>", "$A"])]}),
                None,
                last,
                [Some(318), Some(317)],
            ),
        ] {
            let before = fixture("qwen3", 8, |json| json["post_processor"] = post.clone()).expect("fits");
            let after = before.clone().with_ends(first, last).expect("added");
            assert_eq!([after.initial_token(), after.terminal_token()], expected, "{post}");
            // Exactly once, also around a text that is truncated, and in the saved form.
            for text in ["头", "头痛怎么办头痛怎么办"] {
                let ids = after.encode(&[text]).expect("encodes").remove(0);
                let inside = [before.initial_token(), before.terminal_token()].iter().flatten().count();
                let plain = before.with_max_length(8 - expected.iter().flatten().count() + inside).expect("fits");
                let plain = plain.encode(&[text]).expect("encodes").remove(0);
                let plain = &plain[usize::from(before.initial_token().is_some())..];
                let plain = &plain[..plain.len() - usize::from(before.terminal_token().is_some())];
                let around: Vec<u32> =
                    expected[0].into_iter().chain(plain.iter().copied()).chain(expected[1]).collect();
                assert_eq!(ids, around, "{post}: {text}");
                let saved = Tokenizer::from_json(&after.to_json().expect("JSON"), 0, 8).expect("read");
                assert_eq!(saved.encode(&[text]).expect("encodes")[0], ids);
            }
        }
        let error = fixture("qwen3", 8, |json| json["post_processor"] = Value::Null).expect("fits");
        let error = error.with_ends(None, Some("</s>")).expect_err("no such token");
        assert_eq!(error.to_string(), "has no token \"</s>\"");
    }

    #[test]
    fn a_damaged_tokenizer_is_an_error_and_no_panic() {
        for (change, problem) in [
            // A template whose special token is not defined.
            (
                (|json| json["post_processor"]["special_tokens"] = json!({})) as fn(&mut Value),
                "not a tokenizer: the tokenizer is damaged (",
            ),
            (
                |json| json["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
                "not a tokenizer: the tokenizer is damaged (",
            ),
            (
                |json| json["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "/////w=="}),
                "not a tokenizer: the tokenizer is damaged (",
            ),
            (|json| json["model"]["vocab"] = json!({}), "cannot tokenize: WordPiece error: "),
        ] {
            let result = fixture("bert", 8, change).and_then(|tokenizer| tokenizer.encode(&["头"]));
            let error = result.expect_err("damaged");
            assert_eq!(error.kind(), ErrorKind::Tokenizer);
            assert!(error.to_string().starts_with(problem), "{error}");
        }
    }
}
