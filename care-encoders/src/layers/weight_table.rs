//! Maps a network's parameters to tensor names in checkpoints.

use super::parameter::ParameterPath;

/// The names of an architecture's weights in its checkpoints.
#[derive(Debug)]
pub(crate) struct WeightTable {
    /// Prefixes that published checkpoints may add to every name.
    pub(crate) prefixes: &'static [&'static str],
    /// Module paths and their names in checkpoints; `*` stands for the layer's number in both. A module with several
    /// rows is written under the name of the first.
    pub(crate) rows: &'static [(&'static str, &'static str)],
    /// Modules that may be fused into one tensor, looked up if no row matches.
    pub(crate) fused: &'static [Fused],
    /// Prefixes of the names of unused tensors, e.g. language-model heads; with a leading `*`, suffixes.
    pub(crate) ignored: &'static [&'static str],
}

/// A module whose weight is one of `of` equal parts of a tensor's rows.
#[derive(Debug)]
pub(crate) struct Fused {
    pub(crate) module: &'static str,
    pub(crate) tensor: &'static str,
    pub(crate) part: usize,
    pub(crate) of: usize,
}

/// The names of a projection's weights in sentence-transformers' `Dense`.
pub(crate) const PROJECTION: WeightTable =
    WeightTable { prefixes: &[], rows: &[("linear", "linear")], fused: &[], ignored: &[] };

/// Where a parameter may be in a checkpoint: in a tensor, or in one of equal parts of its rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) tensor: String,
    pub(crate) part: (usize, usize),
}

impl WeightTable {
    /// Where the parameter at `path` (module path, then `weight` or `bias`) may be, in order of preference.
    pub(crate) fn places(&self, path: &ParameterPath) -> Vec<Place> {
        let names: Vec<&str> = path.names().collect();
        let Some((leaf, module)) = names.split_last() else { return Vec::new() };
        let mut places = self.places_of(module);
        places.iter_mut().for_each(|place| place.tensor += &format!(".{leaf}"));
        places
    }

    /// Where a module may be, in order of preference: places whose tensors are named without the parameter.
    pub(crate) fn module_places(&self, path: &str) -> Vec<Place> {
        self.places_of(&path.split('.').collect::<Vec<_>>())
    }

    fn places_of(&self, module: &[&str]) -> Vec<Place> {
        let place = |pattern: &str, tensor: &str, part| {
            let number = matches(pattern, module)?;
            Some(Place { tensor: tensor.replace('*', number), part })
        };
        let rows = self.rows.iter().filter_map(|(ours, theirs)| place(ours, theirs, (0, 1)));
        let fused = self.fused.iter().filter_map(|row| place(row.module, row.tensor, (row.part, row.of)));
        rows.chain(fused).collect()
    }

    /// The checkpoint's name of a module, e.g. `layers.0.self_attn.q_proj` for `layers.0.attention.query`.
    pub(crate) fn module(&self, path: &str) -> Option<String> {
        let parts: Vec<&str> = path.split('.').collect();
        self.rows.iter().find_map(|(ours, theirs)| matches(ours, &parts).map(|number| theirs.replace('*', number)))
    }

    /// A tensor's name without the checkpoint's prefix, and with current names for the parameters of norms.
    pub(crate) fn bare(&self, name: &str) -> String {
        let bare = self.prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        // Checkpoints converted from TensorFlow use these names.
        match bare.rsplit_once('.') {
            Some((norm, "gamma")) => format!("{norm}.weight"),
            Some((norm, "beta")) => format!("{norm}.bias"),
            _ => bare.to_owned(),
        }
    }

    /// Whether a tensor is not used by a text encoder.
    pub(crate) fn ignores(&self, name: &str) -> bool {
        self.ignored.iter().any(|pattern| match pattern.strip_prefix('*') {
            Some(end) => name.ends_with(end),
            None => name.starts_with(pattern),
        })
    }
}

/// Matches a module path against a pattern and returns the layer's number, empty if the pattern has none.
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
