//! Disjoint sets of positions; a set is named by its first one.

/// Joins the sets of two positions. At first every position is its own parent.
pub(crate) fn join(parents: &mut [usize], one: usize, other: usize) {
    let (one, other) = (root(parents, one), root(parents, other));
    parents[one.max(other)] = one.min(other);
}

/// The first position of the set.
pub(crate) fn root(parents: &mut [usize], mut at: usize) -> usize {
    while parents[at] != at {
        parents[at] = parents[parents[at]];
        at = parents[at];
    }
    at
}
