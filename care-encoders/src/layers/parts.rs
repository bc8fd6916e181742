//! The parts of a network that training takes apart: its layers, their linear weights, its token table.

use super::embedding::Embedding;
use super::linear::Linear;

/// A network of equal layers over a table of token vectors.
pub(crate) trait Parts: Clone {
    /// Every linear layer of the blocks with its module path, such as `layers.0.attention.query`.
    fn linears(&mut self) -> Vec<(String, &mut Linear)>;

    /// Keeps the layers of these indices, in this order.
    fn keep_layers(&mut self, keep: &[usize]);

    /// The probability of dropping a hidden component; `None` if the network has no dropout of its own.
    fn dropout(&self) -> Option<f64>;

    /// Sets the probability of dropping a hidden component, to that of the configuration if none is given, where the
    /// network has dropout.
    fn set_dropout(&mut self, probability: Option<f64>);

    /// The vector of every token id.
    fn token_table(&mut self) -> &mut Embedding;
}

/// The linear layers of a stack of blocks, of which `of_one` lists one.
pub(crate) fn layer_linears<'a, L, I>(
    layers: &'a mut [L],
    of_one: impl Fn(&'a mut L) -> I,
) -> Vec<(String, &'a mut Linear)>
where
    I: Iterator<Item = (&'static str, &'a mut Linear)>,
{
    let numbered = layers.iter_mut().enumerate();
    numbered
        .flat_map(|(n, layer)| of_one(layer).map(move |(name, linear)| (format!("layers.{n}.{name}"), linear)))
        .collect()
}

/// Keeps some layers of a stack and notes how many there are.
pub(crate) fn pick_layers<L: Clone>(layers: &mut Vec<L>, count: &mut usize, keep: &[usize]) {
    *layers = keep.iter().map(|&index| layers[index].clone()).collect();
    *count = layers.len();
}
