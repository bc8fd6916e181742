//! Pooling, from one hidden state per token to one vector per text.

mod cls;
mod last_token;
mod mean;
mod positions;

use std::str::FromStr;

use burn::tensor::Tensor;
use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::batch::TokenBatch;

/// How the hidden states of a text become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Pooling {
    /// The first token's hidden state, as in CARE's query tower.
    Cls,
    /// The mean over all tokens.
    Mean,
    /// The last token's hidden state, as in CARE's document tower.
    LastToken,
}

/// A pooling under the names it has elsewhere.
struct Row {
    pooling: Pooling,
    /// In our files and on the command line: the kebab-case form of the variant, which serde writes.
    name: &'static str,
    /// In the `Pooling` module of sentence-transformers: the mode, and the flag of the older form of its settings.
    mode: &'static str,
    flag: &'static str,
}

const fn row(pooling: Pooling, name: &'static str, mode: &'static str, flag: &'static str) -> Row {
    Row { pooling, name, mode, flag }
}

impl Pooling {
    const TABLE: &'static [Row] = &[
        row(Pooling::Cls, "cls", "cls", "pooling_mode_cls_token"),
        row(Pooling::Mean, "mean", "mean", "pooling_mode_mean_tokens"),
        row(Pooling::LastToken, "last-token", "lasttoken", "pooling_mode_lasttoken"),
    ];

    /// The names of all poolings, in files and on the command line.
    pub fn names() -> Vec<&'static str> {
        Self::TABLE.iter().map(|row| row.name).collect()
    }

    /// Pools hidden states, in f32 whatever the network's dtype.
    ///
    /// # Shapes
    /// `[rows, seq, hidden]` to `[batch, hidden]`.
    pub fn forward(self, hidden: Tensor<3>, batch: &TokenBatch) -> Tensor<2> {
        let hidden = hidden.cast(burn::tensor::FloatDType::F32);
        match self {
            Pooling::Cls => cls::pool(hidden, batch),
            Pooling::Mean => mean::pool(hidden, batch),
            Pooling::LastToken => last_token::pool(hidden, batch),
        }
    }

    /// The pooling of a mode of sentence-transformers, e.g. `lasttoken`.
    pub(crate) fn from_mode(mode: &str) -> Option<Self> {
        Self::TABLE.iter().find(|row| row.mode == mode).map(|row| row.pooling)
    }

    /// The modes of sentence-transformers that are read.
    pub(crate) fn modes() -> Vec<&'static str> {
        Self::TABLE.iter().map(|row| row.mode).collect()
    }

    /// The flags of the older form of sentence-transformers' settings, each with whether it is this pooling's.
    pub(crate) fn flags(self) -> impl Iterator<Item = (&'static str, bool)> {
        Self::TABLE.iter().map(move |row| (row.flag, row.pooling == self))
    }

    /// Its name in files and on the command line.
    pub fn as_str(self) -> &'static str {
        Self::TABLE.iter().find(|row| row.pooling == self).map_or("", |row| row.name)
    }
}

impl FromStr for Pooling {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::TABLE
            .iter()
            .find(|row| row.name == name)
            .map(|row| row.pooling)
            .ok_or_else(|| Error::setting("pooling", format!("{name:?}"), &Self::names().join(", ")))
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
            for (pooling, first) in
                [(Pooling::Cls, [1.0, 2.0]), (Pooling::Mean, [3.0, 5.0]), (Pooling::LastToken, [5.0, 9.0])]
            {
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
        ] {
            let pooled = pooling.forward(Tensor::from_data(hidden, &device), &batch).into_data();
            pooled.assert_approx_eq::<f32>(&TensorData::from(expected), Tolerance::default());
        }
    }

    #[test]
    fn names_are_those_of_the_table() {
        for &Row { name, pooling, .. } in Pooling::TABLE {
            assert_eq!(name.parse::<Pooling>().expect("known"), pooling);
            assert_eq!(pooling.as_str(), name);
            assert_eq!(serde_json::to_value(pooling).expect("a name"), name, "every variant is in the table");
        }
        let error = "no pooling".parse::<Pooling>().expect_err("unknown").to_string();
        assert_eq!(error, format!("`pooling` is \"no pooling\", allowed: {}", Pooling::names().join(", ")));
    }
}
