//! Duplicates by vectors among the rows that are left.

use std::sync::Arc;

use care_core::ndarray::Array2;
use care_core::{Embeddings, Error, ErrorKind, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::field::TextField;
use super::found::{Duplicate, Found};
use super::options::{Method, VectorOptions};
use super::source::{TextVectors, Vectors};
use super::vectors::GrowingIndex;

/// Texts that are embedded at once.
const GROUP: usize = 4096;

/// Notes all rows whose vector is near to that of a kept one.
pub(super) fn find_by_vectors(
    found: &mut Found,
    field: &TextField,
    options: VectorOptions,
    vectors: Vectors<'_>,
) -> Result<()> {
    for (source, rows) in [(vectors.against, found.against), (vectors.inputs, found.rows.len() - found.against)] {
        if let Some(given) = source.rows().filter(|given| *given != rows) {
            return Err(Error::new(ErrorKind::Dimension, format!("there are {given} vectors for {rows} rows")));
        }
    }
    let (matrix, rows) = embed(found, field, vectors)?;
    let mut index = GrowingIndex::new(Arc::new(matrix), options.threshold)?;
    let mut order = found.order_of(&rows);
    let others = rows.partition_point(|row| (*row as usize) < found.against);
    seeds_first(&mut order[others..], options);
    index.grow(&order, &mut |at, best| {
        let duplicate = best.map(|best| Duplicate {
            of: rows[best.row],
            similarity: best.similarity as f32,
            method: Method::Vectors,
        });
        found.note(rows[at], duplicate)
    });
    Ok(())
}

/// Moves as many as there are seeds, drawn at random, to the front. Within both parts the order stays.
fn seeds_first(order: &mut [u32], options: VectorOptions) {
    let seeds = options.seeds.min(order.len());
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut places: Vec<usize> = (0..order.len()).collect();
    let mut is_seed = vec![false; order.len()];
    for at in 0..seeds {
        places.swap(at, rng.random_range(at..order.len()));
        is_seed[places[at]] = true;
    }
    let of = |seed: bool| order.iter().zip(&is_seed).filter(move |(_, is_seed)| **is_seed == seed).map(|(row, _)| *row);
    let moved: Vec<u32> = of(true).chain(of(false)).collect();
    order.copy_from_slice(&moved);
}

/// The vectors of the rows that are left, and the numbers of these rows.
fn embed(found: &Found, field: &TextField, vectors: Vectors<'_>) -> Result<(Embeddings, Vec<u32>)> {
    let mut all = Matrix::default();
    let (mut group, mut texts) = (Vec::new(), Vec::new());
    found.rows.for_each_text(field, &|row| found.left(row), &mut |row, text| {
        let is_border = group.last().is_some_and(|last| (*last < found.against) != (row < found.against));
        if group.len() == GROUP || is_border {
            all.add(found, vectors, &group, &texts)?;
            group.clear();
            texts.clear();
        }
        group.push(row);
        texts.push(text.text);
        Ok(())
    })?;
    all.add(found, vectors, &group, &texts)?;
    let matrix = Array2::from_shape_vec((all.rows.len(), all.dim), all.values);
    let matrix = matrix.map_err(|e| Error::new(ErrorKind::Dimension, e.to_string()).with_source(e))?;
    Ok((matrix.into(), all.rows))
}

#[derive(Default)]
struct Matrix {
    values: Vec<f32>,
    dim: usize,
    rows: Vec<u32>,
}

impl Matrix {
    /// Adds the vectors of rows that are all of the other files or all of the files.
    fn add(&mut self, found: &Found, vectors: Vectors<'_>, rows: &[usize], texts: &[String]) -> Result<()> {
        let Some(first) = rows.first() else { return Ok(()) };
        let (source, before): (&dyn TextVectors, _) =
            if *first < found.against { (vectors.against, 0) } else { (vectors.inputs, found.against) };
        let numbers: Vec<usize> = rows.iter().map(|row| row - before).collect();
        let embedded = source.vectors(&numbers, texts)?;
        let dim = if self.rows.is_empty() { embedded.dim() } else { self.dim };
        if (embedded.len(), embedded.dim()) != (rows.len(), dim) {
            let (got, of) = (embedded.len(), embedded.dim());
            let message = format!("got {got} vectors of {of} dimensions, expected {} of {dim}", rows.len());
            return Err(Error::new(ErrorKind::Dimension, message));
        }
        for (vector, row) in embedded.as_array().rows().into_iter().zip(rows) {
            if vector.iter().any(|value| !value.is_finite()) {
                let (path, line) = found.rows.place(*row);
                let error = Error::line(path, line as usize, "the vector of this row is not finite");
                return Err(error.with_kind(ErrorKind::NonFinite));
            }
        }
        self.dim = dim;
        self.values.extend(embedded.as_array());
        self.rows.extend(rows.iter().map(|row| *row as u32));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_come_first_and_both_parts_stay_in_order() {
        let shuffled = |seeds, seed| {
            let mut order: Vec<u32> = (0..100).map(|row| 7 * row).collect();
            seeds_first(&mut order, VectorOptions::new(0.9, seeds, seed));
            order
        };
        let order = shuffled(30, 1);
        assert!(order[..30].is_sorted() && order[30..].is_sorted() && !order.is_sorted());
        assert_eq!((shuffled(30, 1), shuffled(0, 1)), (order.clone(), shuffled(1000, 5)));
        assert_ne!(shuffled(30, 2), order);
    }
}
