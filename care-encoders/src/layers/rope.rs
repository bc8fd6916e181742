//! Rotary position embeddings: settings and angles.

use std::f64::consts::TAU;
use std::sync::{Arc, Mutex, PoisonError};

use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::ops::{Angles, RotaryTable};

/// The rotary settings of a `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RopeParameters {
    /// Base of the frequencies.
    pub rope_theta: f64,
    /// How the frequencies are scaled for longer texts.
    #[serde(flatten)]
    pub scaling: RopeScaling,
}

/// How rotary frequencies are scaled, by `rope_type`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
#[non_exhaustive]
pub enum RopeScaling {
    /// No scaling.
    Default,
    /// All frequencies are divided by `factor`.
    Linear {
        /// Divisor, > 0.
        factor: f64,
    },
    /// As in Llama 3: frequencies of long wavelengths are divided by `factor`, those of short ones kept, with a ramp in
    /// between.
    Llama3 {
        /// Divisor, > 0.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are scaled in full. > 0.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are kept. > `low_freq_factor`.
        high_freq_factor: f64,
        /// Positions of the model before scaling.
        original_max_position_embeddings: usize,
    },
}

impl RopeParameters {
    /// Frequencies with this base, without scaling.
    pub fn new(rope_theta: f64) -> Self {
        Self { rope_theta, scaling: RopeScaling::Default }
    }

    /// Converts the rotary settings of a `config.json` to the newer of their two spellings.
    ///
    /// # Reference
    /// transformers 5 writes `rope_parameters: {rope_type, rope_theta, ..}`, earlier versions wrote `rope_theta` and
    /// `rope_scaling: {type, ..}`. If both are present, the older one takes precedence.
    ///
    /// # Errors
    /// If only a part of each head is rotated.
    pub(crate) fn normalize(config: &mut Value, default_theta: f64) -> Result<()> {
        let mut settings = Map::from_iter([("rope_type".to_owned(), "default".into())]);
        settings.insert("rope_theta".into(), default_theta.into());
        if let Some(theta) = config.get("rope_theta").filter(|theta| !theta.is_null()) {
            settings.insert("rope_theta".into(), theta.clone());
        }
        for spelling in ["rope_parameters", "rope_scaling"] {
            let Some(found) = config.get(spelling).and_then(Value::as_object) else { continue };
            for (name, value) in found {
                match name.as_str() {
                    "type" if found.contains_key("rope_type") => {}
                    "type" => _ = settings.insert("rope_type".to_owned(), value.clone()),
                    name => _ = settings.insert(name.to_owned(), value.clone()),
                }
            }
        }
        let inner = settings.remove("partial_rotary_factor");
        if let Some(part) = inner.as_ref().or(config.get("partial_rotary_factor"))
            && !part.is_null()
            && part.as_f64() != Some(1.0)
        {
            return Err(Error::new(ErrorKind::Config, format!("`partial_rotary_factor` {part} is not supported")));
        }
        config["rope_parameters"] = settings.into();
        Ok(())
    }

    /// Replaces `rope_parameters` by the older spelling, which every version of transformers reads.
    pub(crate) fn denormalize(config: &mut Value) {
        let Some(settings) = config.as_object_mut().and_then(|config| config.remove("rope_parameters")) else { return };
        config["rope_theta"] = settings["rope_theta"].clone();
        config["rope_scaling"] = match settings {
            Value::Object(mut settings) if settings["rope_type"] != "default" => {
                settings.remove("rope_theta");
                settings.into()
            }
            _ => json!(null),
        };
    }

    pub(crate) fn check(&self) -> Result<()> {
        let positive = |field: &str, value: f64| {
            let fine = value > 0.0 && value.is_finite();
            if fine { Ok(()) } else { Err(Error::setting(field, value, "a number above 0")) }
        };
        positive("rope_theta", self.rope_theta)?;
        match self.scaling {
            RopeScaling::Default => Ok(()),
            RopeScaling::Linear { factor } => positive("factor", factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, .. } => {
                positive("factor", factor)?;
                positive("low_freq_factor", low_freq_factor)?;
                if high_freq_factor > low_freq_factor {
                    return Ok(());
                }
                Err(Error::setting("high_freq_factor", high_freq_factor, "a number above low_freq_factor"))
            }
        }
    }

    /// Radians per position, for each pair of dimensions.
    fn frequencies(&self, head_dim: usize) -> Vec<f64> {
        let width = head_dim as f64;
        let plain = |theta: f64| (0..head_dim / 2).map(move |i| theta.powf(-2.0 * i as f64 / width));
        match self.scaling {
            RopeScaling::Default => plain(self.rope_theta).collect(),
            RopeScaling::Linear { factor } => plain(self.rope_theta).map(|frequency| frequency / factor).collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let stretch = |frequency: f64| {
                    let turns = original_max_position_embeddings as f64 * frequency / TAU;
                    let kept = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    let kept = kept.clamp(0.0, 1.0);
                    kept * frequency + (1.0 - kept) * frequency / factor
                };
                plain(self.rope_theta).map(stretch).collect()
            }
        }
    }
}

/// Angles `position * frequency(i)` for pair `i` of dimensions `i` and `i + head_dim/2`.
fn angles(positions: usize, head_dim: usize, rope: &RopeParameters) -> Angles {
    let frequencies = rope.frequencies(head_dim);
    let table = |function: fn(f64) -> f64| {
        let row = |position| frequencies.iter().map(move |frequency| function(position as f64 * frequency) as f32);
        (0..positions).flat_map(row).collect()
    };
    Angles { half: frequencies.len(), cos: table(f64::cos), sin: table(f64::sin) }
}

/// A network's angles for the longest row so far, shared by its clones.
#[derive(Debug, Clone, Default)]
pub(crate) struct RotaryAngles(Arc<Mutex<Option<Arc<Angles>>>>);

impl RotaryAngles {
    /// The angles of one forward pass over rows of `seq` tokens.
    pub(crate) fn table(&self, seq: usize, head_dim: usize, rope: &RopeParameters) -> RotaryTable {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let half = head_dim / 2;
        let angles = match known.take().filter(|angles| angles.half == half && angles.cos.len() >= seq * half) {
            Some(angles) => angles,
            None => Arc::new(angles(seq.next_power_of_two(), head_dim, rope)),
        };
        *known = Some(angles.clone());
        RotaryTable::new(angles, seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read_and_the_older_one_is_written() {
        for config in [
            json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}}),
            json!({"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "type": "default", "factor": 4.0}}),
            json!({"rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 4.0}}),
        ] {
            let mut config = config;
            RopeParameters::normalize(&mut config, 1e4).expect("read");
            let rope: RopeParameters = serde_json::from_value(config["rope_parameters"].clone()).expect("read");
            assert_eq!(rope, RopeParameters { rope_theta: 5e5, scaling: RopeScaling::Linear { factor: 4.0 } });
            let mut written = json!({ "rope_parameters": rope });
            RopeParameters::denormalize(&mut written);
            let older = json!({"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 4.0}});
            assert_eq!(written, older);
        }
        let mut bare = json!({ "rope_scaling": null });
        RopeParameters::normalize(&mut bare, 1e4).expect("read");
        assert_eq!(bare["rope_parameters"], json!({"rope_type": "default", "rope_theta": 1e4}));
    }

    #[test]
    fn a_rotation_of_a_part_of_each_head_is_refused() {
        for config in
            [json!({"partial_rotary_factor": 0.5}), json!({"rope_parameters": {"partial_rotary_factor": 0.5}})]
        {
            let mut config = config;
            let error = RopeParameters::normalize(&mut config, 1e4).expect_err("half of a head");
            assert_eq!(error.to_string(), "`partial_rotary_factor` 0.5 is not supported");
        }
    }
}
