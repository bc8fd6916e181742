//! Rotary position embeddings in the half-split ("rotate half") pairing.

use burn::tensor::{Device, FloatDType, Tensor, TensorData};

/// Cosines and sines of one forward pass, `[1, 1, seq, head_dim]`, in f32.
pub(crate) struct RotaryTable {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl RotaryTable {
    /// Angles `position * theta^(-2i/head_dim)` for pair `i` of components `i` and `i + head_dim/2`.
    ///
    /// Positions count from the start of the row. With left padding a text's positions are shifted
    /// by the padding, which attention cannot see, since it reads only their differences.
    pub(crate) fn new(seq: usize, head_dim: usize, theta: f64, device: &Device) -> Self {
        let half = head_dim / 2;
        let frequencies: Vec<f64> = (0..half).map(|i| theta.powf(-2.0 * i as f64 / head_dim as f64)).collect();
        let table = |function: fn(f64) -> f64| {
            let values: Vec<f32> = (0..seq)
                .flat_map(|position| {
                    let angle = move |frequency: &f64| function(position as f64 * frequency) as f32;
                    frequencies.iter().map(angle).chain(frequencies.iter().map(angle))
                })
                .collect();
            Tensor::from_data(TensorData::new(values, [1, 1, seq, head_dim]), device)
        };
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }

    /// Rotates queries or keys by their positions.
    ///
    /// # Shapes
    /// `[batch, heads, seq, head_dim]`, unchanged.
    pub(crate) fn rotate(&self, states: Tensor<4>) -> Tensor<4> {
        let dtype = states.dtype();
        let states = states.cast(FloatDType::F32);
        let half = states.dims()[3] / 2;
        let first = states.clone().narrow(3, 0, half);
        let second = states.clone().narrow(3, half, half);
        let turned = Tensor::cat(vec![second.neg(), first], 3);
        (states * self.cos.clone() + turned * self.sin.clone()).cast(dtype)
    }
}
