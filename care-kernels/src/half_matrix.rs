//! Matmul with a prepacked weight of 16-bit floats, which are converted when they are loaded.

use std::ops::Range;

use crate::columns::for_panels;
use crate::f32_matrix::{F32Rows, tile_rows, tiles, with_rows};
use crate::half::{bf16_bits, f16_bits};
use crate::instructions::InstructionSet;
use crate::kernel::{Kernel, WithKernel};
use crate::matmul::{ACROSS, Epilogue, OutRow, PackedWeight, Panels, store};

/// A 16-bit float format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// bfloat16: f32's range with 8 bits of precision.
    Bf16,
    /// IEEE half precision.
    F16,
}

/// A prepacked weight `[inputs, outputs]` of 16-bit floats. Inputs, sums and results are f32: a result is that of an
/// [`F32Matrix`](crate::F32Matrix) of the same weights, bit by bit.
#[derive(Clone)]
pub struct HalfMatrix {
    set: InstructionSet,
    inputs: usize,
    outputs: usize,
    /// Panels as in `F32Matrix`, of which a lane holds two columns: those of the left and of the right vector, or, where
    /// the instruction set converts f16 in order, two neighbours.
    panels: Vec<u32>,
    half: Half,
}

impl HalfMatrix {
    /// Rounds and packs a row-major weight.
    ///
    /// # Shapes
    /// `weight [inputs, outputs]`.
    ///
    /// # Panics
    /// Panics if the weight has another size.
    pub fn new(weight: &[f32], inputs: usize, outputs: usize, half: Half) -> Self {
        Self::for_set(InstructionSet::current(), weight, [inputs, outputs], half)
    }

    fn for_set(set: InstructionSet, weight: &[f32], shape: [usize; 2], half: Half) -> Self {
        let [inputs, outputs] = shape;
        let lanes = set.lanes();
        let bits = |x: f32| {
            u32::from(match half {
                Half::Bf16 => bf16_bits(x),
                Half::F16 => f16_bits(x),
            })
        };
        let mut panels = Vec::with_capacity(outputs.div_ceil(ACROSS * lanes) * inputs * lanes);
        for_panels(weight, shape, ACROSS * lanes, |_, block| {
            for row in block.chunks_exact(ACROSS * lanes) {
                let pair = |lane: usize| match half == Half::F16 && set.widens_f16_in_order() {
                    true => [row[2 * lane], row[2 * lane + 1]],
                    false => [row[lane], row[lanes + lane]],
                };
                panels.extend((0..lanes).map(pair).map(|[low, high]| bits(low) | bits(high) << 16));
            }
        });
        Self { set, inputs, outputs, panels, half }
    }

    /// The format of the weights.
    pub fn half(&self) -> Half {
        self.half
    }

    /// The weight, row-major.
    pub fn unpack(&self) -> Vec<f32> {
        let mut weight = vec![0.0; self.inputs * self.outputs];
        self.set.run(Unpack { matrix: self, weight: &mut weight });
        weight
    }

    /// The panel with this number.
    fn panel(&self, panel: usize) -> &[u32] {
        let size = self.inputs * self.set.lanes();
        &self.panels[panel * size..][..size]
    }
}

impl PackedWeight for HalfMatrix {}

impl Panels for HalfMatrix {
    type Rows = F32Rows;

    fn set(&self) -> InstructionSet {
        self.set
    }

    fn shape(&self) -> [usize; 2] {
        [self.inputs, self.outputs]
    }

    fn pack_rows(&self, input: &[f32]) -> F32Rows {
        F32Rows::pack(self.set, input, self.inputs)
    }

    fn matmul(&self, rows: &F32Rows, panels: Range<usize>, epilogue: Epilogue<'_>, out: &mut [OutRow<'_>]) {
        let matrix = self;
        match self.half {
            Half::Bf16 => self.set.run(Multiply { matrix, rows, panels, epilogue, out, widen: Bf16 }),
            Half::F16 => self.set.run(Multiply { matrix, rows, panels, epilogue, out, widen: F16 }),
        }
    }
}

/// The conversion of a 16-bit float format to f32.
trait Widen: Copy {
    /// The two numbers of each lane, low half first.
    fn widen<S: Kernel>(self, simd: S, pairs: S::u32s) -> [S::f32s; ACROSS];
}

#[derive(Clone, Copy)]
struct Bf16;

impl Widen for Bf16 {
    #[inline(always)]
    fn widen<S: Kernel>(self, simd: S, pairs: S::u32s) -> [S::f32s; ACROSS] {
        simd.widen_bf16(pairs)
    }
}

#[derive(Clone, Copy)]
struct F16;

impl Widen for F16 {
    #[inline(always)]
    fn widen<S: Kernel>(self, simd: S, pairs: S::u32s) -> [S::f32s; ACROSS] {
        simd.widen_f16(pairs)
    }
}

/// `R` rows times the columns of a panel; meanwhile prefetches the next panel.
#[inline(always)]
fn dot<S: Kernel, W: Widen, const R: usize>(
    simd: S,
    widen: W,
    rows: &[f32],
    panel: &[u32],
    next: &[u32],
) -> [[S::f32s; ACROSS]; R] {
    let mut sums = [[simd.splat_f32s(0.0); ACROSS]; R];
    let (panel, next) = (S::as_simd_u32s(panel).0, S::as_simd_u32s(next).0);
    for ((values, &pairs), next) in rows.as_chunks::<R>().0.iter().zip(panel).zip(next) {
        simd.prefetch_one(next);
        let [left, right] = widen.widen(simd, pairs);
        for (sums, &value) in sums.iter_mut().zip(values) {
            let value = simd.splat_f32s(value);
            sums[0] = simd.add_product(value, left, sums[0]);
            sums[1] = simd.add_product(value, right, sums[1]);
        }
    }
    sums
}

struct Multiply<'a, 'o, W> {
    matrix: &'a HalfMatrix,
    rows: &'a F32Rows,
    panels: Range<usize>,
    epilogue: Epilogue<'a>,
    out: &'a mut [OutRow<'o>],
    widen: W,
}

impl<W: Widen> WithKernel for Multiply<'_, '_, W> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, simd: S) {
        let Self { matrix, rows, panels, epilogue, out, widen } = self;
        let inputs = matrix.inputs;
        let width = ACROSS * S::F32_LANES;
        let last = panels.end;
        for (place, panel) in panels.enumerate() {
            let weights = matrix.panel(panel);
            let next = if panel + 1 < last { matrix.panel(panel + 1) } else { weights };
            for tile in tiles(0..rows.rows, tile_rows::<S>()) {
                let values = &rows.values[tile.start * inputs..tile.end * inputs];
                let out = &mut out[tile.clone()];
                with_rows!(tile.len(), tile_rows::<S>(), R => {
                    let sums = dot::<S, W, R>(simd, widen, values, weights, next);
                    for (row, sums) in out.iter_mut().zip(sums) {
                        epilogue.write(simd, sums, place * width, row);
                    }
                });
            }
        }
    }
}

struct Unpack<'a> {
    matrix: &'a HalfMatrix,
    weight: &'a mut [f32],
}

impl WithKernel for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, simd: S) {
        let HalfMatrix { outputs, half, .. } = *self.matrix;
        let width = ACROSS * S::F32_LANES;
        for (place, first) in (0..outputs).step_by(width).enumerate() {
            let columns = (outputs - first).min(width);
            let (panel, _) = S::as_simd_u32s(self.matrix.panel(place));
            for (row, &pairs) in self.weight.chunks_exact_mut(outputs).zip(panel) {
                let numbers = match half {
                    Half::Bf16 => simd.widen_bf16(pairs),
                    Half::F16 => simd.widen_f16(pairs),
                };
                store(simd, numbers, &mut row[first..first + columns]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::f32_matrix::F32Matrix;
    use crate::matmul::{Matmul, matmul};
    use crate::testing::numbers;

    /// Weights of every size that f16 has, subnormals included.
    fn weights(count: usize) -> Vec<f32> {
        let sizes = numbers(count, 9);
        numbers(count, 2).iter().zip(sizes).map(|(x, size)| x * 2f32.powf(12.0 * size - 6.0)).collect()
    }

    #[test]
    fn results_are_those_of_the_f32_matrix_of_the_same_weights_on_every_instruction_set() {
        for set in InstructionSet::available() {
            for half in [Half::Bf16, Half::F16] {
                for (rows, inputs, outputs) in
                    [(1, 1, 1), (1, 5, 3), (7, 64, 48), (12, 9, 40), (13, 33, 50), (20, 300, 70), (70, 40, 100)]
                {
                    let (input, weight) = (numbers(rows * inputs, 1), weights(inputs * outputs));
                    let bias = numbers(outputs, 3);
                    let matrix = HalfMatrix::for_set(set, &weight, [inputs, outputs], half);
                    let rounded = matrix.unpack();
                    // A step is 2^-8 or 2^-11 of a number, or 2^-24 of all where f16 is subnormal.
                    let step = if half == Half::Bf16 { 2f32.powi(-8) } else { 2f32.powi(-11) };
                    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= (b.abs() * step * 1.01).max(2f32.powi(-25));
                    assert!(rounded.iter().zip(&weight).all(close), "{set:?}, {half:?}");
                    let exact = F32Matrix::for_set(set, &rounded, inputs, outputs);
                    let activation = Some(Activation::Relu);
                    let mut outs = [vec![f32::NAN; rows * outputs], vec![f32::NAN; rows * outputs]];
                    let [left, right] = &mut outs;
                    let bias = Some(&bias[..]);
                    matmul(&input, vec![Matmul { bias, activation, ..Matmul::new(&matrix, left) }], 2);
                    matmul(&input, vec![Matmul { bias, activation, ..Matmul::new(&exact, right) }], 2);
                    assert_eq!(outs[0], outs[1], "{set:?}, {half:?}, {rows} x {inputs} x {outputs}");
                }
            }
        }
    }

    #[test]
    fn every_number_of_sixteen_bits_is_widened_exactly_and_infinities_stay() {
        for set in InstructionSet::available() {
            for half in [Half::Bf16, Half::F16] {
                let all: Vec<f32> = (0..=u16::MAX)
                    .map(|bits| match half {
                        Half::Bf16 => f32::from_bits(u32::from(bits) << 16),
                        Half::F16 => {
                            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
                            let magnitude = match exponent {
                                0 => fraction * 2f32.powi(-24),
                                31 => f32::INFINITY,
                                _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
                            };
                            if bits & 0x8000 == 0 { magnitude } else { -magnitude }
                        }
                    })
                    .filter(|x| !x.is_nan())
                    .collect();
                let matrix = HalfMatrix::for_set(set, &all, [1, all.len()], half);
                let unpacked = matrix.unpack();
                assert!(all.iter().zip(&unpacked).all(|(a, b)| a.to_bits() == b.to_bits()), "{set:?}, {half:?}");
            }
        }
    }
}
