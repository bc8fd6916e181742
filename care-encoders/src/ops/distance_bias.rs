//! A bias of attention scores that depends on the distance of query and key.

use std::cell::OnceCell;

use burn::tensor::{FloatDType, Int, Tensor, TensorData};

use super::Host;

/// What is added to the scores of each head, by the distance of query and key. All layers of a network share it.
pub(crate) struct DistanceBias {
    /// `[heads, 2 * far + 1]`, in f32: for the query at position `q` and the key at `k`, the value at `far + q - k`.
    table: Tensor<2>,
    far: usize,
    /// `[1, heads, seq, seq]`
    pairs: OnceCell<Tensor<4>>,
}

impl DistanceBias {
    /// A bias for rows of up to `far + 1` tokens. `lookup` maps the values `q - k`, which are `-far..=far`, to a
    /// tensor `[2 * far + 1, heads]`.
    pub(crate) fn new(far: usize, lookup: impl FnOnce(&[isize]) -> Tensor<2>) -> Self {
        let most = far as isize;
        let distances: Vec<isize> = (-most..=most).collect();
        Self { table: lookup(&distances).transpose().cast(FloatDType::F32), far, pairs: OnceCell::new() }
    }

    /// The table, `[heads, 2 * far + 1]`.
    #[cfg(feature = "cpu")]
    pub(super) fn table(&self) -> &Tensor<2> {
        &self.table
    }

    /// The table, for the kernels.
    pub(super) fn host(&self) -> Host {
        Host::of(&self.table).expect("a bias is on the device of the states, as f32 and without autograd if they are")
    }

    /// The bias of every pair of positions in a row, `[1, heads, seq, seq]`.
    pub(super) fn of_pairs(&self, seq: usize) -> Tensor<4> {
        let of_pairs = || {
            let places = (0..seq).flat_map(|query| (0..seq).map(move |key| (self.far + query - key) as i64));
            let places = TensorData::new(places.collect::<Vec<_>>(), [seq * seq]);
            let places = Tensor::<1, Int>::from_data(places, &self.table.device());
            let [heads, _] = self.table.dims();
            self.table.clone().select(1, places).reshape([1, heads, seq, seq])
        };
        self.pairs.get_or_init(of_pairs).clone()
    }
}
