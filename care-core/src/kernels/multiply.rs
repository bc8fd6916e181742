//! Products of one input with one or several weights, divided among threads.

use std::ops::Range;

use rayon::prelude::*;

use crate::layers::Activation;

/// A weight that is laid out for a kernel.
pub trait PackedWeight: Sync {
    /// Rows of an input as the kernel reads them.
    type Rows: Sync;

    /// Width of an input row.
    fn inputs(&self) -> usize;

    /// Width of an output row.
    fn outputs(&self) -> usize;

    /// Columns that are computed together.
    fn panel_width(&self) -> usize;

    /// Lays out rows of an input, `[rows, inputs]`.
    fn pack(&self, input: &[f32]) -> Self::Rows;

    /// The columns of these panels for all rows; `out` has these columns alone.
    fn multiply(&self, rows: &Self::Rows, panels: Range<usize>, epilogue: Epilogue<'_>, out: &mut [&mut [f32]]);
}

/// What is done to a product before it leaves the processor's caches.
#[derive(Clone, Copy)]
pub struct Epilogue<'a> {
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
}

impl<'a> Epilogue<'a> {
    /// That of the columns from `first` on.
    fn from(self, first: usize) -> Self {
        Self { bias: self.bias.map(|bias| &bias[first..]), ..self }
    }

    /// Finishes columns from `first` on.
    #[inline(always)]
    pub(super) fn finish(&self, first: usize, values: &mut [f32]) {
        if let Some(bias) = self.bias {
            let bias = &bias[first..first + values.len()];
            for (value, bias) in values.iter_mut().zip(bias) {
                *value += bias;
            }
        }
        if let Some(activation) = self.activation {
            super::math::apply(activation, values);
        }
    }
}

/// Hands on the columns of a panel, or those of them that a row has. A whole panel is of a size that the compiler knows,
/// so loops over it are unrolled.
#[inline(always)]
pub(super) fn panel_of(row: &mut [f32], first: usize, width: usize, work: impl Fn(&mut [f32])) {
    let columns = &mut row[first..];
    match columns.len() >= width {
        true => work(&mut columns[..width]),
        false => work(columns),
    }
}

/// `activation(input weight + bias)` and where it goes.
pub struct Product<'a, W> {
    /// The weight, of the input's width.
    pub weight: &'a W,
    /// One number a column.
    pub bias: Option<&'a [f32]>,
    /// Applied to every number at last.
    pub activation: Option<Activation>,
    /// `[rows, outputs]`, overwritten.
    pub out: &'a mut [f32],
}

/// From this many rows on, threads divide the rows among them; with fewer, the columns.
const MANY_ROWS: usize = 64;

/// Rows that one piece of work takes at most, so that they stay in a core's cache.
const ROWS_AT_ONCE: usize = 48;

/// Multiplications that are not worth waking a thread for.
const FEW: usize = 1 << 17;

/// Products of one input with several weights of the same kind.
///
/// # Shapes
/// `input [rows, inputs]`.
///
/// # Panics
/// When a size does not fit.
pub fn multiply<W: PackedWeight>(input: &[f32], products: Vec<Product<'_, W>>) {
    let Some(first) = products.first().map(|product| product.weight) else { return };
    let inputs = first.inputs();
    let rows = input.len() / inputs;
    for product in &products {
        assert_eq!(product.weight.inputs() * rows, input.len(), "an input of the weight's width");
        assert_eq!(product.weight.outputs() * rows, product.out.len(), "an output of the weight's width");
        assert!(product.bias.is_none_or(|bias| bias.len() == product.weight.outputs()), "a bias of the weight's width");
    }
    let outputs: usize = products.iter().map(|product| product.weight.outputs()).sum();
    let threads = if input.len() * outputs < FEW { 1 } else { rayon::current_num_threads() };
    if threads > 1 && rows >= MANY_ROWS {
        by_rows(input, inputs, products, rows.div_ceil(2 * threads).clamp(MANY_ROWS / 4, ROWS_AT_ONCE));
    } else if threads > 1 {
        let packed = first.pack(input);
        by_columns(products, threads).into_par_iter().with_max_len(1).for_each(|piece| piece.compute(&packed));
    } else {
        by_rows(input, inputs, products, rows.max(1));
    }
}

/// Some rows of every product are one piece of work.
fn by_rows<W: PackedWeight>(input: &[f32], inputs: usize, products: Vec<Product<'_, W>>, rows_at_once: usize) {
    let blocks = input.chunks(rows_at_once * inputs);
    let mut pieces: Vec<(&[f32], Vec<Piece<'_, W>>)> = blocks.map(|block| (block, Vec::new())).collect();
    for Product { weight, bias, activation, out } in products {
        let (outputs, epilogue) = (weight.outputs(), Epilogue { bias, activation });
        for ((_, pieces), out) in pieces.iter_mut().zip(out.chunks_mut(rows_at_once * outputs)) {
            let panels = 0..outputs.div_ceil(weight.panel_width());
            pieces.push(Piece { weight, panels, epilogue, out: out.chunks_exact_mut(outputs).collect() });
        }
    }
    let compute = |(block, pieces): (&[f32], Vec<Piece<'_, W>>)| {
        let Some(packed) = pieces.first().map(|piece| piece.weight.pack(block)) else { return };
        pieces.into_iter().for_each(|piece| piece.compute(&packed));
    };
    match pieces.len() {
        1 => pieces.into_iter().for_each(compute),
        _ => pieces.into_par_iter().with_max_len(1).for_each(compute),
    }
}

/// Some columns of one product are one piece of work: as many for each product as there are threads.
fn by_columns<'a, W: PackedWeight>(products: Vec<Product<'a, W>>, threads: usize) -> Vec<Piece<'a, W>> {
    let mut pieces = Vec::new();
    for Product { weight, bias, activation, out } in products {
        let (outputs, width) = (weight.outputs(), weight.panel_width());
        let panels = outputs.div_ceil(width);
        let each = panels.div_ceil(threads);
        let start = pieces.len();
        for first in (0..panels).step_by(each) {
            let epilogue = Epilogue { bias, activation }.from(first * width);
            pieces.push(Piece { weight, panels: first..panels.min(first + each), epilogue, out: Vec::new() });
        }
        for row in out.chunks_exact_mut(outputs) {
            for (piece, part) in pieces[start..].iter_mut().zip(row.chunks_mut(each * width)) {
                piece.out.push(part);
            }
        }
    }
    pieces
}

/// Some columns of some rows of a product.
struct Piece<'a, W> {
    weight: &'a W,
    panels: Range<usize>,
    epilogue: Epilogue<'a>,
    out: Vec<&'a mut [f32]>,
}

impl<W: PackedWeight> Piece<'_, W> {
    fn compute(mut self, rows: &W::Rows) {
        self.weight.multiply(rows, self.panels, self.epilogue, &mut self.out);
    }
}
