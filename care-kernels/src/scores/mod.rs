//! Scores of many rows against queries, for vector search: rows lie as they are stored, and nothing is packed.
//!
//! Each score is summed in an order that depends on the dimensions and the instruction set alone, so it is the same for a query
//! alone and among others. The functions run on the calling thread.

#![allow(clippy::needless_range_loop, reason = "a tile is indexed by query and row")]

mod bits;
mod bytes;
mod floats;

pub use bits::differing_bits;
pub use bytes::byte_products;
pub use floats::dot_products;

/// The number of rows of `size` values, after the sizes have been checked.
fn check(queries: usize, rows: usize, scores: usize, [query_size, row_size]: [usize; 2]) -> usize {
    assert!(query_size > 0 && queries.is_multiple_of(query_size), "{queries} values are no queries of {query_size}");
    assert!(row_size > 0 && rows.is_multiple_of(row_size), "{rows} values are no rows of {row_size}");
    let (queries, rows) = (queries / query_size, rows / row_size);
    assert_eq!(scores, queries * rows, "`scores` must be [{queries}, {rows}]");
    rows
}
