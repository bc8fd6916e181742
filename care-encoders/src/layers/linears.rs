//! The linear layers of a network, by their place in it.

use care_core::layers::Linear;

/// A network whose linear layers can be changed one by one.
pub(crate) trait LinearLayers {
    /// Every linear layer of the blocks with its module path, such as `layers.0.attention.query`.
    fn linears(&mut self) -> Vec<(String, &mut Linear)>;
}

/// Those of a stack of blocks, of which `of_one` lists one.
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
