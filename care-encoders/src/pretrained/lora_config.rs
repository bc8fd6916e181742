//! Settings of LoRA adapters that are trained here.

use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The target that means every linear layer.
pub(crate) const ALL_LINEAR: &str = "all-linear";
/// The highest rank: above, an adapter is larger than the layers of any published encoder.
pub(crate) const MOST_RANK: usize = 4096;

/// Settings of a LoRA adapter: its size and the linear layers it applies to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LoraConfig {
    /// Rank, `1..=4096`. Default 32.
    pub rank: usize,
    /// The adapter's output is scaled by `alpha / rank`, with `rs_lora` by `alpha / sqrt(rank)`; > 0. Default 64.
    pub alpha: f64,
    /// Dropout probability of the adapter's inputs in training, `[0, 1)`. Default 0.1.
    pub dropout: f64,
    /// Target modules, by their names in the checkpoint or the last parts of these, e.g. `q_proj`; `all-linear` means
    /// every linear layer. Default `all-linear`.
    pub target_modules: Vec<String>,
    /// Whether the scale is rank-stabilised. Default false.
    pub rs_lora: bool,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self::reference()
    }
}

impl LoraConfig {
    /// These settings after a change.
    ///
    /// ```
    /// use care_encoders::lora::LoraConfig;
    ///
    /// let lora = LoraConfig::reference().with(|lora| lora.rank = 8);
    /// assert_eq!(lora.rank, 8);
    /// ```
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The paper's document tower: rank 32, alpha 64, dropout 0.1 on every linear layer.
    pub fn reference() -> Self {
        Self { rank: 32, alpha: 64.0, dropout: 0.1, target_modules: vec![ALL_LINEAR.into()], rs_lora: false }
    }

    /// Factor by which the adapter's output is multiplied.
    ///
    /// # Reference
    /// Hu et al. 2021, arXiv 2106.09685; rank-stabilised: Kalajdzievski 2023, arXiv 2312.03732.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rs_lora { rank.sqrt() } else { rank }
    }

    /// Checks that every field is in its range.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](care_core::ErrorKind::Config) if a field is out of range.
    pub fn check(&self) -> Result<()> {
        if !(1..=MOST_RANK).contains(&self.rank) {
            return Err(Error::setting("rank", self.rank, &format!("1..={MOST_RANK}")));
        }
        // At 0 nothing is trained: neither factor has a gradient.
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return Err(Error::setting("alpha", self.alpha, "above 0"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::setting("dropout", self.dropout, "0 to below 1"));
        }
        Ok(())
    }

    /// Whether a module, by its name without the checkpoint's prefix, is a target; targets may have the prefix.
    pub(crate) fn targets(&self, module: &str, prefixes: &[&str]) -> bool {
        self.target_modules.iter().any(|target| {
            let bare = prefixes.iter().find_map(|prefix| target.strip_prefix(prefix)).unwrap_or(target);
            target == ALL_LINEAR || ends_with_name(module, target) || module == bare
        })
    }
}

/// Whether a dotted name is `end`, or ends with it after a dot.
pub(crate) fn ends_with_name(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
