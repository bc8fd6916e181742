//! PEFT adapters: reads, initialises, writes and merges the LoRA adapters of a network.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use care_core::{Error, ErrorKind, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Uniform};
use serde_json::json;

use super::adapter_config::{AdapterConfig, CONFIG};
use super::checkpoint::Checkpoint;
use super::folder::{create_folder, require_folder, write_json};
use super::lora_config::{ALL_LINEAR, LoraConfig};
use super::weights::{HostTensor, Selection, fill_selected, write_tensors};
use crate::device::Precision;
use crate::layers::{Linear, Lora, Parts, WeightTable};
use crate::registry::AnyEncoder;

/// The file of the weights, without its ending.
const WEIGHTS: &str = "adapter_model";
/// Prefix that PEFT adds to every module of the wrapped network.
const WRAPPER: &str = "base_model.model.";
/// The linear layers that an adapter targets, each with its name in checkpoints.
fn targets<'a>(encoder: &'a mut AnyEncoder, table: &WeightTable, config: &LoraConfig) -> Vec<(String, &'a mut Linear)> {
    let named = |(path, linear): (String, &'a mut Linear)| table.module(&path).map(|name| (name, linear));
    encoder.linears().into_iter().filter_map(named).filter(|(name, _)| config.targets(name, table.prefixes)).collect()
}

fn table(encoder: &AnyEncoder) -> Result<&'static WeightTable> {
    let row = encoder.config().architecture().map(|row| row.weights);
    row.ok_or_else(|| Error::new(ErrorKind::Config, "the architecture has no module names in checkpoints"))
}

impl AnyEncoder {
    /// Adds new LoRA adapters, which have no effect until they are trained. All other weights are frozen.
    ///
    /// # Errors
    /// If a setting is out of range, or no linear layer is a target.
    ///
    /// # Reference
    /// PEFT: A is uniform in `±1 / sqrt(in)`, B is 0.
    pub fn with_lora(self, config: &LoraConfig, seed: u64) -> Result<Self> {
        config.check()?;
        let table = table(&self)?;
        let mut encoder = self.no_grad();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut found = false;
        for (_, linear) in targets(&mut encoder, table, config) {
            let [inputs, outputs] = linear.dims();
            let device = linear.device();
            let bound = (inputs as f64).sqrt().recip();
            let uniform = Uniform::new(-bound, bound)
                .map_err(|e| Error::new(ErrorKind::Config, "a layer has no inputs").with_source(e))?;
            let values: Vec<f32> = (0..inputs * config.rank).map(|_| uniform.sample(&mut rng) as f32).collect();
            let a = tensor(TensorData::new(values, [inputs, config.rank]), &device);
            let b = tensor(TensorData::zeros::<f32, _>([config.rank, outputs]), &device);
            linear.set_lora(
                Lora::new(inputs, outputs, config.rank, config.scale(), config.dropout, &device).with_weights(a, b),
            );
            found = true;
        }
        if found { Ok(encoder) } else { Err(no_target(config)) }
    }

    /// Adds the LoRA adapters of a PEFT adapter folder, not merged. All other weights are frozen.
    ///
    /// What else an adapter may contain becomes part of the weights at once: whole modules (`modules_to_save`), biases
    /// (`bias`, `lora_bias`), and layers with DoRA, which are merged.
    ///
    /// # Errors
    /// If a file is missing or broken, the adapter uses an unsupported feature, or a tensor is missing, unexpected, of
    /// the wrong shape or not finite.
    ///
    /// # Reference
    /// PEFT 0.21, `set_peft_model_state_dict`. DIFFERENCE: PEFT ignores tensors that belong nowhere and leaves a target
    /// without tensors as it is; here both are errors.
    pub fn with_adapter(self, folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        require_folder(folder)?;
        let config = AdapterConfig::from_folder(folder)?;
        let checkpoint = Checkpoint::open_named(folder, WEIGHTS)?;
        let table = table(&self)?;
        let tensors = AdapterTensors::new(&checkpoint, table)?;
        let selection = Selection {
            names: &tensors.whole,
            required: &|module, parameter| config.replaces(&format!("{}{module}", tensors.prefix), parameter),
        };
        let precision = Precision::of(&self);
        let mut encoder = fill_selected(&checkpoint, table, precision, &selection, self)?.no_grad();
        let mut used = BTreeSet::new();
        for (path, linear) in encoder.linears() {
            let places = table.module_places(&path);
            let found = places.iter().find_map(|place| tensors.loras.get_key_value(&place.tensor).map(|l| (place, l)));
            let Some((place, (module, lora))) = found else {
                if let Some(place) = places.first()
                    && config.targets(&format!("{}{}", tensors.prefix, place.tensor))?
                {
                    return Err(tensors.refuse(&format!("tensor `{}.lora_A.weight` is missing", place.tensor)));
                }
                continue;
            };
            if config.targets(&lora.module)? {
                tensors.apply(linear, lora, place.part, &config)?;
                used.insert(module);
            }
        }
        if let Some((_, lora)) = tensors.loras.iter().find(|(module, _)| !used.contains(module)) {
            let name = lora.parts.values().next().copied().unwrap_or_default();
            return Err(tensors.refuse(&format!("tensor `{name}` is not expected")));
        }
        if used.is_empty() && tensors.whole.is_empty() { Err(config.no_target()) } else { Ok(encoder) }
    }

    /// Writes the network's LoRA adapters as a PEFT adapter folder; `base_model` names the base model in its settings.
    ///
    /// # Errors
    /// If the network's adapters do not match the configuration, or a file cannot be written.
    pub fn save_adapter(&self, folder: impl AsRef<Path>, config: &LoraConfig, base_model: &str) -> Result<()> {
        let folder = folder.as_ref();
        let table = table(self)?;
        let refuse = |module: &str, problem: &str| {
            Err(Error::new(ErrorKind::Checkpoint, format!("the layer `{module}` {problem}")))
        };
        let mut tensors = BTreeMap::new();
        let mut encoder = self.clone();
        for (path, linear) in encoder.linears() {
            let module = table.module(&path).unwrap_or(path);
            let lora = match (linear.lora(), config.targets(&module, table.prefixes)) {
                (None, false) => continue,
                (None, true) => return refuse(&module, "has no LoRA adapter to save"),
                (Some(_), false) => return refuse(&module, "has a LoRA adapter but is not a target"),
                (Some(lora), true) => lora,
            };
            if lora.rank() != config.rank || lora.scale() != config.scale() {
                return refuse(&module, "has a LoRA adapter of another rank or scale");
            }
            let (a, b) = lora.weights();
            for (which, weight) in [("lora_A", a), ("lora_B", b)] {
                let host = HostTensor::new(weight.transpose().into_data());
                tensors.insert(format!("{WRAPPER}{module}.{which}.weight"), host);
            }
        }
        if tensors.is_empty() {
            return Err(no_target(config));
        }
        create_folder(folder)?;
        // The tensors' names have no prefix, so those of the targets must not have one either.
        let bare: Vec<String> = config.target_modules.iter().map(|name| table.bare(name)).collect();
        let target_modules = match bare.as_slice() {
            [name] if name == ALL_LINEAR => json!(name),
            names => json!(names),
        };
        let settings = json!({
            "peft_type": "LORA",
            "task_type": "FEATURE_EXTRACTION",
            "base_model_name_or_path": base_model,
            "r": config.rank,
            "lora_alpha": config.alpha,
            "lora_dropout": config.dropout,
            "target_modules": target_modules,
            "use_rslora": config.rs_lora,
            "bias": "none",
            "fan_in_fan_out": false,
            "use_dora": false,
            "modules_to_save": null,
            "inference_mode": true,
        });
        write_tensors(&folder.join(format!("{WEIGHTS}.safetensors")), tensors)?;
        write_json(&folder.join(CONFIG), &settings)
    }

    /// Merges the LoRA adapters into the weights.
    #[must_use]
    pub fn merge_lora(mut self) -> Self {
        for (_, linear) in self.linears() {
            linear.merge_lora();
        }
        self
    }
}

/// The tensors of an adapter by what they belong to.
struct AdapterTensors<'a> {
    checkpoint: &'a Checkpoint,
    /// The LoRA of each linear layer, by its name without the checkpoint's prefix.
    loras: BTreeMap<String, LoraTensors<'a>>,
    /// Weights that replace those of the network: their names without prefix, mapped to the full names.
    whole: BTreeMap<String, String>,
    /// What precedes the names of the network's modules.
    prefix: String,
}

/// The names of the tensors of one LoRA.
struct LoraTensors<'a> {
    /// The layer's name in the network that was trained.
    module: String,
    parts: BTreeMap<Part, &'a str>,
}

/// What a tensor of a LoRA is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    A,
    B,
    Bias,
    /// The magnitudes of DoRA.
    Magnitude,
}

impl Part {
    /// The ends of the tensors' names.
    const ENDS: [(&str, Part); 5] = [
        (".lora_A.weight", Part::A),
        (".lora_B.weight", Part::B),
        (".lora_B.bias", Part::Bias),
        (".lora_magnitude_vector", Part::Magnitude),
        (".lora_magnitude_vector.weight", Part::Magnitude),
    ];

    /// Splits a name into the layer's and the part.
    fn split(name: &str) -> Option<(&str, Self)> {
        Self::ENDS.iter().find_map(|(end, part)| Some((name.strip_suffix(end)?, *part)))
    }
}

impl<'a> AdapterTensors<'a> {
    fn new(checkpoint: &'a Checkpoint, table: &WeightTable) -> Result<Self> {
        let mut tensors = Self { checkpoint, loras: BTreeMap::new(), whole: BTreeMap::new(), prefix: String::new() };
        for name in checkpoint.names() {
            let Some(inner) = name.strip_prefix(WRAPPER) else {
                return Err(tensors.refuse(&format!("tensor `{name}` does not start with {WRAPPER}")));
            };
            // What PEFT wraps around a module whose own weights are saved.
            let inner = inner.replace(".base_layer.", ".").replace(".modules_to_save.", ".");
            let (module, part) = Part::split(&inner).map_or((&*inner, None), |(module, part)| (module, Some(part)));
            let bare = table.bare(module);
            if table.ignores(&bare) || table.ignores(module) {
                continue;
            }
            if let Some(prefix) = module.strip_suffix(&bare) {
                tensors.prefix = prefix.to_owned();
            }
            let twice = match part {
                Some(part) => {
                    let new = || LoraTensors { module: module.to_owned(), parts: BTreeMap::new() };
                    tensors.loras.entry(bare).or_insert_with(new).parts.insert(part, name)
                }
                None => tensors.whole.insert(bare, name.to_owned()).map(|_| name),
            };
            if twice.is_some() {
                return Err(tensors.refuse(&format!("tensor `{name}` is duplicated under another name")));
            }
        }
        Ok(tensors)
    }

    fn refuse(&self, problem: &str) -> Error {
        let path = self.checkpoint.path().display();
        Error::new(ErrorKind::Checkpoint, format!("{path}: the adapter does not fit this model: {problem}"))
    }

    /// Puts a LoRA on a layer, whose outputs are part `part` of those of the layer that was trained.
    fn apply(
        &self,
        linear: &mut Linear,
        lora: &LoraTensors<'_>,
        part: (usize, usize),
        config: &AdapterConfig,
    ) -> Result<()> {
        let [inputs, outputs] = linear.dims();
        let device = linear.device();
        let (rank, scale) = config.rank_and_scale(&lora.module)?;
        let read = |which: Part, end: &str, wanted: &[usize], part: (usize, usize)| {
            let missing = || self.refuse(&format!("tensor `{WRAPPER}{}{end}` is missing", lora.module));
            let name = lora.parts.get(&which).ok_or_else(missing)?;
            let shape = self.checkpoint.shape(name).unwrap_or_default();
            if shape != wanted {
                return Err(self.refuse(&format!("tensor `{name}` has shape {shape:?}, expected {wanted:?}")));
            }
            self.checkpoint.read(name, part, wanted.len() == 2, Precision::F32)
        };
        let all = outputs * part.1;
        let a = tensor(read(Part::A, ".lora_A.weight", &[rank, inputs], (0, 1))?, &device);
        let b = tensor(read(Part::B, ".lora_B.weight", &[all, rank], part)?, &device);
        let optional = [(Part::Bias, config.lora_bias, "lora_bias"), (Part::Magnitude, config.dora, "use_dora")];
        for (which, set, field) in optional {
            if let Some(name) = lora.parts.get(&which).filter(|_| !set) {
                return Err(self.refuse(&format!("tensor `{name}` is not expected without `{field}`")));
            }
        }
        let matrices = Lora::new(inputs, outputs, rank, scale, config.dropout(), &device).with_weights(a, b);
        linear.set_lora(matrices);
        if config.lora_bias {
            let bias = vector(read(Part::Bias, ".lora_B.bias", &[all], part)?, &device).mul_scalar(scale);
            if !linear.add_to_bias(bias) {
                return Err(
                    self.refuse(&format!("`lora_bias` needs a layer with a bias, and `{}` has none", lora.module))
                );
            }
        }
        if config.dora {
            let magnitudes = vector(read(Part::Magnitude, ".lora_magnitude_vector", &[all], part)?, &device);
            linear.merge_dora(magnitudes);
        }
        Ok(())
    }
}

fn vector(data: TensorData, device: &Device) -> Tensor<1> {
    Tensor::from_data(data, (device, Precision::F32.dtype().into()))
}

fn tensor(data: TensorData, device: &Device) -> Tensor<2> {
    Tensor::from_data(data, (device, Precision::F32.dtype().into()))
}

fn no_target(config: &LoraConfig) -> Error {
    let message = format!("`target_modules` {:?} match no linear layer", config.target_modules);
    Error::new(ErrorKind::Config, message)
}
