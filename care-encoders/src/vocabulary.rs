//! Towers with a smaller vocabulary.

use std::collections::BTreeSet;

use care_core::{Error, ErrorKind, Result, Text};
use rayon::prelude::*;

use crate::encoder::Encoder;
use crate::registry::AnyEncoder;
use crate::tower::Tower;

impl<T: Text> Tower<T, AnyEncoder> {
    /// Token ids of each text, with the instruction applied, without the special tokens at its ends and whatever its length.
    ///
    /// # Errors
    /// If the tokenizer rejects a text.
    pub fn tokenize_whole(&self, texts: &[T]) -> Result<Vec<Vec<u32>>> {
        let whole = |text: &T| {
            let prepared = self.instruction().apply(text);
            let (first, second) = self.instruction().segments(&prepared).unwrap_or((&prepared, ""));
            Ok([self.tokenizer().encode_bare(first)?, self.tokenizer().encode_bare(second)?].concat())
        };
        texts.par_iter().map(whole).collect()
    }

    /// The tower with only some tokens in tokenizer and embedding table: see
    /// [`Tokenizer::pruned`](crate::tokenize::Tokenizer::pruned). Texts whose tokens are all in `used` keep their vectors.
    ///
    /// ```
    /// use std::collections::BTreeSet;
    ///
    /// use care_core::{Instruction, Query};
    /// use care_encoders::config::{BertConfig, EncoderConfig};
    /// use care_encoders::head::{HeadConfig, Pooling};
    /// use care_encoders::tokenize::{TokenizerStyle, character_tokenizer};
    /// use care_encoders::{Device, Network, Tower, network_with_head, random_encoder};
    ///
    /// let device = Device::Cpu.open()?;
    /// let tokenizer = character_tokenizer(["头痛怎么办", "发烧38度"], 100, TokenizerStyle::Bert, 32)?;
    /// let config = EncoderConfig::Bert(BertConfig::new(tokenizer.vocab_size(), 64, 1));
    /// let network = network_with_head(random_encoder(&config, 42, &device)?, HeadConfig::new(Pooling::Mean), 42, &device)?;
    /// let tower = Tower::new(tokenizer, network, Instruction::new("query: ")?)?;
    ///
    /// let texts = [Query::new("头痛怎么办")];
    /// let used: BTreeSet<u32> = tower.tokenize_whole(&texts)?.concat().into_iter().collect();
    /// let small = tower.clone().with_vocabulary(&used)?;
    /// assert!(small.tokenizer().vocab_size() < tower.tokenizer().vocab_size());
    /// assert_eq!(small.embed(&texts, 512)?, tower.embed(&texts, 512)?);
    /// # Ok::<(), care_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tokenizer::pruned`](crate::tokenize::Tokenizer::pruned), and if the network numbers positions by an id that
    /// would change, or its table has fewer rows than the tokenizer has ids.
    pub fn with_vocabulary(self, used: &BTreeSet<u32>) -> Result<Self> {
        let (tokenizer, kept) = self.tokenizer().pruned(used)?;
        let rows = self.network().encoder().vocab_size();
        if let Some(id) = kept.last().filter(|id| **id as usize >= rows) {
            let message = format!("cannot prune the vocabulary: token {id} has no row in the embedding table");
            return Err(Error::new(ErrorKind::Tokenizer, message));
        }
        let instruction = self.instruction().clone();
        let network = self.network().clone().try_map_encoder(|encoder| encoder.with_vocabulary(&kept))?;
        Self::new(tokenizer, network, instruction)
    }
}
