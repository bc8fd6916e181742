//! From one vector a token to one vector a text: the table of poolings.

mod cls;
mod last_token;
mod mean;
mod positions;

use std::str::FromStr;

use burn::tensor::Tensor;
use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::batch::TokenBatch;

/// Which hidden states make a text's vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Pooling {
    /// The first token's: CARE's query tower.
    Cls,
    /// The mean over all tokens of text.
    Mean,
    /// The last token's: CARE's document tower.
    LastToken,
}

impl Pooling {
    /// Every pooling with its name in files and on the command line.
    const TABLE: &'static [(&'static str, Pooling)] =
        &[("cls", Pooling::Cls), ("mean", Pooling::Mean), ("last-token", Pooling::LastToken)];

    /// The names of all poolings, in files and on the command line.
    pub fn names() -> Vec<&'static str> {
        Self::TABLE.iter().map(|(name, _)| *name).collect()
    }

    /// Pools hidden states, in f32 whatever the network's number format.
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

    /// The name in files and on the command line.
    pub fn as_str(self) -> &'static str {
        Self::TABLE.iter().find(|(_, pooling)| *pooling == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Pooling {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::TABLE
            .iter()
            .find(|(known, _)| *known == name)
            .map(|&(_, pooling)| pooling)
            .ok_or_else(|| Error::setting("pooling", format!("{name:?}"), &Self::names().join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{TensorData, Tolerance};

    use super::*;
    use crate::batch::PaddingSide;
    use crate::device::Device;

    /// Two texts of 3 and 1 tokens; padded positions hold a value that would show.
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
        for &(name, pooling) in Pooling::TABLE {
            assert_eq!(name.parse::<Pooling>().expect("known"), pooling);
            assert_eq!(pooling.as_str(), name);
            assert_eq!(serde_json::to_value(pooling).expect("a name"), name, "every variant is in the table");
        }
        let error = "no pooling".parse::<Pooling>().expect_err("unknown").to_string();
        assert_eq!(error, format!("`pooling` is \"no pooling\", allowed: {}", Pooling::names().join(", ")));
    }
}
