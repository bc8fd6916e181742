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
    /// Dynamic NTK: frequencies change for texts longer than `max_position_embeddings` only. Such texts are cut here, so
    /// there is no scaling.
    Dynamic {
        /// Growth of the base, > 0.
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
    /// YaRN: frequencies that turn fewer than `beta_slow` times over the original positions are divided by `factor`,
    /// those of more than `beta_fast` turns kept, with a ramp in between; queries and keys grow by the attention factor.
    ///
    /// # Reference
    /// YaRN (arXiv 2309.00071); transformers' `rope_type: yarn`.
    Yarn {
        /// Divisor, > 0.
        factor: f64,
        /// Positions of the model before scaling, >= 1. Default `max_position_embeddings`.
        original_max_position_embeddings: usize,
        /// Factor of rotated queries and keys, > 0. Default `m(1)`, or `m(mscale) / m(mscale_all_dim)` if both are set,
        /// where `m(x) = 1 + 0.1 x ln(factor)`, and 1 for a `factor` up to 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attention_factor: Option<f64>,
        /// Turns from which on frequencies are kept, >= 0. Default 32, also for 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        beta_fast: Option<f64>,
        /// Turns below which frequencies are scaled in full, >= 0. Default 1, also for 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        beta_slow: Option<f64>,
        /// See `attention_factor`. Default none, also for 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mscale: Option<f64>,
        /// See `attention_factor`. Default none, also for 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mscale_all_dim: Option<f64>,
        /// Whether the ends of the ramp are rounded outwards to whole dimensions. Default true.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        truncate: Option<bool>,
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
    /// `rope_scaling: {type, ..}`, which replaces `rope_parameters` if both are present. A base in the object takes
    /// precedence over one beside it.
    ///
    /// # Errors
    /// If a setting has the wrong type or is out of range, only a part of each head is rotated, or settings differ by
    /// layer type. The message names the field of the file.
    pub(crate) fn normalize(config: &mut Value, default_theta: f64) -> Result<()> {
        let (field, settings) = match object(config, "rope_scaling")? {
            Some(scaling) if !scaling.is_empty() => ("rope_scaling", scaling),
            _ => ("rope_parameters", object(config, "rope_parameters")?.unwrap_or_default()),
        };
        if let Some(layers) = ["full_attention", "sliding_attention"].iter().find(|name| settings.contains_key(**name))
        {
            let message = format!("`{field}.{layers}`: rotary settings by layer type are not supported for this model");
            return Err(Error::new(ErrorKind::Config, message));
        }
        let rope = Self::read(config, field, settings, ("rope_theta", default_theta))?;
        config["rope_parameters"] = json!(rope);
        Ok(())
    }

    /// [`RopeParameters::normalize`] for networks whose layers with a sliding window have settings of their own, which
    /// become `sliding_rope_parameters`.
    ///
    /// # Reference
    /// transformers' Gemma 3: `rope_parameters` has one object per layer type; earlier versions wrote `rope_theta` and
    /// `rope_scaling` for layers without a window, `rope_local_base_freq` for the others.
    ///
    /// # Errors
    /// As [`RopeParameters::normalize`], and if `rope_parameters` has other fields.
    pub(crate) fn normalize_by_layer(config: &mut Value, full_theta: f64, sliding_theta: f64) -> Result<()> {
        const FULL: &str = "full_attention";
        const SLIDING: &str = "sliding_attention";
        let layers: Value = object(config, "rope_parameters")?.unwrap_or_default().into();
        let mut names = layers.as_object().into_iter().flat_map(Map::keys);
        if let Some(other) = names.find(|name| *name != FULL && *name != SLIDING) {
            let message = format!("`rope_parameters.{other}` is not supported: allowed are {FULL} and {SLIDING}");
            return Err(Error::new(ErrorKind::Config, message));
        }
        let of = |layer: &str| Ok::<_, Error>(object(&layers, layer)?.unwrap_or_default());
        let (mut full, mut field) = (of(FULL)?, "rope_parameters.full_attention");
        if let Some(scaling) = object(config, "rope_scaling")?.filter(|scaling| !scaling.is_empty()) {
            full.extend(scaling);
            field = "rope_scaling";
        }
        let full = Self::read(config, field, full, ("rope_theta", full_theta))?;
        let beside = ("rope_local_base_freq", sliding_theta);
        let sliding = Self::read(config, "rope_parameters.sliding_attention", of(SLIDING)?, beside)?;
        config["rope_parameters"] = json!(full);
        config["sliding_rope_parameters"] = json!(sliding);
        Ok(())
    }

    /// Replaces both settings by the older spelling, unless it cannot express those of layers with a window.
    pub(crate) fn denormalize_by_layer(config: &mut Value) {
        let sliding = config.as_object_mut().and_then(|config| config.remove("sliding_rope_parameters"));
        let Some(sliding) = sliding else { return Self::denormalize(config) };
        if sliding["rope_type"] == "default" {
            config["rope_local_base_freq"] = sliding["rope_theta"].clone();
            return Self::denormalize(config);
        }
        config["rope_parameters"] =
            json!({ "full_attention": config["rope_parameters"], "sliding_attention": sliding });
    }

    /// The settings in an object of a `config.json`. A base that it lacks is that of the field `theta` beside it, else
    /// the default.
    fn read(config: &Value, field: &str, mut settings: Map<String, Value>, theta: (&str, f64)) -> Result<Self> {
        if let Some(older) = settings.remove("type") {
            settings.entry("rope_type").or_insert(older);
        }
        settings.entry("rope_type").or_insert("default".into());
        let set = |name: &str| config.get(name).filter(|value| !value.is_null());
        let part = settings.remove("partial_rotary_factor");
        if let Some(part) = part.as_ref().filter(|part| !part.is_null()).or(set("partial_rotary_factor"))
            && part.as_f64() != Some(1.0)
        {
            return Err(Error::new(ErrorKind::Config, format!("`partial_rotary_factor` {part} is not supported")));
        }
        let mut theta_field = format!("{field}.rope_theta");
        if settings.get("rope_theta").is_none_or(Value::is_null) {
            theta_field = theta.0.to_owned();
            settings.insert("rope_theta".into(), set(theta.0).cloned().unwrap_or(theta.1.into()));
        }
        if !settings["rope_theta"].is_number() {
            return Err(Error::setting(&theta_field, &settings["rope_theta"], "a number above 0"));
        }
        if settings["rope_type"] == "llama3" || settings["rope_type"] == "yarn" {
            let original = "original_max_position_embeddings";
            if let Some(beside) = set(original) {
                settings.insert(original.into(), beside.clone());
            } else if let Some(positions) = set("max_position_embeddings") {
                settings.entry(original).or_insert(positions.clone());
            }
        }
        let rope: Self = serde_json::from_value(settings.into())
            .map_err(|e| Error::new(ErrorKind::Format, format!("field `{field}`: {e}")))?;
        positive(&theta_field, rope.rope_theta)?;
        rope.check_as(field)?;
        Ok(rope)
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
        positive("rope_parameters.rope_theta", self.rope_theta)?;
        self.check_as("rope_parameters")
    }

    /// Checks the scaling, which is in the field `field`.
    fn check_as(&self, field: &str) -> Result<()> {
        let name = |setting: &str| format!("{field}.{setting}");
        match self.scaling {
            RopeScaling::Default => Ok(()),
            RopeScaling::Linear { factor } | RopeScaling::Dynamic { factor } => positive(&name("factor"), factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, .. } => {
                positive(&name("factor"), factor)?;
                positive(&name("low_freq_factor"), low_freq_factor)?;
                if high_freq_factor > low_freq_factor {
                    return Ok(());
                }
                Err(Error::setting(&name("high_freq_factor"), high_freq_factor, "a number above low_freq_factor"))
            }
            RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                attention_factor,
                beta_fast,
                beta_slow,
                mscale,
                mscale_all_dim,
                ..
            } => {
                positive(&name("factor"), factor)?;
                positive(&name("original_max_position_embeddings"), original_max_position_embeddings as f64)?;
                positive(&name("attention_factor"), attention_factor.unwrap_or(1.0))?;
                let rest = [("beta_fast", beta_fast), ("beta_slow", beta_slow), ("mscale", mscale)];
                for (setting, value) in rest.into_iter().chain([("mscale_all_dim", mscale_all_dim)]) {
                    if !value.is_none_or(|value| value >= 0.0 && value.is_finite()) {
                        return Err(Error::setting(
                            &name(setting),
                            value.unwrap_or_default(),
                            "a number of at least 0",
                        ));
                    }
                }
                Ok(())
            }
        }
    }

    /// Radians per position, for each pair of dimensions.
    fn frequencies(&self, head_dim: usize) -> Vec<f64> {
        let (width, base) = (head_dim as f64, self.rope_theta);
        let plain = (0..head_dim / 2).map(|pair| base.powf(-2.0 * pair as f64 / width));
        match self.scaling {
            RopeScaling::Default | RopeScaling::Dynamic { .. } => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|frequency| frequency / factor).collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let stretch = |frequency: f64| {
                    let turns = original_max_position_embeddings as f64 * frequency / TAU;
                    let kept = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    let kept = kept.clamp(0.0, 1.0);
                    kept * frequency + (1.0 - kept) * frequency / factor
                };
                plain.map(stretch).collect()
            }
            RopeScaling::Yarn { factor, original_max_position_embeddings, beta_fast, beta_slow, truncate, .. } => {
                // The dimension of a head whose frequency makes this many turns over the original positions.
                let dimension = |turns: f64| {
                    width * (original_max_position_embeddings as f64 / (turns * TAU)).ln() / (2.0 * base.ln())
                };
                let (mut first, mut last) =
                    (dimension(non_zero(beta_fast).unwrap_or(32.0)), dimension(non_zero(beta_slow).unwrap_or(1.0)));
                if truncate.unwrap_or(true) {
                    (first, last) = (first.floor(), last.ceil());
                }
                (first, last) = (first.max(0.0), last.min(width - 1.0));
                if first == last {
                    last += 0.001;
                }
                let stretch = |(pair, frequency): (usize, f64)| {
                    let scaled = ((pair as f64 - first) / (last - first)).clamp(0.0, 1.0);
                    scaled * frequency / factor + (1.0 - scaled) * frequency
                };
                plain.enumerate().map(stretch).collect()
            }
        }
    }

    /// The factor by which rotated queries and keys grow.
    fn magnitude(&self) -> f64 {
        let RopeScaling::Yarn { factor, attention_factor, mscale, mscale_all_dim, .. } = self.scaling else {
            return 1.0;
        };
        let of = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        attention_factor.unwrap_or_else(|| match (non_zero(mscale), non_zero(mscale_all_dim)) {
            (Some(one), Some(all)) => of(one) / of(all),
            _ => of(1.0),
        })
    }
}

/// A setting for which 0 stands for its default.
fn non_zero(setting: Option<f64>) -> Option<f64> {
    setting.filter(|value| *value != 0.0)
}

fn positive(field: &str, value: f64) -> Result<()> {
    let fine = value > 0.0 && value.is_finite();
    if fine { Ok(()) } else { Err(Error::setting(field, value, "a number above 0")) }
}

/// A field of a `config.json` that is an object, absent or null.
fn object(config: &Value, field: &str) -> Result<Option<Map<String, Value>>> {
    match config.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(settings)) => Ok(Some(settings.clone())),
        Some(other) => Err(Error::setting(field, other, "an object with a `rope_type`, or null")),
    }
}

/// Angles `position * frequency(i)` for pair `i` of dimensions `i` and `i + head_dim/2`, their cosines and sines times the
/// factor of the scaling.
fn angles(positions: usize, head_dim: usize, rope: &RopeParameters) -> Angles {
    let frequencies = rope.frequencies(head_dim);
    let magnitude = rope.magnitude();
    let table = |function: fn(f64) -> f64| {
        let row = |position| {
            frequencies.iter().map(move |frequency| (magnitude * function(position as f64 * frequency)) as f32)
        };
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

    fn read(mut config: Value) -> Result<RopeParameters> {
        RopeParameters::normalize(&mut config, 1e4)?;
        Ok(serde_json::from_value(config["rope_parameters"].clone()).expect("normalised"))
    }

    #[test]
    fn both_spellings_are_read_and_the_older_one_is_written() {
        for config in [
            json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}}),
            json!({"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "type": "default", "factor": 4.0}}),
            json!({"rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 4.0}}),
            // The older spelling replaces the newer one, except for the base beside it.
            json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}, "rope_parameters": {"rope_theta": 9.0}}),
            json!({"rope_theta": 5e5, "rope_scaling": {}, "rope_parameters": {"type": "linear", "factor": 4.0}}),
        ] {
            let rope = read(config).expect("read");
            assert_eq!(rope, RopeParameters { rope_theta: 5e5, scaling: RopeScaling::Linear { factor: 4.0 } });
            let mut written = json!({ "rope_parameters": rope });
            RopeParameters::denormalize(&mut written);
            let older = json!({"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 4.0}});
            assert_eq!(written, older);
        }
        assert_eq!(read(json!({ "rope_scaling": null })).expect("read"), RopeParameters::new(1e4));
    }

    #[test]
    fn yarn_has_the_frequencies_and_factors_of_transformers() {
        let yarn = |settings: Value| {
            let mut config = json!({"max_position_embeddings": 64, "rope_theta": 1e4, "rope_scaling": settings});
            config["rope_scaling"]["rope_type"] = "yarn".into();
            read(config).expect("yarn")
        };
        for (settings, frequencies, magnitude) in [
            (
                json!({"factor": 4.0, "original_max_position_embeddings": 16}),
                [1.0, 0.07905694, 0.025, 0.007905695, 0.0025, 0.0007905695, 0.00025, 7.905695e-05],
                1.138629436,
            ),
            (
                json!({"factor": 4.0, "original_max_position_embeddings": 16, "mscale": 0.7, "mscale_all_dim": 1.2}),
                [1.0, 0.07905694, 0.025, 0.007905695, 0.0025, 0.0007905695, 0.00025, 7.905695e-05],
                0.940571525,
            ),
            (
                json!({"factor": 8.0, "original_max_position_embeddings": 40, "beta_fast": 4, "beta_slow": 0.5, "truncate": false}),
                [1.0, 0.2248679, 0.0226647, 0.003952847, 0.00125, 0.0003952847, 0.000125, 3.952847e-05],
                1.207944154,
            ),
            (
                json!({"factor": 0.5, "original_max_position_embeddings": 16, "mscale": 0.7}),
                [1.0, 0.6324555, 0.2, 0.06324556, 0.02, 0.006324556, 0.002, 0.0006324556],
                1.0,
            ),
            (
                json!({"factor": 2.0, "original_max_position_embeddings": 1000, "attention_factor": 0.8}),
                [1.0, 0.3162278, 0.08750001, 0.02371708, 0.00625, 0.001581139, 0.0005, 0.0001581139],
                0.8,
            ),
        ] {
            let rope = yarn(settings.clone());
            for (found, expected) in rope.frequencies(16).into_iter().zip::<[f64; 8]>(frequencies) {
                assert!((found / expected - 1.0).abs() < 1e-5, "{settings}: {found}, not {expected}");
            }
            let magnitude: f64 = magnitude;
            assert!((rope.magnitude() - magnitude).abs() < 1e-8, "{settings}: {}", rope.magnitude());
        }
        // The positions before scaling are those beside the object, else of the object, else all.
        let original = |rope: RopeParameters| match rope.scaling {
            RopeScaling::Yarn { original_max_position_embeddings, .. } => original_max_position_embeddings,
            _ => 0,
        };
        assert_eq!(original(yarn(json!({"factor": 4.0}))), 64);
        let scaling = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16});
        let beside =
            json!({"rope_scaling": scaling, "original_max_position_embeddings": 8, "max_position_embeddings": 64});
        assert_eq!(original(read(beside).expect("yarn")), 8);
    }

    #[test]
    fn settings_that_cannot_be_computed_are_refused_by_the_name_they_have_in_the_file() {
        for (config, message) in [
            (
                json!({"rope_scaling": "linear"}),
                "`rope_scaling` is \"linear\", allowed: an object with a `rope_type`, or null",
            ),
            (json!({"rope_scaling": []}), "`rope_scaling` is [], allowed: an object with a `rope_type`, or null"),
            (json!({"rope_parameters": 1}), "`rope_parameters` is 1, allowed: an object with a `rope_type`, or null"),
            (
                json!({"rope_scaling": {"type": "longrope"}}),
                "field `rope_scaling`: unknown variant `longrope`, expected one of `default`, `linear`, `dynamic`, `llama3`, `yarn`",
            ),
            (json!({"rope_parameters": {"rope_type": "linear"}}), "field `rope_parameters`: missing field `factor`"),
            (
                json!({"rope_scaling": {"type": "yarn", "factor": 0}}),
                "field `rope_scaling`: missing field `original_max_position_embeddings`",
            ),
            (
                json!({"rope_scaling": {"type": "dynamic", "factor": 0}}),
                "`rope_scaling.factor` is 0, allowed: a number above 0",
            ),
            (
                json!({"rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": -1}, "max_position_embeddings": 9}),
                "`rope_scaling.beta_fast` is -1, allowed: a number of at least 0",
            ),
            (json!({"rope_theta": -1.0}), "`rope_theta` is -1, allowed: a number above 0"),
            (json!({"rope_theta": "1e4"}), "`rope_theta` is \"1e4\", allowed: a number above 0"),
            (
                json!({"rope_parameters": {"rope_theta": 0}}),
                "`rope_parameters.rope_theta` is 0, allowed: a number above 0",
            ),
            (
                json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}}),
                "`rope_parameters.full_attention`: rotary settings by layer type are not supported for this model",
            ),
            (json!({"partial_rotary_factor": 0.5}), "`partial_rotary_factor` 0.5 is not supported"),
            (
                json!({"rope_parameters": {"partial_rotary_factor": 0.5}}),
                "`partial_rotary_factor` 0.5 is not supported",
            ),
        ] {
            assert_eq!(read(config).expect_err("refused").to_string(), message);
        }
    }
}
