//! PEFT adapters: reads, initialises, writes and merges the LoRA adapters of a network.

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
/// Prefix that PEFT adds to every module of the wrapped network.
const WRAPPER: &str = "base_model.model.";
/// The target that means every linear layer.
const ALL_LINEAR: &str = "all-linear";
/// The highest rank: above, an adapter is larger than the layers of any published encoder.
const MOST_RANK: usize = 4096;

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
    /// [`ErrorKind::Config`] if a field is out of range.
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

    fn targets(&self, module: &str) -> bool {
        self.target_modules.iter().any(|target| {
            target == ALL_LINEAR
                || module == target
                || module.strip_suffix(target).is_some_and(|rest| rest.ends_with('.'))
        })
    }
}

/// An `adapter_config.json`: the fields that are used, and all others as they are.
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

/// Unsupported features of PEFT: their fields, with the values that turn them off.
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
        // Other initialisations (PiSSA, OLoRA, CorDA, LoftQ) change the base weights on loading.
        ("init_lora_weights", vec![json!(true), json!(false), json!("gaussian"), json!("orthogonal"), json!("eva")]),
    ]
}

impl AdapterConfig {
    /// Reads the settings of an adapter.
    ///
    /// # Errors
    /// If the file is missing or broken, or uses an unsupported feature.
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

/// The linear layers that an adapter targets, each with its name in checkpoints.
fn targets<'a>(encoder: &'a mut AnyEncoder, table: &WeightTable, config: &LoraConfig) -> Vec<(String, &'a mut Linear)> {
    let named = |(path, linear): (String, &'a mut Linear)| table.module(&path).map(|name| (name, linear));
    encoder.linears().into_iter().filter_map(named).filter(|(name, _)| config.targets(name)).collect()
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
    /// # Errors
    /// If a file is missing or broken, the adapter uses an unsupported feature, or a tensor is missing, unexpected, of
    /// the wrong shape or not finite.
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
            let bare = bare.ok_or_else(|| refuse(format!("tensor `{name}` does not start with {WRAPPER}")))?;
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
            let lora = match (linear.lora(), config.targets(&module)) {
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

    /// Merges the LoRA adapters into the weights.
    #[must_use]
    pub fn merge_lora(mut self) -> Self {
        for (_, linear) in self.linears() {
            linear.merge_lora();
        }
        self
    }
}

/// Reads the settings of a PEFT adapter folder.
///
/// # Errors
/// If the file is missing or broken, or uses an unsupported feature.
pub fn read_lora_config(folder: impl AsRef<Path>) -> Result<LoraConfig> {
    let folder = folder.as_ref();
    AdapterConfig::from_folder(folder)?.lora(&folder.join(CONFIG))
}

fn tensor(data: TensorData, device: &Device) -> Tensor<2> {
    Tensor::from_data(data, (device, Precision::F32.dtype().into()))
}

fn no_target(config: &LoraConfig) -> Error {
    let message = format!("`target_modules` {:?} match no linear layer", config.target_modules);
    Error::new(ErrorKind::Config, message)
}
