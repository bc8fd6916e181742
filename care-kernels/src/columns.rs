//! Panels of columns of a weight that is being packed.

/// Calls `pack` with each panel of `width` columns of a row-major weight, `[inputs, width]`, the last zero-padded.
///
/// # Panics
/// Panics if the weight does not have this shape.
pub(crate) fn for_panels(
    weight: &[f32],
    [inputs, outputs]: [usize; 2],
    width: usize,
    mut pack: impl FnMut(usize, &[f32]),
) {
    assert_eq!(weight.len(), inputs * outputs, "`weight` must be [{inputs}, {outputs}]");
    let mut block = vec![0.0; inputs * width];
    for (panel, first) in (0..outputs).step_by(width).enumerate() {
        let columns = first..outputs.min(first + width);
        if columns.len() < width {
            block.fill(0.0);
        }
        for (row, into) in weight.chunks_exact(outputs).zip(block.chunks_exact_mut(width)) {
            into[..columns.len()].copy_from_slice(&row[columns.clone()]);
        }
        pack(panel, &block);
    }
}
