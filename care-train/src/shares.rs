//! Which process computes which chunk of a batch.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use care_core::Result;
use care_encoders::internals::even_cuts;

use crate::collective::{Collective, garbled, values_of};

/// How many chunks a process computes before it is the turn of the next: so many gradients wait for the sum of those
/// before them.
const TURN: usize = 4;

/// The chunks of a batch in runs of about the same number of tokens, which the processes take in turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shares {
    turns: Vec<(usize, Range<usize>)>,
}

impl Shares {
    /// Shares out chunks of these numbers of tokens among so many processes.
    pub(crate) fn new(tokens: &[usize], world: usize) -> Self {
        let rounds = if world == 1 { 1 } else { tokens.len().div_ceil(TURN * world).max(1) };
        let cuts = even_cuts(tokens, rounds * world).into_iter().enumerate();
        Self {
            turns: cuts.map(|(turn, chunks)| (turn % world, chunks)).filter(|(_, chunks)| !chunks.is_empty()).collect(),
        }
    }

    /// The rank and the chunks of each turn, in the order of the chunks.
    pub(crate) fn turns(&self) -> &[(usize, Range<usize>)] {
        &self.turns
    }

    /// The chunks of a process, ascending.
    pub(crate) fn of(&self, rank: usize) -> Vec<usize> {
        self.turns.iter().filter(|(owner, _)| *owner == rank).flat_map(|(_, chunks)| chunks.clone()).collect()
    }

    /// The vectors of every chunk, without a graph. `sizes` are the chunks' numbers of texts, `own` the vectors of those
    /// that this process has encoded.
    ///
    /// # Errors
    /// Returns an error if a process is lost.
    pub(crate) fn gather(
        &self,
        group: &dyn Collective,
        sizes: &[usize],
        own: Vec<Tensor<2>>,
        device: &Device,
    ) -> Result<Vec<Tensor<2>>> {
        if group.world() == 1 {
            return Ok(own);
        }
        let mut bytes = Vec::new();
        own.iter().for_each(|vectors| bytes.extend(vectors.to_data().as_bytes()));
        let all = group.all_gather(bytes)?;
        let mut parts: Vec<Option<Tensor<2>>> = vec![None; sizes.len()];
        for (rank, bytes) in all.iter().enumerate().filter(|(rank, _)| *rank != group.rank()) {
            let (chunks, values) = (self.of(rank), values_of(bytes));
            let texts: usize = chunks.iter().map(|&chunk| sizes[chunk]).sum();
            let dim = values.len() / texts.max(1);
            if dim * texts != values.len() || (dim == 0 && texts > 0) {
                return Err(garbled(rank, format!("{} values for {texts} vectors", values.len())));
            }
            let mut rest = values.as_slice();
            for chunk in chunks {
                let (first, others) = rest.split_at(sizes[chunk] * dim);
                rest = others;
                let data = TensorData::new(first.to_vec(), [sizes[chunk], dim]);
                parts[chunk] = Some(Tensor::from_data(data, device));
            }
        }
        for (chunk, vectors) in self.of(group.rank()).into_iter().zip(own) {
            parts[chunk] = Some(vectors);
        }
        Ok(parts.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_has_one_process_and_processes_have_about_the_same_tokens() {
        for world in [1, 2, 3, 8] {
            for chunks in [1, 2, 5, 7, 40, 100] {
                let tokens: Vec<usize> = (0..chunks).map(|chunk| 2000 - 10 * chunk).collect();
                let shares = Shares::new(&tokens, world);
                let ordered: Vec<usize> = shares.turns().iter().flat_map(|(_, chunks)| chunks.clone()).collect();
                assert_eq!(ordered, (0..chunks).collect::<Vec<_>>());
                let mut dealt: Vec<usize> = (0..world).flat_map(|rank| shares.of(rank)).collect();
                dealt.sort_unstable();
                assert_eq!(dealt, ordered);
                let load = |rank: usize| shares.of(rank).iter().map(|&chunk| tokens[chunk]).sum::<usize>();
                let (most, all) = ((0..world).map(load).max().unwrap_or(0), tokens.iter().sum::<usize>());
                let rounds = shares.turns().len().div_ceil(world);
                assert!(most <= all / world + rounds * 2000, "{world} processes, {chunks} chunks: {most} of {all}");
                if world > 1 {
                    assert!(shares.turns().iter().all(|(_, chunks)| chunks.len() <= 2 * TURN), "{shares:?}");
                }
            }
        }
    }
}
