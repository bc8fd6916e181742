//! Embeddings on the host: an f32 matrix with one row per text.

use ndarray::{Array2, ArrayView1, Axis};

use crate::error::{Error, ErrorKind, Result};

/// A matrix `[n, dim]` of f32, one row per text.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings(Array2<f32>);

impl Embeddings {
    /// `n` rows of zeros.
    pub fn zeros(n: usize, dim: usize) -> Self {
        Self(Array2::zeros((n, dim)))
    }

    /// A matrix from rows of `dim` numbers each.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] if a row has another size.
    pub fn from_rows<R: AsRef<[f32]>>(dim: usize, rows: impl IntoIterator<Item = R>) -> Result<Self> {
        let (mut values, mut n) = (Vec::new(), 0);
        for row in rows {
            let row = row.as_ref();
            if row.len() != dim {
                let message = format!("row {n} has {} dimensions, expected {dim}", row.len());
                return Err(Error::new(ErrorKind::Dimension, message));
            }
            values.extend_from_slice(row);
            n += 1;
        }
        let shaped = Array2::from_shape_vec((n, dim), values);
        shaped.map(Self).map_err(|e| Error::new(ErrorKind::Dimension, e.to_string()).with_source(e))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.0.nrows()
    }

    /// Whether the matrix has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dimensions of a row.
    pub fn dim(&self) -> usize {
        self.0.ncols()
    }

    /// One row.
    ///
    /// # Panics
    /// Panics if `index >= len`.
    pub fn row(&self, index: usize) -> ArrayView1<'_, f32> {
        self.0.row(index)
    }

    /// The first row with a value that is not finite, if there is one.
    pub fn first_not_finite(&self) -> Option<usize> {
        self.0.rows().into_iter().position(|row| row.iter().any(|value| !value.is_finite()))
    }

    /// Overwrites one row.
    ///
    /// # Panics
    /// Panics if `index >= len` or `vector` has another size.
    pub fn set(&mut self, index: usize, vector: &[f32]) {
        self.0.row_mut(index).assign(&ArrayView1::from(vector));
    }

    /// Appends the rows of another matrix.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] if the dimensions differ.
    pub fn append(&mut self, other: &Embeddings) -> Result<()> {
        self.0.append(Axis(0), other.0.view()).map_err(|_| {
            Error::new(
                ErrorKind::Dimension,
                format!("cannot append rows of {} dimensions to rows of {}", other.dim(), self.dim()),
            )
        })
    }

    /// The dot product of row `index` with row `other_index` of another matrix.
    ///
    /// # Panics
    /// Panics if an index is out of bounds or the dimensions differ.
    pub fn dot(&self, index: usize, other: &Embeddings, other_index: usize) -> f32 {
        self.row(index).dot(&other.row(other_index))
    }

    /// The cosine of row `index` and row `other_index` of another matrix, in f64; 0 if a row is zero.
    ///
    /// # Panics
    /// Panics if an index is out of bounds or the dimensions differ.
    pub fn cosine(&self, index: usize, other: &Embeddings, other_index: usize) -> f64 {
        let (mut dot, mut left, mut right) = (0.0, 0.0, 0.0);
        for (&a, &b) in self.row(index).iter().zip(other.row(other_index)) {
            let (a, b) = (f64::from(a), f64::from(b));
            dot += a * b;
            left += a * a;
            right += b * b;
        }
        if left == 0.0 || right == 0.0 { 0.0 } else { dot / (left.sqrt() * right.sqrt()) }
    }

    /// The values in row-major order.
    pub(crate) fn into_values(self) -> Vec<f32> {
        if !self.0.is_standard_layout() {
            return self.0.iter().copied().collect();
        }
        let len = self.0.len();
        let (mut values, start) = self.0.into_raw_vec_and_offset();
        let start = start.unwrap_or(0);
        values.truncate(start + len);
        values.drain(..start);
        values
    }

    /// The matrix as an ndarray.
    pub fn as_array(&self) -> &Array2<f32> {
        &self.0
    }
}

impl From<Array2<f32>> for Embeddings {
    fn from(array: Array2<f32>) -> Self {
        Self(array)
    }
}

/// The matrix itself, without a copy.
impl From<Embeddings> for Array2<f32> {
    fn from(embeddings: Embeddings) -> Self {
        embeddings.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_that_is_not_finite_is_found() {
        let rows = |values: [[f32; 2]; 3]| Embeddings::from_rows(2, values).expect("of one size");
        assert_eq!(rows([[1.0, -0.0], [f32::MAX, 2.0], [0.0; 2]]).first_not_finite(), None);
        assert_eq!(rows([[1.0, 2.0], [3.0, f32::NAN], [f32::INFINITY, 0.0]]).first_not_finite(), Some(1));
        assert_eq!(rows([[1.0, f32::NEG_INFINITY], [0.0; 2], [0.0; 2]]).first_not_finite(), Some(0));
        assert_eq!(Embeddings::zeros(0, 2).first_not_finite(), None);
    }
}
