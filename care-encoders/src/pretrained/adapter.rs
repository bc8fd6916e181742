//! PEFT adapters: low-rank additions to a network's linear layers, read, written and merged.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use care_core::{Error, ErrorKind, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Uniform};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::checkpoint::Checkpoint;
use super::folder::{create_folder, read_json, require_folder, write_json};
use super::weights::{HostTensor, write_tensors};
use crate::device::Precision;
use crate::layers::{Linear, Lora, Parts, WeightTable};
use crate::registry::AnyEncoder;

pub(crate) const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT puts before every module of the network it wraps.
const WRAPPER: &str = "base_model.model.";
/// The target that stands for every linear layer.
const ALL_LINEAR: &str = "all-linear";

/// Which linear layers get a low-rank addition, and of what size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of the addition, at least 1.
    pub rank: usize,
    /// The addition is scaled by `alpha / rank`, or by `alpha / sqrt(rank)` with `rs_lora`.
    pub alpha: f64,
    /// Probability of dropping an input of the addition in training.
    pub dropout: f64,
    /// Names of modules as their checkpoint has them, or ends of them after a dot, such as `q_proj`;
    /// `all-linear` for every linear layer.
    pub target_modules: Vec<String>,
    /// Whether the scale is rank-stabilised.
    pub rs_lora: bool,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self::reference()
    }
}

impl LoraConfig {
    /// The paper's document tower: rank 32, alpha 64, dropout 0.1 on every linear layer.
    pub fn reference() -> Self {
        Self { rank: 32, alpha: 64.0, dropout: 0.1, target_modules: vec![ALL_LINEAR.into()], rs_lora: false }
    }

    /// What the addition is multiplied by.
    ///
    /// # Reference
    /// Hu et al. 2021, arXiv 2106.09685; rank-stabilised: Kalajdzievski 2023, arXiv 2312.03732.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rs_lora { rank.sqrt() } else { rank }
    }

    /// Checks ranges.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the field, its value and what is allowed.
    pub fn check(&self) -> Result<()> {
        if self.rank == 0 {
            return Err(Error::setting("rank", self.rank, "at least 1"));
        }
        if !self.alpha.is_finite() {
            return Err(Error::setting("alpha", self.alpha, "a finite number"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::setting("dropout", self.dropout, "0 to below 1"));
        }
        Ok(())
    }

    fn targets(&self, module: &str) -> bool {
        self.target_modules.iter().any(|target| {
            target == ALL_LINEAR
                || module == target
                || module.strip_suffix(target).is_some_and(|rest| rest.ends_with('.'))
        })
    }
}

/// The fields of an `adapter_config.json` that decide what it computes, and the others as they are.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct AdapterConfig {
    pub(crate) base_model_name_or_path: Option<String>,
    #[serde(default)]
    peft_type: Option<String>,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    use_rslora: bool,
    target_modules: Value,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Fields that change what is computed, with the values under which they do not.
fn neutral_fields() -> [(&'static str, Vec<Value>); 16] {
    let off = || vec![json!(false)];
    let empty = || vec![json!([]), json!({})];
    [
        ("bias", vec![json!("none")]),
        ("use_dora", off()),
        ("fan_in_fan_out", off()),
        ("lora_bias", off()),
        ("modules_to_save", empty()),
        ("rank_pattern", empty()),
        ("alpha_pattern", empty()),
        ("layers_to_transform", empty()),
        ("layer_replication", empty()),
        ("exclude_modules", empty()),
        ("trainable_token_indices", empty()),
        ("target_parameters", empty()),
        ("use_qalora", off()),
        ("use_bdlora", off()),
        ("alora_invocation_tokens", empty()),
        // Others (PiSSA, OLoRA, CorDA, LoftQ) change the base weights when they are loaded.
        ("init_lora_weights", vec![json!(true), json!(false), json!("gaussian"), json!("orthogonal"), json!("eva")]),
    ]
}

impl AdapterConfig {
    /// Reads the settings of an adapter.
    ///
    /// # Errors
    /// When the file is missing or broken, or asks for what is not computed here.
    pub(crate) fn from_folder(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG);
        let config: Self = read_json(&path)?;
        if let Some(kind) = config.peft_type.as_deref().filter(|kind| *kind != "LORA") {
            return Err(Error::format(&path, format!("`peft_type` {kind} is not supported, only LORA")));
        }
        for (field, neutral) in neutral_fields() {
            if let Some(value) = config.others.get(field)
                && !value.is_null()
                && !neutral.contains(value)
            {
                return Err(Error::format(&path, format!("`{field}` {value} is not supported")));
            }
        }
        Ok(config)
    }

    fn lora(&self, path: &Path) -> Result<LoraConfig> {
        let target_modules = match &self.target_modules {
            Value::Array(names) => names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
            Value::String(name) if name == ALL_LINEAR => vec![name.clone()],
            other => {
                let problem = format!("`target_modules` {other} is not supported, only a list or {ALL_LINEAR:?}");
                return Err(Error::format(path, problem));
            }
        };
        let (rank, alpha, dropout, rs_lora) = (self.r, self.lora_alpha, self.lora_dropout, self.use_rslora);
        let config = LoraConfig { rank, alpha, dropout, target_modules, rs_lora };
        config.check().map_err(|e| e.in_file(path))?;
        Ok(config)
    }
}

/// The linear layers that an adapter targets, each with its name in a checkpoint.
fn targets<'a>(encoder: &'a mut AnyEncoder, table: &WeightTable, config: &LoraConfig) -> Vec<(String, &'a mut Linear)> {
    let named = |(path, linear): (String, &'a mut Linear)| table.module(&path).map(|name| (name, linear));
    encoder.linears().into_iter().filter_map(named).filter(|(name, _)| config.targets(name)).collect()
}

fn table(encoder: &AnyEncoder) -> Result<&'static WeightTable> {
    let row = encoder.config().architecture().map(|row| row.weights);
    row.ok_or_else(|| Error::new(ErrorKind::Config, "the architecture has no names for its modules"))
}

impl AnyEncoder {
    /// The network with fresh low-rank additions, which add nothing until they are trained. The other
    /// weights no longer learn.
    ///
    /// # Errors
    /// When a setting is out of range, or no linear layer is a target.
    ///
    /// # Reference
    /// PEFT: A is uniform within `1 / sqrt(in)` of 0, B is 0.
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

    /// The network with the additions of a PEFT adapter, not merged. The other weights no longer learn.
    ///
    /// # Errors
    /// When a file is missing or broken, the adapter asks for what is not computed here, or a tensor is
    /// missing, surplus, of another shape or not finite.
    pub fn with_adapter(self, folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        require_folder(folder)?;
        let path = folder.join(CONFIG);
        let config = AdapterConfig::from_folder(folder)?.lora(&path)?;
        let checkpoint = Checkpoint::open_file(&folder.join(WEIGHTS))?;
        let refuse = |problem: String| {
            let path = checkpoint.path().display();
            Error::new(ErrorKind::Checkpoint, format!("{path}: the adapter does not fit this model: {problem}"))
        };
        let table = table(&self)?;
        let mut names = BTreeMap::new();
        for name in checkpoint.names() {
            let bare = name.strip_prefix(WRAPPER).map(|name| table.bare(name));
            let bare = bare.ok_or_else(|| refuse(format!("tensor `{name}` does not begin with {WRAPPER}")))?;
            if !table.ignores(&bare) {
                names.insert(bare, name);
            }
        }
        let mut encoder = self.no_grad();
        let mut found = false;
        for (module, linear) in targets(&mut encoder, table, &config) {
            let [inputs, outputs] = linear.dims();
            let device = linear.device();
            let mut part = |which: &str, wanted: [usize; 2]| {
                let bare = format!("{module}.{which}.weight");
                let name = names.remove(&bare).ok_or_else(|| refuse(format!("tensor `{bare}` is missing")))?;
                let shape = checkpoint.shape(name).unwrap_or_default();
                if shape != wanted {
                    return Err(refuse(format!("tensor `{name}` has shape {shape:?}, expected {wanted:?}")));
                }
                Ok(tensor(checkpoint.read(name, (0, 1), true, Precision::F32)?, &device))
            };
            let (a, b) = (part("lora_A", [config.rank, inputs])?, part("lora_B", [outputs, config.rank])?);
            linear.set_lora(
                Lora::new(inputs, outputs, config.rank, config.scale(), config.dropout, &device).with_weights(a, b),
            );
            found = true;
        }
        if let Some(name) = names.values().next() {
            return Err(refuse(format!("tensor `{name}` is not expected")));
        }
        if found { Ok(encoder) } else { Err(no_target(&config)) }
    }

    /// Writes the network's low-rank additions as a PEFT adapter of the base model of this name.
    ///
    /// # Errors
    /// When the network's additions are not those of this configuration, or a file cannot be written.
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
            let lora = match (linear.lora(), config.targets(&module)) {
                (None, false) => continue,
                (None, true) => return refuse(&module, "has no low-rank addition to be saved"),
                (Some(_), false) => return refuse(&module, "has a low-rank addition but is no target"),
                (Some(lora), true) => lora,
            };
            if lora.rank() != config.rank || lora.scale() != config.scale() {
                return refuse(&module, "has a low-rank addition of another rank or scale");
            }
            let (a, b) = lora.weights();
            for (which, weight) in [("lora_A", a), ("lora_B", b)] {
                let host = HostTensor(weight.transpose().into_data());
                tensors.insert(format!("{WRAPPER}{module}.{which}.weight"), host);
            }
        }
        if tensors.is_empty() {
            return Err(no_target(config));
        }
        create_folder(folder)?;
        let target_modules = match config.target_modules.as_slice() {
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
        write_tensors(&folder.join(WEIGHTS), tensors)?;
        write_json(&folder.join(CONFIG), &settings)
    }

    /// The network with its low-rank additions made a part of its weights.
    #[must_use]
    pub fn merge_lora(mut self) -> Self {
        for (_, linear) in self.linears() {
            linear.merge_lora();
        }
        self
    }
}

/// The settings of a PEFT adapter.
///
/// # Errors
/// When the file is missing or broken, or asks for what is not computed here.
pub fn read_lora_config(folder: impl AsRef<Path>) -> Result<LoraConfig> {
    let folder = folder.as_ref();
    AdapterConfig::from_folder(folder)?.lora(&folder.join(CONFIG))
}

fn tensor(data: TensorData, device: &Device) -> Tensor<2> {
    Tensor::from_data(data, (device, Precision::F32.dtype().into()))
}

fn no_target(config: &LoraConfig) -> Error {
    let message = format!("no linear layer is a target of {:?}", config.target_modules);
    Error::new(ErrorKind::Config, message)
}
