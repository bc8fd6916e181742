//! Access to the parts of a network that training changes: layers, linear weights, dropout, token table.

use super::embedding::Embedding;
use super::linear::Linear;

/// A network of identical layers over a token embedding table.
pub(crate) trait Parts: Clone {
    /// Every linear layer of the blocks with its module path, e.g. `layers.0.attention.query`.
    fn linears(&mut self) -> Vec<(String, &mut Linear)>;

    /// Keeps the layers with these indices, in this order.
    fn keep_layers(&mut self, keep: &[usize]);

    /// The dropout probability of hidden states; `None` if the architecture has no dropout.
    fn dropout(&self) -> Option<f64>;

    /// Sets the dropout probability of hidden states, `None` for that of the configuration. No effect if the
    /// architecture has no dropout.
    fn set_dropout(&mut self, probability: Option<f64>);

    /// The token embedding table.
    fn token_table(&mut self) -> &mut Embedding;

    /// The fields of the configuration with the number of tokens and the padding token.
    fn vocabulary(&mut self) -> (&mut usize, &mut Option<u32>);
}

/// The linear layers of a stack of blocks; `of_one` lists those of one block.
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

/// Keeps some layers of a stack and updates their count.
pub(crate) fn pick_layers<L: Clone>(layers: &mut Vec<L>, count: &mut usize, keep: &[usize]) {
    *layers = keep.iter().map(|&index| layers[index].clone()).collect();
    *count = layers.len();
}
