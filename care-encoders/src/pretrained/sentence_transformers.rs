//! The folders of sentence-transformers: a chain of modules, or a `Router` with a chain for each role.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use care_core::{
    Error, ErrorKind, HeadConfig, Pooling, ProjectionActivation, ProjectionConfig, Result, Role, Text, Tower,
    TruncationOrder,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::folder::{create_folder, read_json, require_folder, write_encoder, write_json, write_tokenizer};
use super::layout::hugging_face;
use super::recipe::{PairRecipe, Recipe};
use super::table::PROJECTION;
use super::weights::{HostTensor, write_tensors, write_weights};
use crate::AnyEncoder;

pub(crate) const MODULES: &str = "modules.json";
const ROUTER: &str = "router_config.json";
const SETTINGS: &str = "config_sentence_transformers.json";
/// The files that a `Router` model has beside the folders of its modules.
pub(crate) const ROUTER_FILES: [&str; 3] = [MODULES, ROUTER, SETTINGS];

/// Where a `Transformer` module keeps its settings, by the family of its network.
const TRANSFORMER_SETTINGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// A text longer than this is no limit but the absence of one.
const NO_LIMIT: f64 = 1e9;

const IDENTITY: &str = "torch.nn.modules.linear.Identity";
const TANH: &str = "torch.nn.modules.activation.Tanh";

#[derive(Serialize, Deserialize)]
struct ModuleRow {
    idx: usize,
    name: String,
    path: String,
    #[serde(rename = "type")]
    class: String,
}

#[derive(Serialize, Deserialize)]
struct RouterConfig {
    types: BTreeMap<String, String>,
    structure: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    parameters: Value,
}

/// Settings of the whole model. Only what is read.
#[derive(Deserialize, Default)]
struct Settings {
    #[serde(default)]
    prompts: BTreeMap<String, Option<String>>,
    #[serde(default)]
    truncate_dim: Option<usize>,
}

impl Settings {
    /// The prompt of a role.
    ///
    /// # Reference
    /// `encode_query` takes the prompt `query`, `encode_document` the first that is there of `document`,
    /// `passage` and `corpus`. Neither takes the default prompt. DIFFERENCE: version 6 adds an empty `document`
    /// to settings that lack it, and so never comes to `passage`; the prompt that the authors saved is taken
    /// here, as by version 5.
    fn prompt(&self, role: Role) -> String {
        let names: &[&str] = match role {
            Role::Query => &["query"],
            Role::Document => &["document", "passage", "corpus"],
        };
        names.iter().find_map(|name| self.prompts.get(*name)).cloned().flatten().unwrap_or_default()
    }
}

/// One module of a chain: its class without the path of its package, and its folder.
struct Link {
    class: String,
    folder: PathBuf,
}

/// Reads a folder that has a `modules.json`.
///
/// # Errors
/// When a file is missing or broken, or a module does what our towers do not.
pub(crate) fn read(folder: &Path) -> Result<PairRecipe> {
    let rows: Vec<ModuleRow> = read_json(&folder.join(MODULES))?;
    let settings_path = folder.join(SETTINGS);
    let settings = if settings_path.exists() { read_json(&settings_path)? } else { Settings::default() };
    let mut chain: Vec<Link> = rows.iter().map(|row| link(&row.class, folder.join(&row.path))).collect();
    if chain.first().is_none_or(|first| first.class != "Router") {
        let recipe = |role| recipe(folder, &chain, &settings, role);
        return Ok(PairRecipe { query: recipe(Role::Query)?, document: recipe(Role::Document)? });
    }
    let router = chain.remove(0).folder;
    let config: RouterConfig = read_json(&router.join(ROUTER))?;
    if config
        .parameters
        .get("route_mappings")
        .is_some_and(|mappings| mappings.as_object().is_none_or(|m| !m.is_empty()))
    {
        return Err(Error::format(&router.join(ROUTER), "`route_mappings` are not supported"));
    }
    let recipe = |role: Role| {
        let missing = |what: String| Error::format(&router.join(ROUTER), what);
        let names = config.structure.get(role.as_str());
        let names = names.ok_or_else(|| missing(format!("`structure` has no route `{}`", role.as_str())))?;
        let mut route = Vec::new();
        for name in names {
            let class = config.types.get(name).ok_or_else(|| missing(format!("`types` has no module `{name}`")))?;
            route.push(link(class, router.join(name)));
        }
        // What follows the router follows each of its routes.
        route.extend(rows.iter().skip(1).map(|row| link(&row.class, folder.join(&row.path))));
        self::recipe(folder, &route, &settings, role)
    };
    Ok(PairRecipe { query: recipe(Role::Query)?, document: recipe(Role::Document)? })
}

fn link(class: &str, folder: PathBuf) -> Link {
    Link { class: class.rsplit('.').next().unwrap_or_default().to_owned(), folder }
}

/// The tower that a chain of modules makes.
fn recipe(folder: &Path, chain: &[Link], settings: &Settings, role: Role) -> Result<Recipe> {
    let refuse = |problem: String| Err(Error::new(ErrorKind::Config, format!("{}: {problem}", folder.display())));
    let mut links = chain.iter();
    let mut recipe = match links.next() {
        Some(first) if first.class == "Transformer" => transformer(&first.folder)?,
        Some(first) => return refuse(format!("the first module is a {}, not a Transformer", first.class)),
        None => return refuse(format!("{MODULES} names no module")),
    };
    let mut head: Option<HeadConfig> = None;
    for link in links {
        match (link.class.as_str(), &mut head) {
            ("Pooling", None) => {
                head = Some(HeadConfig { normalize: false, ..HeadConfig::new(pooling(&link.folder)?) })
            }
            ("Dense", Some(head)) if head.projection.is_none() && !head.normalize => {
                head.projection = Some(projection(&link.folder)?);
                recipe.dense = Some(link.folder.clone());
            }
            ("Normalize", Some(head)) => head.normalize = true,
            // Drops nothing in inference, which is all that a saved module says.
            ("Dropout", _) => {}
            (class, _) => return refuse(format!("a module {class} at this place of the chain is not supported")),
        }
    }
    let Some(mut head) = head else { return refuse("the chain of modules has no Pooling".into()) };
    if let Some(dim) = settings.truncate_dim {
        // The cut comes after all modules, and nothing is normalised after it.
        head.dim = Some(dim);
        head.truncation = TruncationOrder::NormalizeThenTruncate;
    }
    recipe.head = Some(head);
    recipe.instruction = settings.prompt(role);
    Ok(recipe)
}

/// A `Transformer` module: a Hugging Face folder with a limit of length.
fn transformer(folder: &Path) -> Result<Recipe> {
    #[derive(Deserialize, Default)]
    struct Settings {
        max_seq_length: Option<usize>,
        #[serde(default)]
        do_lower_case: bool,
        transformer_task: Option<String>,
    }
    #[derive(Deserialize)]
    struct TokenizerSettings {
        model_max_length: Option<f64>,
    }
    require_folder(folder)?;
    let path = TRANSFORMER_SETTINGS.iter().map(|name| folder.join(name)).find(|path| path.exists());
    let settings: Settings = path.as_deref().map(read_json).transpose()?.unwrap_or_default();
    let refuse = |field: &str, value: &str| {
        let path = path.clone().unwrap_or_default();
        Err(Error::format(&path, format!("`{field}` {value} is not supported")))
    };
    if settings.do_lower_case {
        return refuse("do_lower_case", "true");
    }
    if let Some(task) = settings.transformer_task.filter(|task| task != "feature-extraction") {
        return refuse("transformer_task", &task);
    }
    let mut recipe = hugging_face(folder)?;
    let tokenizer = folder.join("tokenizer_config.json");
    let announced = match tokenizer.exists() {
        true => read_json::<TokenizerSettings>(&tokenizer)?.model_max_length.filter(|length| *length < NO_LIMIT),
        false => None,
    };
    // Without any limit, the network's positions are one.
    let announced = announced.map_or(usize::MAX, |length| length as usize);
    recipe.max_length = Some(settings.max_seq_length.unwrap_or(announced));
    Ok(recipe)
}

/// The pooling of a `Pooling` module, in the newer or the older form of its settings.
fn pooling(folder: &Path) -> Result<Pooling> {
    #[derive(Deserialize)]
    struct Settings {
        pooling_mode: Option<Value>,
        #[serde(default)]
        pooling_mode_cls_token: bool,
        #[serde(default)]
        pooling_mode_mean_tokens: bool,
        #[serde(default)]
        pooling_mode_max_tokens: bool,
        #[serde(default)]
        pooling_mode_mean_sqrt_len_tokens: bool,
        #[serde(default)]
        pooling_mode_weightedmean_tokens: bool,
        #[serde(default)]
        pooling_mode_lasttoken: bool,
        #[serde(default = "yes")]
        include_prompt: bool,
    }
    fn yes() -> bool {
        true
    }
    let path = folder.join("config.json");
    let settings: Settings = read_json(&path)?;
    if !settings.include_prompt {
        return Err(Error::format(&path, "`include_prompt` false is not supported"));
    }
    let older = [
        ("cls", settings.pooling_mode_cls_token),
        ("mean", settings.pooling_mode_mean_tokens),
        ("max", settings.pooling_mode_max_tokens),
        ("mean_sqrt_len_tokens", settings.pooling_mode_mean_sqrt_len_tokens),
        ("weightedmean", settings.pooling_mode_weightedmean_tokens),
        ("lasttoken", settings.pooling_mode_lasttoken),
    ];
    let modes: Vec<String> = match settings.pooling_mode {
        Some(Value::String(mode)) => vec![mode],
        Some(Value::Array(modes)) => modes.iter().map(|mode| mode.as_str().unwrap_or_default().to_owned()).collect(),
        _ => older.iter().filter(|(_, set)| *set).map(|(mode, _)| (*mode).to_owned()).collect(),
    };
    match modes.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["cls"] => Ok(Pooling::Cls),
        ["mean"] => Ok(Pooling::Mean),
        ["lasttoken"] => Ok(Pooling::LastToken),
        other => Err(Error::format(&path, format!("pooling {other:?} is not supported, only cls, mean or lasttoken"))),
    }
}

/// The settings of a `Dense` module.
fn projection(folder: &Path) -> Result<ProjectionConfig> {
    #[derive(Deserialize)]
    struct Settings {
        out_features: usize,
        #[serde(default = "yes")]
        bias: bool,
        activation_function: Option<String>,
        module_input_name: Option<String>,
        #[serde(default)]
        use_residual: bool,
    }
    fn yes() -> bool {
        true
    }
    let path = folder.join("config.json");
    let settings: Settings = read_json(&path)?;
    if settings.use_residual || settings.module_input_name.is_some_and(|name| name != "sentence_embedding") {
        return Err(Error::format(&path, "a Dense with a residual or another input than the pooled is not supported"));
    }
    let activation = match settings.activation_function.as_deref() {
        Some(IDENTITY) => ProjectionActivation::Identity,
        Some(TANH) | None => ProjectionActivation::Tanh,
        Some(other) => {
            let problem = format!("`activation_function` {other} is not supported, only {IDENTITY} or {TANH}");
            return Err(Error::format(&path, problem));
        }
    };
    Ok(ProjectionConfig { outputs: settings.out_features, bias: settings.bias, activation })
}

/// Saves one tower as a folder that sentence-transformers loads, and [`load_tower`](crate::load_tower).
///
/// The prompt of the tower's role is its instruction; one with text after `{text}` has no form there and is
/// refused.
///
/// # Errors
/// When the folder is not empty, the instruction is no prefix, or a file cannot be written.
pub fn save_tower<T: Text>(folder: &Path, tower: &Tower<T, AnyEncoder>) -> Result<()> {
    let taken = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if taken {
        return Err(Error::new(ErrorKind::Io, format!("{}: the folder is not empty", folder.display())));
    }
    let Some(prompt) = tower.instruction().prefix() else {
        let template = tower.instruction().template();
        let message = format!("the instruction {template:?} is no prefix, and sentence-transformers has no templates");
        return Err(Error::new(ErrorKind::Config, message));
    };
    let head = tower.network().head();
    let cut_last = head.truncation == TruncationOrder::NormalizeThenTruncate && head.normalize;
    let mut rows = Vec::new();
    let modules = match (&head.projection, head.dim) {
        // A chain has one Dense, so the cut of a learned projection is made in its matrix.
        (Some(projection), Some(dim)) if !cut_last => {
            let normalize = head.normalize.then_some(Module::Normalize);
            let projection = Module::Projection(ProjectionConfig { outputs: dim, ..projection.clone() });
            [Module::Transformer, Module::Pooling(head.pooling), projection].into_iter().chain(normalize).collect()
        }
        _ => modules(tower, !cut_last),
    };
    for (idx, module) in modules.iter().enumerate() {
        let path = if idx == 0 { String::new() } else { format!("{idx}_{}", module.class()) };
        module.write(&folder.join(&path), tower)?;
        rows.push(ModuleRow { idx, name: idx.to_string(), path, class: module.full_class() });
    }
    let truncate_dim = if cut_last { head.dim } else { None };
    write_settings(folder, &[(T::ROLE, prompt)], truncate_dim)?;
    write_json(&folder.join(MODULES), &rows)
}

/// Writes a tower's modules as a route of a `Router`.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write_route<T: Text>(folder: &Path, tower: &Tower<T, AnyEncoder>) -> Result<Route> {
    let role = T::ROLE;
    let mut modules = Vec::new();
    for (idx, module) in self::modules(tower, true).into_iter().enumerate() {
        let name = module_folder(role, idx, module.class());
        module.write(&folder.join(&name), tower)?;
        modules.push((name, module.full_class()));
    }
    Ok(Route { role, modules, prompt: tower.instruction().prefix().unwrap_or_default().to_owned() })
}

/// A route that was written: its modules' folders and classes, and the prompt of its role.
pub(crate) struct Route {
    role: Role,
    modules: Vec<(String, String)>,
    prompt: String,
}

/// The folder of a module in a `Router` model.
pub(crate) fn module_folder(role: Role, idx: usize, class: &str) -> String {
    format!("{}_{idx}_{class}", role.as_str())
}

/// Whether this is the name of a folder that [`module_folder`] gives.
pub(crate) fn is_module_folder(name: &str) -> bool {
    let parts: Vec<&str> = name.split('_').collect();
    let [role, idx, class] = parts.as_slice() else { return false };
    [Role::Query, Role::Document].iter().any(|known| known.as_str() == *role)
        && idx.parse::<usize>().is_ok()
        && ["Transformer", "Pooling", "Dense", "Normalize"].contains(class)
}

/// The folder of the learned projection of a role in a pair of ours.
pub(crate) fn projection_folder(role: Role) -> String {
    module_folder(role, 2, "Dense")
}

/// The folder of the network of a role in a pair of ours.
pub(crate) fn transformer_folder(role: Role) -> String {
    module_folder(role, 0, "Transformer")
}

/// Writes the files that make two routes one model; `modules.json`, without which there is none, last.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write_router(folder: &Path, routes: &[Route]) -> Result<()> {
    let names = |route: &Route| route.modules.iter().map(|(name, _)| name.clone()).collect();
    let config = RouterConfig {
        types: routes.iter().flat_map(|route| route.modules.iter().cloned()).collect(),
        structure: routes.iter().map(|route| (route.role.as_str().to_owned(), names(route))).collect(),
        parameters: json!({"default_route": Role::Query.as_str(), "allow_empty_key": true}),
    };
    write_json(&folder.join(ROUTER), &config)?;
    let prompts: Vec<(Role, &str)> = routes.iter().map(|route| (route.role, route.prompt.as_str())).collect();
    write_settings(folder, &prompts, None)?;
    let row = ModuleRow { idx: 0, name: "0".into(), path: String::new(), class: full_class("Router") };
    write_json(&folder.join(MODULES), &[row])
}

fn write_settings(folder: &Path, prompts: &[(Role, &str)], truncate_dim: Option<usize>) -> Result<()> {
    let mut named = BTreeMap::from([("query", ""), ("document", "")]);
    named.extend(prompts.iter().map(|(role, prompt)| (role.as_str(), *prompt)));
    let mut settings = json!({
        "prompts": named,
        "default_prompt_name": null,
        "similarity_fn_name": "dot",
        "model_type": "SentenceTransformer",
    });
    if let Some(dim) = truncate_dim {
        settings["truncate_dim"] = dim.into();
    }
    write_json(&folder.join(SETTINGS), &settings)
}

/// The package path that every version from 2 on knows.
fn full_class(class: &str) -> String {
    format!("sentence_transformers.models.{class}")
}

/// A module of a tower of ours.
enum Module {
    Transformer,
    Pooling(Pooling),
    /// The learned projection, or its first outputs.
    Projection(ProjectionConfig),
    /// Keeps the first `dim` components: a `Dense` whose matrix is the identity's first rows.
    Cut {
        width: usize,
        dim: usize,
    },
    Normalize,
}

/// The chain that computes what a tower computes. A cut that comes last of all is left out without `cut_last`.
fn modules<T: Text>(tower: &Tower<T, AnyEncoder>, cut_last: bool) -> Vec<Module> {
    let head = tower.network().head();
    let mut modules = vec![Module::Transformer, Module::Pooling(head.pooling)];
    modules.extend(head.projection.clone().map(Module::Projection));
    let width = head.projection.as_ref().map_or(tower.network().hidden_size(), |projection| projection.outputs);
    let cut = head.dim.filter(|dim| *dim < width).map(|dim| Module::Cut { width, dim });
    let normalize = head.normalize.then_some(Module::Normalize);
    if head.truncation == TruncationOrder::NormalizeThenTruncate {
        modules.extend(normalize);
        modules.extend(cut.filter(|_| cut_last));
    } else {
        modules.extend(cut);
        modules.extend(normalize);
    }
    modules
}

impl Module {
    fn class(&self) -> &'static str {
        match self {
            Module::Transformer => "Transformer",
            Module::Pooling(_) => "Pooling",
            Module::Projection(_) | Module::Cut { .. } => "Dense",
            Module::Normalize => "Normalize",
        }
    }

    fn full_class(&self) -> String {
        full_class(self.class())
    }

    fn write<T: Text>(&self, folder: &Path, tower: &Tower<T, AnyEncoder>) -> Result<()> {
        create_folder(folder)?;
        let config = folder.join("config.json");
        let network = tower.network();
        match self {
            Module::Transformer => {
                let encoder = network.encoder().clone().merge_lora();
                write_encoder(folder, &encoder)?;
                write_tokenizer(folder, tower.tokenizer(), &encoder)?;
                let settings = json!({"max_seq_length": tower.tokenizer().max_length(), "do_lower_case": false});
                write_json(&folder.join(TRANSFORMER_SETTINGS[0]), &settings)
            }
            // The older form of these settings, which every version reads.
            Module::Pooling(pooling) => write_json(
                &config,
                &json!({
                    "word_embedding_dimension": network.hidden_size(),
                    "pooling_mode_cls_token": *pooling == Pooling::Cls,
                    "pooling_mode_mean_tokens": *pooling == Pooling::Mean,
                    "pooling_mode_max_tokens": false,
                    "pooling_mode_mean_sqrt_len_tokens": false,
                    "pooling_mode_weightedmean_tokens": false,
                    "pooling_mode_lasttoken": *pooling == Pooling::LastToken,
                    "include_prompt": true,
                }),
            ),
            Module::Projection(projection) => {
                let activation = match projection.activation {
                    ProjectionActivation::Identity => IDENTITY,
                    ProjectionActivation::Tanh => TANH,
                };
                write_json(&config, &dense(network.hidden_size(), projection.outputs, projection.bias, activation))?;
                let path = folder.join("model.safetensors");
                network.projection().map_or(Ok(()), |weights| {
                    write_weights(&path, &PROJECTION, &weights.clone().first_outputs(projection.outputs))
                })
            }
            Module::Cut { width, dim } => {
                write_json(&config, &dense(*width, *dim, false, IDENTITY))?;
                let values: Vec<f32> = (0..dim * width).map(|i| f32::from(u8::from(i % width == i / width))).collect();
                let weight = HostTensor(TensorData::new(values, [*dim, *width]));
                write_tensors(&folder.join("model.safetensors"), BTreeMap::from([("linear.weight".to_owned(), weight)]))
            }
            Module::Normalize => write_json(&config, &json!({})),
        }
    }
}

fn dense(inputs: usize, outputs: usize, bias: bool, activation: &str) -> Value {
    json!({"in_features": inputs, "out_features": outputs, "bias": bias, "activation_function": activation})
}
