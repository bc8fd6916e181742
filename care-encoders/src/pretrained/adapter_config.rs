//! The settings of PEFT adapters: `adapter_config.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use care_core::{Error, Result};
use fancy_regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::folder::{CONFIG as NETWORK, read_json};
use super::lora_config::{ALL_LINEAR, LoraConfig, MOST_RANK, ends_with_name};

pub(crate) const CONFIG: &str = "adapter_config.json";

/// The fields of an `adapter_config.json` that are used, and all others as they are.
#[derive(Deserialize)]
struct AdapterFields {
    base_model_name_or_path: Option<String>,
    peft_type: Option<String>,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    lora_bias: bool,
    bias: Option<String>,
    target_modules: Value,
    #[serde(default)]
    exclude_modules: Value,
    #[serde(default)]
    layers_to_transform: Value,
    #[serde(default)]
    layers_pattern: Value,
    #[serde(default)]
    modules_to_save: Value,
    #[serde(default)]
    rank_pattern: Option<BTreeMap<String, usize>>,
    #[serde(default)]
    alpha_pattern: Option<BTreeMap<String, f64>>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Features of PEFT that are not computed: their fields, with the values that turn them off besides null.
fn neutral_fields() -> [(&'static str, Vec<Value>); 10] {
    let off = || vec![json!(false), json!([]), json!({})];
    // Other initialisations (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) change the base weights on loading.
    let starts = [json!(true), json!(false), json!("gaussian"), json!("orthogonal"), json!("eva"), json!("mica")];
    [
        ("layer_replication", off()),
        ("trainable_token_indices", off()),
        ("target_parameters", off()),
        ("use_qalora", off()),
        ("use_bdlora", off()),
        ("alora_invocation_tokens", off()),
        ("arrow_config", off()),
        ("kasa_config", off()),
        ("monteclora_config", off()),
        ("init_lora_weights", starts.to_vec()),
    ]
}

/// The settings of an adapter, ready to be applied.
///
/// # Reference
/// `LoraConfig` and `check_target_module_exists` of PEFT 0.21. Module names are those of the wrapped network, with the
/// checkpoint's prefix. `fan_in_fan_out` has no effect on linear layers, there as here.
#[derive(Debug)]
pub(crate) struct AdapterConfig {
    path: PathBuf,
    /// The name or path of the base model.
    pub(crate) base_model: Option<String>,
    /// Rank, scale and targets as far as [`LoraConfig`] has them.
    lora: LoraConfig,
    targets: Modules,
    excluded: Option<Modules>,
    layers: Option<Layers>,
    /// Ends of the names of modules whose weights the adapter replaces.
    whole: Vec<String>,
    /// The same as patterns of modules, and what is in them, that have no LoRA.
    kept: Vec<Regex>,
    /// In alphabetical order, in which PEFT writes them; the first that matches counts.
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f64)>,
    bias: Bias,
    /// Whether the adapter is a DoRA, which has a magnitude per output.
    pub(crate) dora: bool,
    /// Whether the second matrix of each LoRA has a bias.
    pub(crate) lora_bias: bool,
    /// The first field that [`LoraConfig`] has no place for.
    foreign: Option<&'static str>,
}

/// A choice of modules by name.
#[derive(Debug)]
enum Modules {
    /// Names, or their ends after a dot.
    Names(Vec<String>),
    /// A regular expression for whole names.
    Pattern(Regex),
    AllLinear,
}

/// A choice of layers by number.
#[derive(Debug)]
struct Layers {
    numbers: Vec<u64>,
    /// Expressions whose group `idx` is the layer's number.
    patterns: Vec<Regex>,
}

/// The biases that were trained with the adapter.
#[derive(Debug, PartialEq)]
enum Bias {
    None,
    All,
    LoraOnly,
}

impl AdapterConfig {
    /// Reads the settings of an adapter.
    ///
    /// # Errors
    /// If the file is missing or broken, or uses an unsupported feature.
    pub(crate) fn from_folder(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG);
        let fields: AdapterFields = read_json(&path)?;
        let refuse = |problem: String| Err(Error::format(&path, problem));
        if let Some(kind) = fields.peft_type.filter(|kind| kind != "LORA") {
            return refuse(format!("`peft_type` {kind} is not supported, only LORA"));
        }
        for (field, neutral) in neutral_fields() {
            if let Some(value) = fields.others.get(field)
                && !value.is_null()
                && !neutral.contains(value)
            {
                return refuse(format!("`{field}` {value} is not supported"));
            }
        }
        // PEFT turns its variants on by such fields; one that is not known here would change what is computed.
        let known = ["use_qalora", "use_bdlora"];
        let variant = |(field, value): &(&String, &Value)| field.starts_with("use_") && **value == json!(true);
        if let Some((field, _)) =
            fields.others.iter().filter(|(field, _)| !known.contains(&field.as_str())).find(variant)
        {
            return refuse(format!("`{field}` true is not supported"));
        }
        let bias = match fields.bias.as_deref() {
            None | Some("none") => Bias::None,
            Some("all") => Bias::All,
            Some("lora_only") => Bias::LoraOnly,
            Some(other) => return refuse(format!("`bias` {other:?} is not supported, only none, all or lora_only")),
        };
        let in_file = |e: Error| e.in_file(&path);
        let targets = modules("target_modules", &fields.target_modules).map_err(in_file)?;
        let target_modules = match &targets {
            Modules::Names(names) => names.clone(),
            Modules::AllLinear => vec![ALL_LINEAR.to_owned()],
            Modules::Pattern(_) => Vec::new(),
        };
        let excluded = match &fields.exclude_modules {
            value if is_empty(value) => None,
            value => Some(modules("exclude_modules", value).map_err(in_file)?),
        };
        let layers = layers(&fields.layers_to_transform, &fields.layers_pattern).map_err(in_file)?;
        if layers.is_some() && !matches!(targets, Modules::Names(_)) {
            return refuse("`layers_to_transform` cannot be used when `target_modules` is a string".into());
        }
        let whole = names("modules_to_save", &fields.modules_to_save).map_err(in_file)?;
        let mut kept = Vec::new();
        for name in &whole {
            kept.push(regex("modules_to_save", &format!(r"\A(?:.*\.)?(?:{name})(?:\z|\.)")).map_err(in_file)?);
        }
        let ranks = patterns("rank_pattern", fields.rank_pattern).map_err(in_file)?;
        if let Some((_, rank)) = ranks.iter().find(|(_, rank)| !(1..=MOST_RANK).contains(rank)) {
            return Err(Error::setting("rank_pattern", rank, &format!("1..={MOST_RANK}")).in_file(&path));
        }
        let alphas = patterns("alpha_pattern", fields.alpha_pattern).map_err(in_file)?;
        if fields.use_dora && fields.lora_bias {
            return refuse("`lora_bias` cannot be used with `use_dora`".into());
        }
        let (rank, alpha, dropout, rs_lora) = (fields.r, fields.lora_alpha, fields.lora_dropout, fields.use_rslora);
        let lora = LoraConfig { rank, alpha, dropout, target_modules, rs_lora };
        lora.check().map_err(in_file)?;
        let foreign = [
            ("target_modules", matches!(targets, Modules::Pattern(_))),
            ("exclude_modules", excluded.is_some()),
            ("layers_to_transform", layers.is_some()),
            ("modules_to_save", !whole.is_empty()),
            ("rank_pattern", !ranks.is_empty()),
            ("alpha_pattern", !alphas.is_empty()),
            ("bias", bias != Bias::None),
            ("use_dora", fields.use_dora),
            ("lora_bias", fields.lora_bias),
        ];
        let foreign = foreign.into_iter().find(|(_, set)| *set).map(|(field, _)| field);
        Ok(Self {
            path,
            base_model: fields.base_model_name_or_path,
            lora,
            targets,
            excluded,
            layers,
            whole,
            kept,
            ranks,
            alphas,
            bias,
            dora: fields.use_dora,
            lora_bias: fields.lora_bias,
            foreign,
        })
    }

    /// The adapter's settings, if they are all that it consists of.
    ///
    /// # Errors
    /// If a field is set that [`LoraConfig`] has no place for.
    pub(crate) fn into_lora(self) -> Result<LoraConfig> {
        match self.foreign {
            None => Ok(self.lora),
            Some(field) => {
                let problem = format!("`{field}` has no place in the settings of a LoRA adapter that is trained here");
                Err(Error::format(&self.path, problem))
            }
        }
    }

    /// Dropout probability of the inputs of every LoRA.
    pub(crate) fn dropout(&self) -> f64 {
        self.lora.dropout
    }

    /// Rank and scale of a module's LoRA.
    pub(crate) fn rank_and_scale(&self, module: &str) -> Result<(usize, f64)> {
        let mut lora = LoraConfig { target_modules: Vec::new(), ..self.lora.clone() };
        if let Some(rank) = self.first(&self.ranks, module)? {
            lora.rank = rank;
        }
        if let Some(alpha) = self.first(&self.alphas, module)? {
            lora.alpha = alpha;
        }
        Ok((lora.rank, lora.scale()))
    }

    fn first<T: Copy>(&self, entries: &[(Regex, T)], module: &str) -> Result<Option<T>> {
        for (pattern, value) in entries {
            if self.matches(pattern, module)? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }

    /// Whether a linear layer has a LoRA.
    pub(crate) fn targets(&self, module: &str) -> Result<bool> {
        if let Some(excluded) = &self.excluded
            && self.contains(excluded, module)?
        {
            return Ok(false);
        }
        for kept in &self.kept {
            if self.matches(kept, module)? {
                return Ok(false);
            }
        }
        if !self.contains(&self.targets, module)? {
            return Ok(false);
        }
        let Some(layers) = &self.layers else { return Ok(true) };
        for pattern in &layers.patterns {
            let found = pattern.captures(module).map_err(|e| self.unusable(pattern, &e))?;
            if let Some(number) = found.and_then(|found| found.name("idx").map(|number| number.as_str().parse::<u64>()))
            {
                return Ok(number.is_ok_and(|number| layers.numbers.contains(&number)));
            }
        }
        Ok(false)
    }

    /// Whether the adapter replaces a parameter of a module, `weight` or `bias`.
    pub(crate) fn replaces(&self, module: &str, parameter: &str) -> Result<bool> {
        // The module itself or one that it is a part of.
        let mut part_of = std::iter::successors(Some(module), |name| Some(name.rsplit_once('.')?.0));
        if part_of.any(|name| self.whole.iter().any(|whole| name.ends_with(whole.as_str()))) {
            return Ok(true);
        }
        match self.bias {
            Bias::None => Ok(false),
            Bias::All => Ok(parameter == "bias"),
            Bias::LoraOnly => Ok(parameter == "bias" && self.targets(module)?),
        }
    }

    fn contains(&self, modules: &Modules, module: &str) -> Result<bool> {
        match modules {
            Modules::AllLinear => Ok(true),
            Modules::Names(names) => Ok(names.iter().any(|name| ends_with_name(module, name))),
            Modules::Pattern(pattern) => self.matches(pattern, module),
        }
    }

    fn matches(&self, pattern: &Regex, module: &str) -> Result<bool> {
        pattern.is_match(module).map_err(|e| self.unusable(pattern, &e))
    }

    fn unusable(&self, pattern: &Regex, error: &fancy_regex::Error) -> Error {
        Error::format(&self.path, format!("the pattern {:?} cannot be matched: {error}", pattern.as_str()))
    }

    /// The error of an adapter without an effect.
    pub(crate) fn no_target(&self) -> Error {
        Error::format(&self.path, "`target_modules` match no linear layer")
    }

    /// The folder of the base model, if it is a local one: named relative to `folder` or to the working directory.
    pub(crate) fn base_folder(&self, folder: &Path) -> Result<PathBuf> {
        let named = self.base_model.as_deref().unwrap_or_default();
        let candidates = [folder.join(named), PathBuf::from(named)];
        let base = candidates.into_iter().find(|base| !named.is_empty() && base.join(NETWORK).exists());
        base.ok_or_else(|| {
            let problem = "is not a local folder; load it and pass this folder as its adapter";
            Error::format(&self.path, format!("the base model {named:?} {problem}"))
        })
    }
}

/// Reads the settings of a PEFT adapter folder.
///
/// # Errors
/// If the file is missing or broken, uses an unsupported feature, or has settings that [`LoraConfig`] lacks, e.g.
/// `rank_pattern` or `use_dora`; such adapters can be loaded and merged only.
pub fn read_lora_config(folder: impl AsRef<Path>) -> Result<LoraConfig> {
    AdapterConfig::from_folder(folder.as_ref())?.into_lora()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// A list of strings; empty for null.
fn names(field: &str, value: &Value) -> Result<Vec<String>> {
    let wrong = || Error::setting(field, value, "a list of names");
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => items.iter().map(|name| name.as_str().map(str::to_owned).ok_or_else(wrong)).collect(),
        _ => Err(wrong()),
    }
}

/// Values by patterns of module names, or of their ends after a dot.
fn patterns<T>(field: &str, map: Option<BTreeMap<String, T>>) -> Result<Vec<(Regex, T)>> {
    let entries = map.into_iter().flatten();
    entries.map(|(key, value)| Ok((regex(field, &format!(r"\A(?:.*\.)?(?:{key})\z"))?, value))).collect()
}

/// A list of names, or a regular expression for whole names.
fn modules(field: &str, value: &Value) -> Result<Modules> {
    match value {
        Value::String(all) if all == ALL_LINEAR && field == "target_modules" => Ok(Modules::AllLinear),
        Value::String(pattern) => regex(field, &format!(r"\A(?:{pattern})\z")).map(Modules::Pattern),
        Value::Array(_) => names(field, value).map(Modules::Names),
        _ => Err(Error::setting(field, value, "a list of names or a regular expression")),
    }
}

fn layers(numbers: &Value, patterns: &Value) -> Result<Option<Layers>> {
    let field = "layers_to_transform";
    if is_empty(numbers) {
        return match is_empty(patterns) {
            true => Ok(None),
            false => Err(Error::setting("layers_pattern", patterns, "only with `layers_to_transform`")),
        };
    }
    let listed = numbers.as_array().map_or_else(|| vec![numbers.clone()], Vec::clone);
    let numbers = listed.iter().map(|number| {
        number.as_u64().ok_or_else(|| Error::setting(field, numbers, "the number of a layer, or a list of them"))
    });
    let numbers = numbers.collect::<Result<_>>()?;
    let patterns = match patterns {
        patterns if is_empty(patterns) => vec![r"\A.*?\.[^.]*\.(?P<idx>\d+)\.".to_owned()],
        Value::String(name) => vec![of_layers(name)],
        listed => names("layers_pattern", listed)?.iter().map(|name| of_layers(name)).collect(),
    };
    let patterns = patterns.iter().map(|pattern| regex("layers_pattern", pattern)).collect::<Result<_>>()?;
    Ok(Some(Layers { numbers, patterns }))
}

/// The expression that finds a layer's number after the name of the list of layers.
fn of_layers(name: &str) -> String {
    format!(r"\A(?:|.*?\.)(?:{name})\.(?P<idx>\d+)\.")
}

fn regex(field: &str, pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|e| Error::setting(field, format!("{pattern:?}"), "regular expressions").with_source(e))
}
