//! Pooling, from one hidden state per token to one vector per text.

mod max;
mod mean;
mod weighted;

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::batch::TokenBatch;
use crate::encoder::Encoder;
use crate::ops::take_positions;

/// How the hidden states of a text become one vector.
///
/// Its text form, in files and on the command line, is the name of one pooling, e.g. `last-token`, or the names of several
/// joined by `+`, e.g. `cls+mean`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum Pooling {
    /// The first token's hidden state, as in CARE's query tower.
    Cls,
    /// In each dimension the largest value over all tokens.
    Max,
    /// The mean over all tokens.
    Mean,
    /// The sum over all tokens, divided by the root of their number.
    MeanSqrtLen,
    /// The mean over all tokens, weighted by position: 1, 2, 3, ..
    WeightedMean,
    /// The last token's hidden state, as in CARE's document tower.
    LastToken,
    /// The vectors of several poolings, concatenated: see [`Pooling::concat`].
    Concat(Concat),
}

/// Several poolings whose vectors are concatenated.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Concat {
    /// The rows of [`Pooling::TABLE`], in order; 0 after the first `count`.
    rows: [u8; KINDS],
    count: usize,
}

impl fmt::Debug for Concat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(Pooling::Concat(*self).parts()).finish()
    }
}

/// The number of single poolings.
const KINDS: usize = 6;

/// A pooling under the names it has elsewhere.
struct Row {
    pooling: Pooling,
    /// In our files and on the command line.
    name: &'static str,
    /// In the `Pooling` module of sentence-transformers: the mode, and the flag of the older form of its settings.
    mode: &'static str,
    flag: &'static str,
}

const fn row(pooling: Pooling, name: &'static str, mode: &'static str, flag: &'static str) -> Row {
    Row { pooling, name, mode, flag }
}

impl Pooling {
    /// In the order in which sentence-transformers concatenates what the older form of its settings selects.
    const TABLE: &'static [Row; KINDS] = &[
        row(Pooling::Cls, "cls", "cls", "pooling_mode_cls_token"),
        row(Pooling::Max, "max", "max", "pooling_mode_max_tokens"),
        row(Pooling::Mean, "mean", "mean", "pooling_mode_mean_tokens"),
        row(Pooling::MeanSqrtLen, "mean-sqrt-len", "mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"),
        row(Pooling::WeightedMean, "weighted-mean", "weightedmean", "pooling_mode_weightedmean_tokens"),
        row(Pooling::LastToken, "last-token", "lasttoken", "pooling_mode_lasttoken"),
    ];

    /// The names of all poolings, in files and on the command line; several may be joined by `+`.
    pub fn names() -> Vec<&'static str> {
        Self::TABLE.iter().map(|row| row.name).collect()
    }

    /// The vectors of several poolings, concatenated in this order; a single one is itself. The hidden states are computed
    /// once.
    ///
    /// # Errors
    /// If there is none, one of them is itself a concatenation, or one is duplicated.
    pub fn concat(parts: &[Self]) -> Result<Self> {
        let refuse = || {
            let allowed = "one or more of the others, each once, none of them a concatenation";
            Err(Error::setting("pooling", format!("{parts:?}"), allowed))
        };
        let mut concat = Concat { rows: [0; KINDS], count: 0 };
        for (place, part) in parts.iter().enumerate() {
            let Some(row) = Self::TABLE.iter().position(|row| row.pooling == *part) else { return refuse() };
            if parts[..place].contains(part) {
                return refuse();
            }
            concat.rows[place] = row as u8;
            concat.count += 1;
        }
        match parts {
            [] => refuse(),
            [one] => Ok(*one),
            _ => Ok(Pooling::Concat(concat)),
        }
    }

    /// The poolings whose vectors are concatenated, in order; itself if it is a single one.
    pub fn parts(self) -> Vec<Self> {
        match self {
            Pooling::Concat(concat) => {
                concat.rows[..concat.count].iter().map(|&row| Self::TABLE[usize::from(row)].pooling).collect()
            }
            one => vec![one],
        }
    }

    /// Dimensions of a pooled vector, given the encoder's hidden size.
    pub fn outputs(self, hidden_size: usize) -> usize {
        self.parts().len() * hidden_size
    }

    /// Pools hidden states, in f32 whatever the network's dtype.
    ///
    /// # Shapes
    /// `[rows, seq, hidden]` to `[batch, outputs]`.
    pub fn forward(self, hidden: Tensor<3>, batch: &TokenBatch) -> Tensor<2> {
        let hidden = hidden.cast(burn::tensor::FloatDType::F32);
        match self {
            Pooling::Cls | Pooling::LastToken => take_positions(hidden, &self.positions(batch).unwrap_or_default()),
            Pooling::Max => max::pool(hidden, batch),
            Pooling::Mean => mean::pool(hidden, batch),
            Pooling::MeanSqrtLen => weighted::mean_sqrt_len(hidden, batch),
            Pooling::WeightedMean => weighted::weighted_mean(hidden, batch),
            Pooling::Concat(_) => {
                let parts = self.parts().into_iter().map(|part| part.forward(hidden.clone(), batch));
                Tensor::cat(parts.collect(), 1)
            }
        }
    }

    /// [`Pooling::forward`] of the hidden states of a batch. A network computes no more of them than it must.
    ///
    /// # Shapes
    /// `[rows, seq]` to `[batch, outputs]`.
    pub(crate) fn encode(self, encoder: &impl Encoder, batch: &TokenBatch) -> Tensor<2> {
        match self.positions(batch) {
            Some(positions) => encoder.forward_at(batch, &positions).cast(burn::tensor::FloatDType::F32),
            None => self.forward(encoder.forward(batch), batch),
        }
    }

    /// The positions of the tokens, one per text, whose hidden states are the pooled ones; `None` if more are read.
    fn positions(self, batch: &TokenBatch) -> Option<Vec<usize>> {
        let spans = batch.spans().iter();
        match self {
            Pooling::Cls => Some(spans.map(|&(start, _)| start).collect()),
            // On whichever side the padding is.
            Pooling::LastToken => Some(spans.map(|&(_, end)| end - 1).collect()),
            _ => None,
        }
    }

    /// The pooling of modes of sentence-transformers, e.g. `lasttoken`, whose vectors it concatenates.
    pub(crate) fn from_modes<S: AsRef<str>>(modes: &[S]) -> Option<Self> {
        let of = |mode: &S| Self::TABLE.iter().find(|row| row.mode == mode.as_ref()).map(|row| row.pooling);
        Self::concat(&modes.iter().map(of).collect::<Option<Vec<Self>>>()?).ok()
    }

    /// All modes of sentence-transformers.
    pub(crate) fn all_modes() -> impl Iterator<Item = &'static str> {
        Self::TABLE.iter().map(|row| row.mode)
    }

    /// The modes of sentence-transformers that it concatenates.
    pub(crate) fn modes(self) -> Vec<&'static str> {
        self.rows().iter().map(|row| row.mode).collect()
    }

    /// The modes with their flags in the older form of sentence-transformers' settings, in the order in which it
    /// concatenates them.
    pub(crate) fn flags() -> impl Iterator<Item = (&'static str, &'static str)> {
        Self::TABLE.iter().map(|row| (row.mode, row.flag))
    }

    fn rows(self) -> Vec<&'static Row> {
        self.parts().iter().filter_map(|part| Self::TABLE.iter().find(|row| row.pooling == *part)).collect()
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.rows().iter().map(|row| row.name).collect();
        f.write_str(&names.join("+"))
    }
}

impl FromStr for Pooling {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let of = |name: &str| Self::TABLE.iter().find(|row| row.name == name).map(|row| row.pooling);
        let parts: Option<Vec<Self>> = name.split('+').map(of).collect();
        parts.and_then(|parts| Self::concat(&parts).ok()).ok_or_else(|| {
            let allowed = format!("{}, or several joined by +", Self::names().join(", "));
            Error::setting("pooling", format!("{name:?}"), &allowed)
        })
    }
}

impl TryFrom<String> for Pooling {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<Pooling> for String {
    fn from(pooling: Pooling) -> Self {
        pooling.to_string()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{TensorData, Tolerance};

    use super::*;
    use crate::batch::PaddingSide;
    use crate::device::Device;

    /// Two texts of 3 and 1 tokens; padding has values that would show in a result.
    fn case(side: PaddingSide) -> (Tensor<3>, TokenBatch) {
        let device = Device::Cpu.open().expect("cpu");
        let batch = TokenBatch::pad(&[vec![1, 2, 3], vec![4]], 0, side);
        let second = match side {
            PaddingSide::Right => [[10.0, 20.0], [999.0, 999.0], [999.0, 999.0]],
            PaddingSide::Left => [[999.0, 999.0], [999.0, 999.0], [10.0, 20.0]],
        };
        (Tensor::from_data([[[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]], second], &device), batch)
    }

    #[test]
    fn each_pooling_reads_only_text_on_either_side() {
        for side in [PaddingSide::Right, PaddingSide::Left] {
            // Of a text of one token, every pooling is that token.
            let root = 3f32.sqrt();
            for (pooling, first) in [
                (Pooling::Cls, [1.0, 2.0]),
                (Pooling::Max, [5.0, 9.0]),
                (Pooling::Mean, [3.0, 5.0]),
                (Pooling::MeanSqrtLen, [9.0 / root, 15.0 / root]),
                (Pooling::WeightedMean, [22.0 / 6.0, 37.0 / 6.0]),
                (Pooling::LastToken, [5.0, 9.0]),
            ] {
                let (hidden, batch) = case(side);
                let expected = TensorData::from([first, [10.0, 20.0]]);
                pooling.forward(hidden, &batch).into_data().assert_approx_eq::<f32>(&expected, Tolerance::default());
            }
        }
    }

    #[test]
    fn each_pooling_reads_each_text_of_a_row_alone() {
        let device = Device::Cpu.open().expect("cpu");
        let batch = TokenBatch::varlen(&[vec![1, 2, 3], vec![4, 5]]);
        let hidden = [[[1.0, 2.0], [3.0, 4.0], [5.0, 9.0], [10.0, 20.0], [30.0, 50.0]]];
        for (pooling, expected) in [
            (Pooling::Cls, [[1.0, 2.0], [10.0, 20.0]]),
            (Pooling::Mean, [[3.0, 5.0], [20.0, 35.0]]),
            (Pooling::LastToken, [[5.0, 9.0], [30.0, 50.0]]),
            (Pooling::Max, [[5.0, 9.0], [30.0, 50.0]]),
            (Pooling::WeightedMean, [[22.0 / 6.0, 37.0 / 6.0], [70.0 / 3.0, 40.0]]),
            (
                Pooling::MeanSqrtLen,
                [[9.0, 15.0].map(|sum| sum / 3f32.sqrt()), [40.0, 70.0].map(|sum| sum / 2f32.sqrt())],
            ),
        ] {
            let pooled = pooling.forward(Tensor::from_data(hidden, &device), &batch).into_data();
            pooled.assert_approx_eq::<f32>(&TensorData::from(expected), Tolerance::default());
        }
    }

    #[test]
    fn several_poolings_are_concatenated_in_their_order() {
        let (hidden, batch) = case(PaddingSide::Right);
        let pooling: Pooling = "last-token+cls".parse().expect("two poolings");
        assert_eq!(pooling.outputs(2), 4);
        let expected = TensorData::from([[5.0, 9.0, 1.0, 2.0], [10.0, 20.0, 10.0, 20.0]]);
        pooling.forward(hidden, &batch).into_data().assert_approx_eq::<f32>(&expected, Tolerance::default());
        assert_ne!(pooling, "cls+last-token".parse().expect("two poolings"));
        assert_eq!(format!("{pooling:?} {:?}", Pooling::Cls), "Concat([LastToken, Cls]) Cls");
        for parts in [&[] as &[Pooling], &[Pooling::Cls, Pooling::Cls], &[pooling, Pooling::Mean]] {
            assert!(Pooling::concat(parts).is_err(), "{parts:?}");
        }
    }

    #[test]
    fn names_are_those_of_the_table() {
        let all = Pooling::concat(&Pooling::TABLE.iter().map(|row| row.pooling).collect::<Vec<_>>()).expect("distinct");
        let poolings = Pooling::TABLE.iter().map(|row| (row.name.to_owned(), row.pooling));
        for (name, pooling) in poolings.chain([(Pooling::names().join("+"), all)]) {
            assert_eq!(name.parse::<Pooling>().expect("known"), pooling);
            assert_eq!(pooling.to_string(), name);
            assert_eq!(serde_json::to_value(pooling).expect("a name"), name);
            assert_eq!(serde_json::from_value::<Pooling>(name.into()).expect("a name"), pooling);
        }
        for name in ["no pooling", "", "cls+", "cls+cls", "cls,mean"] {
            let error = name.parse::<Pooling>().expect_err("unknown").to_string();
            let allowed = format!("{}, or several joined by +", Pooling::names().join(", "));
            assert_eq!(error, format!("`pooling` is {name:?}, allowed: {allowed}"));
        }
    }
}
