//! A pair of towers without a model, for tests and the example: vectors are counts of characters and their pairs.

use std::sync::Arc;

use care_core::{Document, Embeddings, Query, Result, Text};
use care_serve::{About, Pair, ServedTower, Side, Tokens};

/// Dimensions of a vector.
pub(crate) const DIM: usize = 64;
/// Length limit in tokens.
pub(crate) const MAX_LENGTH: usize = 128;
/// Ids of the special tokens around each text.
pub(crate) const ENDS: [u32; 2] = [1, 2];
const VOCABULARY: u32 = 30_000;

type Before = Box<dyn Fn(&[Tokens]) + Send + Sync>;

/// A tower whose token ids are made from characters.
pub(crate) struct FakeTower {
    about: About,
    /// Is called in front of each batch.
    before: Before,
}

impl FakeTower {
    pub(crate) fn new(
        fingerprint: &str,
        unit_length: bool,
        before: impl Fn(&[Tokens]) + Send + Sync + 'static,
    ) -> Self {
        let about = About {
            fingerprint: fingerprint.to_owned(),
            instruction: String::new(),
            dim: DIM,
            unit_length,
            max_length: MAX_LENGTH,
            vocab_size: VOCABULARY as usize,
            special_tokens: ENDS.to_vec(),
            dtype: "f32".to_owned(),
            pooling: "mean".to_owned(),
            device: "cpu".to_owned(),
            architecture: "fake".to_owned(),
        };
        Self { about, before: Box::new(before) }
    }
}

impl<T: Text> ServedTower<T> for FakeTower {
    fn about(&self) -> &About {
        &self.about
    }

    fn tokenize(&self, texts: &[T], limit: usize, side: Option<Side>) -> Result<Vec<Tokens>> {
        let ids = |text: &T| {
            let mut ids: Vec<u32> = text.content().chars().map(|c| 3 + c as u32 % (VOCABULARY - 3)).collect();
            let cut = ids.len().saturating_sub(limit - ENDS.len());
            match side {
                Some(Side::Left) => drop(ids.drain(..cut)),
                _ => ids.truncate(ids.len() - cut),
            }
            Tokens { ids: [&ENDS[..1], &ids, &ENDS[1..]].concat(), types: None }
        };
        Ok(texts.iter().map(ids).collect())
    }

    fn embed(&self, tokens: &[Tokens]) -> Result<Embeddings> {
        (self.before)(tokens);
        let vector = |text: &Tokens| {
            let mut vector = [0f32; DIM];
            for pair in text.ids.windows(2) {
                vector[pair[0] as usize % DIM] += 1.0;
                vector[(pair[0] * 31 + pair[1]) as usize % DIM] -= 0.5;
            }
            let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-6);
            if self.about.unit_length { vector.map(|value| value / length) } else { vector }
        };
        Embeddings::from_rows(DIM, tokens.iter().map(vector))
    }

    fn token(&self, id: u32) -> Option<String> {
        match id {
            1 => Some("[CLS]".to_owned()),
            2 => Some("[SEP]".to_owned()),
            id => char::from_u32(id.checked_sub(3)?).map(String::from),
        }
    }
}

/// The pair `fake`, whose towers are the same but for their fingerprints.
pub(crate) fn pair() -> Pair {
    pair_with(FakeTower::new("query-tower", true, |_| {}), FakeTower::new("document-tower", true, |_| {}))
}

/// A pair of these towers.
pub(crate) fn pair_with(query: FakeTower, document: FakeTower) -> Pair {
    let (query, document): (Arc<dyn ServedTower<Query>>, Arc<dyn ServedTower<Document>>) =
        (Arc::new(query), Arc::new(document));
    Pair { name: "fake".to_owned(), query, document, reranker: None }
}
