//! AdamW over a table of which only some rows have a gradient.

use rayon::prelude::*;

use crate::adamw::{AdamW, adamw};

/// Rows per piece of work.
const PIECE: usize = 1024;

/// [`adamw`] where the gradient is zero but for some rows of a table: all rows decay and move by their moments.
///
/// # Shapes
/// `weight` and both moments `[table rows, width]`, `gradient [rows, width]`, with `rows` ascending and without
/// duplicates.
///
/// # Panics
/// Panics if the sizes do not match or a row is not in the table.
pub fn adamw_rows(
    weight: &mut [f32],
    rows: &[u32],
    gradient: &[f32],
    moment_1: &mut [f32],
    moment_2: &mut [f32],
    settings: &AdamW,
    threads: usize,
) {
    assert!(!rows.is_empty() && gradient.len().is_multiple_of(rows.len()), "`gradient` must be [rows, width]");
    let width = gradient.len() / rows.len();
    assert!(rows.is_sorted_by(|a, b| a < b), "`rows` must be ascending");
    assert!(rows.last().is_none_or(|&last| (last as usize + 1) * width <= weight.len()), "a row is not in the table");
    assert!(weight.len() == moment_1.len() && weight.len() == moment_2.len(), "moments must have the weight's size");
    let still = vec![0.0; PIECE * width];
    let size = PIECE * width;
    let parts = weight.chunks_mut(size).zip(moment_1.chunks_mut(size)).zip(moment_2.chunks_mut(size));
    let parts: Vec<_> = parts.map(|((weight, first), second)| [weight, first, second]).enumerate().collect();
    let update = |(number, [weight, first, second]): (usize, [&mut [f32]; 3])| {
        let (start, end) = (number * PIECE, number * PIECE + weight.len() / width);
        let mut update = |from: usize, gradient: &[f32]| {
            let range = (from - start) * width..(from - start) * width + gradient.len();
            let (weight, first, second) = (&mut weight[range.clone()], &mut first[range.clone()], &mut second[range]);
            adamw(weight, gradient, first, second, settings, 1);
        };
        let mut at = start;
        let place = |row: usize| rows.partition_point(|&known| (known as usize) < row);
        for place in place(start)..place(end) {
            let row = rows[place] as usize;
            update(at, &still[..(row - at) * width]);
            update(row, &gradient[place * width..][..width]);
            at = row + 1;
        }
        update(at, &still[..(end - at) * width]);
    };
    match threads {
        1 => parts.into_iter().for_each(update),
        _ => parts.into_par_iter().for_each(update),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn rows_without_a_gradient_move_as_with_one_of_zero() {
        let (table, width) = (2500, 3);
        let settings = AdamW {
            learning_rate: 0.01,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.1,
            step: 3,
            scale: 0.5,
        };
        for rows in [vec![0], vec![2499], vec![1023, 1024, 1025], vec![3, 900, 2000, 2047, 2048]] {
            let values = numbers(rows.len() * width, 1);
            let mut whole = vec![0.0; table * width];
            for (row, values) in rows.iter().zip(values.chunks_exact(width)) {
                whole[*row as usize * width..][..width].copy_from_slice(values);
            }
            let start = || {
                let squares = numbers(table * width, 4).into_iter().map(|x| x * x).collect::<Vec<_>>();
                (numbers(table * width, 2), numbers(table * width, 3), squares)
            };
            let (mut weight, mut first, mut second) = start();
            adamw(&mut weight, &whole, &mut first, &mut second, &settings, 1);
            for threads in [1, 3] {
                let (mut ours, mut our_first, mut our_second) = start();
                adamw_rows(&mut ours, &rows, &values, &mut our_first, &mut our_second, &settings, threads);
                assert_eq!(ours, weight);
                assert_eq!((&our_first, &our_second), (&first, &second));
            }
        }
    }
}
