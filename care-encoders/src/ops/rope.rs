//! Rotary position embeddings in the half-split ("rotate half") pairing.

use std::cell::OnceCell;
use std::sync::Arc;

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

use super::Host;
use super::angles::{Angles, rotate_spans};

/// The angles of one forward pass over rows of `seq` tokens.
pub(crate) struct RotaryTable {
    angles: Arc<Angles>,
    seq: usize,
    /// Cosines and sines `[1, seq, 1, head_dim]`, in f32.
    tensors: OnceCell<[Tensor<4>; 2]>,
}

impl RotaryTable {
    /// A table over angles of at least `seq` positions.
    pub(crate) fn new(angles: Arc<Angles>, seq: usize) -> Self {
        Self { angles, seq, tensors: OnceCell::new() }
    }

    fn tensors(&self, device: &Device) -> &[Tensor<4>; 2] {
        self.tensors.get_or_init(|| {
            [&self.angles.cos, &self.angles.sin].map(|values| {
                let half = self.angles.half;
                let both_halves = |row: &[f32]| [row, row].concat();
                let values: Vec<f32> = values.chunks_exact(half).take(self.seq).flat_map(both_halves).collect();
                let data = TensorData::new(values, [1, self.seq, 1, 2 * half]);
                Tensor::from_data(data, (device, DType::F32))
            })
        })
    }
}

/// Rotates the heads of queries or keys by the positions of their tokens.
///
/// burn's operations count positions from the start of the row. This shifts the positions of a text that starts later,
/// which does not affect attention, since it depends only on differences of positions. The kernel counts each text's
/// positions from its own start, so that the rounding of its angles does not depend on its neighbours.
///
/// # Shapes
/// `states [rows, seq, heads * head_dim]`, unchanged; `spans` are the ranges of the texts, counted through all rows.
pub(crate) fn rotate(states: Tensor<3>, table: &RotaryTable, spans: &[(usize, usize)]) -> Tensor<3> {
    let half = table.angles.half;
    let dims @ [rows, seq, width] = states.dims();
    if let Some(mut host) = Host::of(&states) {
        drop(states);
        rotate_spans(host.values_mut(), width, half, &table.angles.cos, &table.angles.sin, spans);
        return host.into_tensor();
    }
    #[cfg(feature = "cpu")]
    if let Some(rotated) = super::training::rotate(&states, &table.angles, spans) {
        return rotated;
    }
    let dtype = states.dtype();
    let [cos, sin] = table.tensors(&states.device());
    let states = states.reshape([rows, seq, width / (2 * half), 2 * half]).cast(FloatDType::F32);
    let first = states.clone().narrow(3, 0, half);
    let second = states.clone().narrow(3, half, half);
    let turned = Tensor::cat(vec![second.neg(), first], 3);
    (states * cos.clone() + turned * sin.clone()).cast(dtype).reshape(dims)
}
