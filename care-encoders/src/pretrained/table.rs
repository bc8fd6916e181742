//! The names of a network's weights in a checkpoint.

use care_core::layers::ParameterPath;

/// Where an architecture's weights stand in its checkpoints.
#[derive(Debug)]
pub(crate) struct WeightTable {
    /// What published checkpoints may put before every name.
    pub(crate) prefixes: &'static [&'static str],
    /// Our module path and the checkpoint's, `*` standing for a layer's number in both. A module with several
    /// rows is written under the name of the first.
    pub(crate) rows: &'static [(&'static str, &'static str)],
    /// Modules that may stand together in one tensor, where `rows` is not found.
    pub(crate) packed: &'static [Packed],
    /// Beginnings of names that belong to heads a text encoder does not use; after a `*`, endings.
    pub(crate) ignored: &'static [&'static str],
}

/// A module whose rows are one of `of` equal parts of a tensor.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) module: &'static str,
    pub(crate) tensor: &'static str,
    pub(crate) part: usize,
    pub(crate) of: usize,
}

/// A head's weights, as sentence-transformers' `Dense` names them.
pub(crate) const PROJECTION: WeightTable =
    WeightTable { prefixes: &[], rows: &[("linear", "linear")], packed: &[], ignored: &[] };

/// A place that a parameter may have in a checkpoint: a tensor, or one of equal parts of its rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) tensor: String,
    pub(crate) part: (usize, usize),
}

impl WeightTable {
    /// Where the parameter at `path` (module path, then `weight` or `bias`) may stand, likeliest first.
    pub(crate) fn places(&self, path: &ParameterPath) -> Vec<Place> {
        let names: Vec<&str> = path.names().collect();
        let Some((leaf, module)) = names.split_last() else { return Vec::new() };
        let place = |pattern: &str, tensor: &str, part| {
            let number = matches(pattern, module)?;
            Some(Place { tensor: format!("{}.{leaf}", tensor.replace('*', number)), part })
        };
        let rows = self.rows.iter().filter_map(|(ours, theirs)| place(ours, theirs, (0, 1)));
        let packed = self.packed.iter().filter_map(|row| place(row.module, row.tensor, (row.part, row.of)));
        rows.chain(packed).collect()
    }

    /// The checkpoint's name of a module, such as `layers.0.self_attn.q_proj` for `layers.0.attention.query`.
    pub(crate) fn module(&self, path: &str) -> Option<String> {
        let parts: Vec<&str> = path.split('.').collect();
        self.rows.iter().find_map(|(ours, theirs)| matches(ours, &parts).map(|number| theirs.replace('*', number)))
    }

    /// A tensor's name without the prefix that its checkpoint may have, and with the names that norms have
    /// today.
    pub(crate) fn bare(&self, name: &str) -> String {
        let bare = self.prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        // Checkpoints that were converted from TensorFlow call a norm's parameters so.
        match bare.rsplit_once('.') {
            Some((norm, "gamma")) => format!("{norm}.weight"),
            Some((norm, "beta")) => format!("{norm}.bias"),
            _ => bare.to_owned(),
        }
    }

    /// Whether a tensor belongs to a head that is not needed.
    pub(crate) fn ignores(&self, name: &str) -> bool {
        self.ignored.iter().any(|pattern| match pattern.strip_prefix('*') {
            Some(end) => name.ends_with(end),
            None => name.starts_with(pattern),
        })
    }
}

/// Whether a module path fits a pattern; the layer's number if it does.
fn matches<'a>(pattern: &str, path: &[&'a str]) -> Option<&'a str> {
    let mut number = "";
    let mut parts = path.iter();
    for wanted in pattern.split('.') {
        let part = *parts.next()?;
        if wanted == "*" {
            number = part;
        } else if wanted != part {
            return None;
        }
    }
    parts.next().is_none().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(table: &WeightTable, text: &str) -> Vec<(String, (usize, usize))> {
        let mut path = ParameterPath::default();
        path.enter("Bert", "Enum:AnyEncoder");
        text.split('.').for_each(|part| path.enter(part, "Struct:Some"));
        table.places(&path).into_iter().map(|place| (place.tensor, place.part)).collect()
    }

    #[test]
    fn a_path_takes_its_layers_number_along() {
        let query = places(&crate::bert::BERT, "layers.11.attention.query.weight");
        assert_eq!(query, [("encoder.layer.11.attention.self.query.weight".to_owned(), (0, 1))]);
        let norm = places(&crate::bert::BERT, "embeddings.norm.bias");
        assert_eq!(norm, [("embeddings.LayerNorm.bias".to_owned(), (0, 1))]);
        assert!(places(&crate::bert::BERT, "layers.0.attention.weight").is_empty());
    }

    #[test]
    fn a_module_may_be_a_part_of_a_tensor() {
        let key = places(&crate::gte::WEIGHTS, "layers.3.attention.key.bias");
        let [alone, packed] = ["k_proj", "qkv_proj"].map(|name| format!("encoder.layer.3.attention.{name}.bias"));
        let written = "layers.3.self_attn.k_proj.bias".to_owned();
        assert_eq!(key, [(written, (0, 1)), (alone, (0, 1)), (packed, (1, 3))]);
    }

    #[test]
    fn old_names_of_norms_and_unneeded_heads_are_known() {
        assert_eq!(crate::bert::BERT.bare("bert.embeddings.LayerNorm.gamma"), "embeddings.LayerNorm.weight");
        assert!(crate::decoder::WEIGHTS.ignores("layers.0.self_attn.rotary_emb.inv_freq"));
        assert!(!crate::decoder::WEIGHTS.ignores("layers.0.self_attn.q_proj.weight"));
    }
}
