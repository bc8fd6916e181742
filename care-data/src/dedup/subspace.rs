//! Upper bounds of cosines from a few dimensions, the most telling ones.

use std::ops::Range;

use care_core::ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Vectors from which the subspace is found.
const SAMPLE: usize = 6144;
/// Rounds of orthogonal iteration; more change the order of nearly equal directions only.
const ROUNDS: usize = 4;
/// The most dimensions of a subspace.
const MOST: usize = 256;
/// What an exact cosine costs, per dimension, in multiply-adds of a matmul.
const EXACT: f64 = 16.0;
/// What reading a bound costs, in the same unit.
const READING: f64 = 8.0;

/// A subspace into which vectors of length 1 are projected, so that a matmul of few dimensions bounds their cosines.
///
/// With `p` and `q` the projections of `x` and `y`, and what is left of their lengths, `x·y <= p·q + |x - p| |y - q|` by the
/// inequality of Cauchy and Schwarz. The right side is the dot product of `[p, |x - p|]` and `[q, |y - q|]`.
#[derive(Debug)]
pub(super) struct Subspace {
    /// `[dim, m]`, orthonormal; `None` if no subspace pays, and the vectors are taken as they are.
    basis: Option<Array2<f32>>,
    dim: usize,
    /// What rounding may add to a squared length or to a cosine.
    slack: f32,
}

impl Subspace {
    /// The subspace of unit vectors `sample` that makes it cheapest to find all cosines of `threshold` or more.
    pub(super) fn fit(sample: ArrayView2<'_, f32>, threshold: f64) -> Self {
        let dim = sample.ncols();
        let whole = || Self { basis: None, dim, slack: 4.0 * dim as f32 * f32::EPSILON };
        let third = sample.nrows() / 3;
        if third == 0 || dim < 32 {
            return whole();
        }
        // From other vectors than those that it is tried on, which it would fit too well.
        let basis = principal(rows_of(sample, 0..third), (dim / 2).min(MOST));
        let (mut best, mut least) = (whole(), dim as f64 + READING);
        for m in (16..=basis.ncols()).step_by(16) {
            let narrow = Self { basis: Some(basis.slice_axis(Axis(1), (..m).into()).to_owned()), ..whole() };
            let [left, right] =
                [rows_of(sample, third..2 * third), rows_of(sample, 2 * third..3 * third)].map(|part| {
                    let mut projected = Array2::zeros((part.nrows(), narrow.width()));
                    narrow.project(part, projected.view_mut());
                    projected
                });
            let bounds = left.dot(&right.t());
            let limit = narrow.limit(threshold);
            let passed = bounds.iter().filter(|bound| **bound >= limit).count() as f64 / bounds.len() as f64;
            let cost = m as f64 + 1.0 + READING + passed * EXACT * dim as f64;
            if cost < least {
                (best, least) = (narrow, cost);
            }
        }
        best
    }

    /// Places among `n` vectors that make up a sample.
    pub(super) fn sample(n: usize) -> impl Iterator<Item = usize> {
        // Apart, as neighbours in a file are alike, and so that each third is spread over all of them.
        let step = n.div_ceil(SAMPLE).max(1);
        (0..3).flat_map(move |third| (third * step..n).step_by(3 * step))
    }

    /// Dimensions of a projected vector, the one for what is left included.
    pub(super) fn width(&self) -> usize {
        self.basis.as_ref().map_or(self.dim, |basis| basis.ncols() + 1)
    }

    /// The bound that cosines of `threshold` or more reach.
    pub(super) fn limit(&self, threshold: f64) -> f32 {
        threshold as f32 - self.slack
    }

    /// Projects unit vectors `[n, dim]` into `[n, width]`.
    pub(super) fn project(&self, vectors: ArrayView2<'_, f32>, mut projected: ArrayViewMut2<'_, f32>) {
        let Some(basis) = &self.basis else {
            projected.assign(&vectors);
            return;
        };
        let m = basis.ncols();
        projected.slice_axis_mut(Axis(1), (..m).into()).assign(&vectors.dot(basis));
        for mut row in projected.rows_mut() {
            let length: f32 = row.iter().take(m).map(|value| value * value).sum();
            // Never below what is left in truth.
            row[m] = ((1.0 - length).max(0.0) + self.slack).sqrt();
        }
    }
}

/// Some rows of a matrix.
pub(super) fn rows_of(matrix: ArrayView2<'_, f32>, rows: Range<usize>) -> ArrayView2<'_, f32> {
    let (_, from) = matrix.split_at(Axis(0), rows.start);
    from.split_at(Axis(0), rows.len()).0
}

/// The `m` directions, one per column, in which unit vectors reach farthest, in order.
///
/// # Reference
/// Orthogonal iteration: Golub and Van Loan, *Matrix Computations*, section 8.2.4. Any orthonormal columns give right
/// bounds; these give close ones.
fn principal(sample: ArrayView2<'_, f32>, m: usize) -> Array2<f32> {
    let moments = sample.t().dot(&sample);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut basis = Array2::from_shape_simple_fn((sample.ncols(), m), || rng.random::<f32>() - 0.5);
    orthonormalise(&mut basis);
    for _ in 0..ROUNDS {
        basis = moments.dot(&basis);
        orthonormalise(&mut basis);
    }
    basis
}

/// Makes the columns orthonormal, in f64 and twice over, since once leaves nearly parallel ones askew. A column without a
/// direction of its own becomes zero.
fn orthonormalise(basis: &mut Array2<f32>) {
    let mut columns = basis.t().mapv(f64::from);
    for at in 0..columns.nrows() {
        let (done, mut rest) = columns.view_mut().split_at(Axis(0), at);
        let mut column = rest.row_mut(0);
        let before = column.dot(&column).sqrt();
        for _ in 0..2 {
            let shares = done.dot(&column);
            column -= &done.t().dot(&shares);
        }
        let length = column.dot(&column).sqrt();
        column *= if length > 1e-10 * before && length > 0.0 { 1.0 / length } else { 0.0 };
    }
    *basis = columns.t().mapv(|value| value as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unit vectors, of which the first dimensions reach farther if `decay` is below 1.
    fn vectors(n: usize, dim: usize, decay: f32) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut vectors =
            Array2::from_shape_fn((n, dim), |(_, at)| (rng.random::<f32>() - 0.5) * decay.powi(at as i32));
        for mut row in vectors.rows_mut() {
            let length = row.dot(&row).sqrt();
            row /= length;
        }
        vectors
    }

    #[test]
    fn no_cosine_is_above_its_bound() {
        for (dim, decay, threshold) in [(64, 1.0, 0.9), (64, 0.9, 0.9), (100, 0.5, 0.99), (384, 1.0, 0.95)] {
            let vectors = vectors(300, dim, decay);
            let subspace = Subspace::fit(vectors.view(), threshold);
            assert!(subspace.width() < dim, "{dim} {decay}");
            let mut projected = Array2::zeros((300, subspace.width()));
            subspace.project(vectors.view(), projected.view_mut());
            let (bounds, cosines) = (projected.dot(&projected.t()), vectors.dot(&vectors.t()));
            for (bound, cosine) in bounds.iter().zip(&cosines) {
                assert!(*bound >= cosine - subspace.slack, "{bound} {cosine}");
            }
        }
    }

    #[test]
    fn where_no_subspace_pays_the_vectors_stay() {
        let vectors = vectors(300, 64, 1.0);
        assert_eq!(Subspace::fit(vectors.view(), 0.1).width(), 64);
        assert_eq!(Subspace::fit(rows_of(vectors.view(), 0..1), 0.9).width(), 64);
    }

    #[test]
    fn columns_without_a_direction_are_zero_and_the_others_orthonormal() {
        let mut basis = Array2::from_shape_fn((40, 4), |(row, column)| match column {
            2 => 0.0,
            3 => (row + 1) as f32,
            _ => (row * (column + 1)) as f32 + 1.0,
        });
        orthonormalise(&mut basis);
        let gram = basis.t().dot(&basis);
        for (row, column) in (0..4).flat_map(|row| (0..4).map(move |column| (row, column))) {
            let expected = if row == column && row < 2 { 1.0 } else { 0.0 };
            assert!((gram[[row, column]] - expected).abs() < 1e-5, "{gram}");
        }
    }
}
