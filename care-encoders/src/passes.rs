//! Runs many texts through a network in the passes of a [`Schedule`].

use std::ops::Add;

use burn::tensor::Tensor;
use care_core::{Embeddings, Error, ErrorKind, Result};

use crate::batch::TokenBatch;
use crate::encoder::Encoder;
use crate::schedule::Schedule;

/// How texts are run through a network.
pub(crate) struct Passes<'a, E: Encoder> {
    /// The encoder, which decides on the form of a batch.
    pub(crate) encoder: &'a E,
    /// The id that pads batches.
    pub(crate) pad_id: u32,
    /// Largest number of tokens per pass, padding included, unless one text is longer.
    pub(crate) token_budget: usize,
    /// Values that the network returns for a text.
    pub(crate) outputs: usize,
    /// Number of texts in the same call before these, for messages.
    pub(crate) before: usize,
}

impl<E: Encoder> Passes<'_, E> {
    /// The outputs of `forward` for texts given as token ids, with the type of each token or without, in order. Calls
    /// `progress` after every pass.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`] if a value is not finite; the message names the text's index.
    ///
    /// # Panics
    /// Panics if a text has no tokens, an id that the embedding table lacks, or more tokens than the network has
    /// positions.
    pub(crate) fn run<I: AsRef<[u32]> + Sync>(
        &self,
        texts: &[I],
        types: Option<&[Vec<u32>]>,
        forward: &(dyn Fn(&TokenBatch) -> Tensor<2> + Sync),
        progress: &mut dyn FnMut(&EmbedProgress),
    ) -> Result<Embeddings> {
        let lengths: Vec<usize> = texts.iter().map(|text| text.as_ref().len()).collect();
        let varlen = self.encoder.prefers_varlen();
        let (device, token_cost) = (self.encoder.device(), token_cost(self.encoder));
        let schedule = Schedule::inference(&lengths, varlen, &device, token_cost, self.token_budget);
        let pass = |pass: usize| {
            let rows: Vec<&[u32]> = schedule.passes()[pass].iter().map(|&index| texts[index].as_ref()).collect();
            let batch = match varlen {
                true => TokenBatch::varlen(&rows),
                false => TokenBatch::pad(&rows, self.pad_id, self.encoder.padding_side()),
            };
            let batch = match types {
                Some(types) => {
                    let rows: Vec<&Vec<u32>> = schedule.passes()[pass].iter().map(|&index| &types[index]).collect();
                    batch.with_token_types(&rows)
                }
                None => batch,
            };
            let vectors = forward(&batch).into_data().try_to_vec::<f32>();
            let vectors = vectors
                .map_err(|e| Error::new(ErrorKind::Dimension, format!("the tower's output is not f32: {e:?}")))?;
            Ok((batch, vectors))
        };
        let mut done = EmbedProgress::default();
        let mut embeddings = Embeddings::zeros(texts.len(), self.outputs);
        // The first of them, whatever pass comes first.
        let mut not_finite: Option<usize> = None;
        schedule.run(&pass, &mut |pass, (batch, vectors)| {
            for (vector, &index) in vectors.chunks_exact(self.outputs).zip(&schedule.passes()[pass]) {
                if vector.iter().any(|value| !value.is_finite()) {
                    not_finite = Some(not_finite.map_or(index, |first| first.min(index)));
                }
                embeddings.set(index, vector);
            }
            done = done + EmbedProgress::of(&batch);
            progress(&done);
            Ok::<_, Error>(())
        })?;
        if let Some(index) = not_finite {
            let message = format!("the vector of text {} is not finite", self.before + index);
            return Err(Error::new(ErrorKind::NonFinite, message));
        }
        Ok(embeddings)
    }
}

/// About how many multiplications a token takes: 12 times the square of the hidden size in each layer of most networks.
fn token_cost(encoder: &impl Encoder) -> usize {
    match encoder.forward_steps() - 1 {
        // It does not say how many layers it has.
        0 => usize::MAX,
        layers => 12 * encoder.hidden_size().pow(2) * layers,
    }
}

/// Progress of embedding many texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EmbedProgress {
    /// Number of embedded texts.
    pub texts: usize,
    /// Number of their tokens.
    pub tokens: usize,
    /// Number of padding positions computed so far.
    pub padding: usize,
}

impl EmbedProgress {
    /// The share of computed positions that was padding, `[0, 1)`.
    pub fn padding_ratio(&self) -> f64 {
        self.padding as f64 / (self.tokens + self.padding).max(1) as f64
    }

    fn of(batch: &TokenBatch) -> Self {
        let tokens = batch.token_count();
        Self { texts: batch.batch_size(), tokens, padding: batch.rows() * batch.seq_len() - tokens }
    }
}

/// The progress of two parts together.
impl Add for EmbedProgress {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            texts: self.texts + other.texts,
            tokens: self.tokens + other.tokens,
            padding: self.padding + other.padding,
        }
    }
}
