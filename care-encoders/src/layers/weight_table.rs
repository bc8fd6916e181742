//! The names of a network's weights in a checkpoint.

use super::parameter::ParameterPath;

/// Where an architecture's weights stand in its checkpoints.
#[derive(Debug)]
pub(crate) struct WeightTable {
    /// What published checkpoints may put before every name.
    pub(crate) prefixes: &'static [&'static str],
    /// Our module path and the checkpoint's, `*` standing for a layer's number in both. A module with several
    /// rows is written under the name of the first.
    pub(crate) rows: &'static [(&'static str, &'static str)],
    /// Modules that may stand together in one tensor, where `rows` is not found.
    pub(crate) fused: &'static [Fused],
    /// Beginnings of names that belong to heads a text encoder does not use; after a `*`, endings.
    pub(crate) ignored: &'static [&'static str],
}

/// A module whose rows are one of `of` equal parts of a tensor.
#[derive(Debug)]
pub(crate) struct Fused {
    pub(crate) module: &'static str,
    pub(crate) tensor: &'static str,
    pub(crate) part: usize,
    pub(crate) of: usize,
}

/// A head's weights, as sentence-transformers' `Dense` names them.
pub(crate) const PROJECTION: WeightTable =
    WeightTable { prefixes: &[], rows: &[("linear", "linear")], fused: &[], ignored: &[] };

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
        let fused = self.fused.iter().filter_map(|row| place(row.module, row.tensor, (row.part, row.of)));
        rows.chain(fused).collect()
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
