//! Exact duplicates: rows with equal forms.

use rayon::prelude::*;

use super::found::{Duplicate, Found};
use super::options::Method;

/// Notes all rows whose key is that of a row before them.
pub(super) fn find_exact(found: &mut Found) {
    let keys = &found.rows.keys;
    let mut order = found.order();
    // Stable: equal ones stay in the order in which they are considered.
    order.par_sort_by_key(|row| keys[*row as usize]);
    for equal in order.chunk_by(|left, right| keys[*left as usize] == keys[*right as usize]) {
        let (of, others) = (equal[0], &equal[1..]);
        if keys[of as usize] != 0 {
            let duplicate = Duplicate { of, similarity: 1.0, method: Method::Exact };
            others.iter().for_each(|row| found.duplicates[*row as usize] = Some(duplicate));
        }
    }
}
