//! What is done to a logit before it is a score.

use std::fmt;
use std::str::FromStr;

use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The function that turns a logit into a score. Neither changes the order of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ScoreActivation {
    /// The logit as it is.
    Identity,
    /// `1 / (1 + exp(-logit))`, in `[0, 1]`: for networks trained by binary cross-entropy, the probability that the
    /// document is relevant.
    Sigmoid,
}

impl ScoreActivation {
    const ALL: [Self; 2] = [Self::Identity, Self::Sigmoid];

    /// Its name, in files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Sigmoid => "sigmoid",
        }
    }

    /// The score of a logit.
    ///
    /// ```
    /// use care_encoders::ScoreActivation;
    ///
    /// assert_eq!(ScoreActivation::Sigmoid.apply(0.0), 0.5);
    /// assert_eq!(ScoreActivation::Identity.apply(-3.0), -3.0);
    /// ```
    pub fn apply(self, logit: f32) -> f32 {
        match self {
            Self::Identity => logit,
            Self::Sigmoid => (1.0 / (1.0 + f64::from(-logit).exp())) as f32,
        }
    }

    /// The function of a class of PyTorch, as sentence-transformers writes it.
    pub(super) fn of_class(class: &str) -> Option<Self> {
        match class.strip_prefix("torch.nn.").map(|path| path.rsplit('.').next().unwrap_or(path)) {
            Some("Identity") => Some(Self::Identity),
            Some("Sigmoid") => Some(Self::Sigmoid),
            _ => None,
        }
    }
}

impl fmt::Display for ScoreActivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ScoreActivation {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|activation| activation.as_str() == name).ok_or_else(|| {
            let allowed = Self::ALL.map(Self::as_str).join(", ");
            Error::setting("activation", format!("{name:?}"), &allowed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_keep_the_order_of_logits_up_to_the_ends_of_their_range() {
        let sigmoid = |logit| ScoreActivation::Sigmoid.apply(logit);
        assert!(sigmoid(-1.0) < sigmoid(0.5) && sigmoid(0.5) < sigmoid(9.0));
        assert_eq!([sigmoid(-200.0), sigmoid(200.0)], [0.0, 1.0]);
        assert!((sigmoid(1.5) - 0.817_574_5).abs() < 1e-6);
    }

    #[test]
    fn names_and_classes_are_known() {
        for activation in ScoreActivation::ALL {
            assert_eq!(activation.to_string().parse::<ScoreActivation>().expect("a name"), activation);
            assert_eq!(serde_json::to_value(activation).expect("a name"), activation.as_str());
        }
        assert_eq!(
            "tanh".parse::<ScoreActivation>().expect_err("unknown").to_string(),
            "`activation` is \"tanh\", allowed: identity, sigmoid"
        );
        for (class, activation) in [
            ("torch.nn.modules.linear.Identity", Some(ScoreActivation::Identity)),
            ("torch.nn.modules.activation.Sigmoid", Some(ScoreActivation::Sigmoid)),
            ("torch.nn.Sigmoid", Some(ScoreActivation::Sigmoid)),
            ("torch.nn.modules.activation.Tanh", None),
            ("other.Sigmoid", None),
        ] {
            assert_eq!(ScoreActivation::of_class(class), activation, "{class}");
        }
    }
}
