//! Reads the towers of a sentence-transformers folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use care_core::{Error, ErrorKind, Result, Role};
use serde::Deserialize;
use serde_json::Value;

use super::form::{IDENTITY, MODULES, ModuleRow, ROUTER, RouterConfig, SETTINGS, TANH, TRANSFORMER_SETTINGS};
use crate::head::{HeadConfig, Pooling, ProjectionActivation, ProjectionConfig, TruncationOrder};
use crate::pretrained::folder::{CONFIG, TOKENIZER_CONFIG, read_json, require_folder};
use crate::pretrained::recipe::{PairRecipe, Recipe, hugging_face};
use crate::summary::{Source, Sources};

/// A `model_max_length` from here on means no limit.
const NO_LIMIT: f64 = 1e9;

/// The settings of the whole model that are used.
#[derive(Deserialize, Default)]
struct Settings {
    #[serde(default)]
    prompts: BTreeMap<String, Option<String>>,
    #[serde(default)]
    truncate_dim: Option<usize>,
    #[serde(default)]
    similarity_fn_name: Option<String>,
}

impl Settings {
    /// The prompt of a role.
    ///
    /// # Reference
    /// `encode_query` uses the prompt `query`, `encode_document` the first existing one of `document`, `passage` and
    /// `corpus`. Neither uses the default prompt. DIFFERENCE: version 6 adds an empty `document` to settings without
    /// one, and so never gets to `passage`; here the saved prompt is used, as in version 5.
    fn prompt(&self, role: Role) -> Option<&str> {
        let names: &[&str] = match role {
            Role::Query => &["query"],
            Role::Document => &["document", "passage", "corpus"],
        };
        names.iter().find_map(|name| self.prompts.get(*name))?.as_deref()
    }

    /// Completes the head of a chain by what vectors are compared with, which is the cosine unless the settings say
    /// otherwise. Its ranking is that of the dot product of normalised vectors, which is what this crate compares with.
    ///
    /// DIFFERENCE: for the cosine, vectors are of length 1 also where the chain has no `Normalize` or a truncation
    /// follows it. Those of `encode` have the same directions, and sentence-transformers divides by their lengths.
    ///
    /// Returns the name if the similarity is neither of the two.
    fn compare(&self, head: &mut HeadConfig, sources: &mut Sources) -> Option<String> {
        if self.truncate_dim.is_some() {
            sources.dim = Source::File(SETTINGS.to_owned());
        }
        sources.normalize = match (head.normalize, &self.similarity_fn_name) {
            (true, _) => Source::File(MODULES.to_owned()),
            (false, Some(_)) => Source::File(SETTINGS.to_owned()),
            (false, None) => Source::SentenceTransformers,
        };
        head.dim = self.truncate_dim;
        match self.similarity_fn_name.as_deref() {
            None | Some("cosine") => head.normalize = true,
            // The distance of unit vectors ranks as their dot product does.
            Some("euclidean") if head.normalize && head.dim.is_none() => {}
            other => {
                // Truncation comes after all modules, and nothing is normalised after it.
                if head.dim.is_some() {
                    head.truncation = TruncationOrder::NormalizeThenTruncate;
                }
                return other.filter(|name| *name != "dot").map(str::to_owned);
            }
        }
        None
    }
}

/// One module of a chain: its class without the package path, and its folder.
struct Link {
    class: String,
    folder: PathBuf,
}

/// Reads a folder with a `modules.json`.
///
/// # Errors
/// If a file is missing or broken, or a module is not supported.
pub(crate) fn read(folder: &Path) -> Result<PairRecipe> {
    let rows: Vec<ModuleRow> = read_json(&folder.join(MODULES))?;
    let settings_path = folder.join(SETTINGS);
    let settings = if settings_path.exists() { read_json(&settings_path)? } else { Settings::default() };
    let mut chain: Vec<Link> = rows.iter().map(|row| link(&row.class, folder.join(&row.path))).collect();
    if chain.first().is_none_or(|first| first.class != "Router") {
        let recipe = |role| recipe(folder, &chain, &settings, role);
        return Ok(PairRecipe::new(recipe(Role::Query)?, recipe(Role::Document)?));
    }
    let router = chain.remove(0).folder;
    let config: RouterConfig = read_json(&router.join(ROUTER))?;
    if config
        .parameters
        .get("route_mappings")
        .is_some_and(|mappings| mappings.as_object().is_none_or(|m| !m.is_empty()))
    {
        return Err(Error::format(router.join(ROUTER), "`route_mappings` are not supported"));
    }
    let recipe = |role: Role| {
        let missing = |what: String| Error::format(router.join(ROUTER), what);
        let names = config.structure.get(role.as_str());
        let names = names.ok_or_else(|| missing(format!("`structure` has no route `{}`", role.as_str())))?;
        let mut route = Vec::new();
        for name in names {
            let class = config.types.get(name).ok_or_else(|| missing(format!("`types` has no module `{name}`")))?;
            route.push(link(class, router.join(name)));
        }
        // Modules after the router apply to each of its routes.
        route.extend(rows.iter().skip(1).map(|row| link(&row.class, folder.join(&row.path))));
        self::recipe(folder, &route, &settings, role)
    };
    Ok(PairRecipe::new(recipe(Role::Query)?, recipe(Role::Document)?))
}

fn link(class: &str, folder: PathBuf) -> Link {
    Link { class: class.rsplit('.').next().unwrap_or_default().to_owned(), folder }
}

/// The tower that a chain of modules describes.
fn recipe(folder: &Path, chain: &[Link], settings: &Settings, role: Role) -> Result<Recipe> {
    let refuse = |problem: String| Err(Error::new(ErrorKind::Config, format!("{}: {problem}", folder.display())));
    let mut links = chain.iter();
    let mut recipe = match links.next() {
        Some(first) if first.class == "Transformer" => transformer(folder, &first.folder)?,
        Some(first) => return refuse(format!("the first module is a {}, not a Transformer", first.class)),
        None => return refuse(format!("{MODULES} lists no modules")),
    };
    let mut head: Option<HeadConfig> = None;
    for link in links {
        match (link.class.as_str(), &mut head) {
            ("Pooling", None) => {
                head = Some(HeadConfig { normalize: false, ..HeadConfig::new(pooling(&link.folder)?) });
                recipe.sources.pooling = Source::File(inside(folder, &link.folder.join(CONFIG)));
            }
            ("Dense", Some(head)) if head.projection.is_none() && !head.normalize => {
                head.projection = Some(projection(&link.folder)?);
                recipe.dense = Some(link.folder.clone());
                recipe.sources.dim = Source::File(inside(folder, &link.folder.join(CONFIG)));
            }
            ("Normalize", Some(head)) => head.normalize = true,
            // Has no effect in inference.
            ("Dropout", _) => {}
            (class, _) => return refuse(format!("module {class} is not supported at this position of the chain")),
        }
    }
    let Some(mut head) = head else { return refuse("the chain of modules has no Pooling".into()) };
    let other = settings.compare(&mut head, &mut recipe.sources);
    recipe.other_similarity = other.map(|name| (folder.join(SETTINGS), name));
    recipe.head = Some(head);
    if let Some(prompt) = settings.prompt(role) {
        recipe.sources.instruction = Source::File(SETTINGS.to_owned());
        recipe.instruction = prompt.to_owned();
    }
    Ok(recipe)
}

/// The path of a file in the model's folder.
fn inside(model: &Path, file: &Path) -> String {
    file.strip_prefix(model).unwrap_or(file).display().to_string()
}

/// A `Transformer` module: a Hugging Face folder with a length limit.
fn transformer(model: &Path, folder: &Path) -> Result<Recipe> {
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
    let tokenizer = folder.join(TOKENIZER_CONFIG);
    let announced = match tokenizer.exists() {
        true => read_json::<TokenizerSettings>(&tokenizer)?.model_max_length.filter(|length| *length < NO_LIMIT),
        false => None,
    };
    // Without a limit, the network's positions apply.
    let (limit, source) = match (settings.max_seq_length, announced) {
        (Some(limit), _) => (limit, Source::File(inside(model, path.as_deref().unwrap_or(folder)))),
        (None, Some(limit)) => (limit as usize, Source::File(inside(model, &tokenizer))),
        (None, None) => (usize::MAX, Source::Network),
    };
    recipe.max_length = Some(limit);
    recipe.sources.max_length = source;
    Ok(recipe)
}

/// The pooling of a `Pooling` module, whose settings have a newer and an older form.
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
    let path = folder.join(CONFIG);
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
    let pooling = match modes.as_slice() {
        [mode] => Pooling::from_mode(mode),
        _ => None,
    };
    pooling.ok_or_else(|| {
        let supported = Pooling::modes().join(", ");
        Error::format(&path, format!("pooling {modes:?} is not supported, only one of {supported}"))
    })
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
    let path = folder.join(CONFIG);
    let settings: Settings = read_json(&path)?;
    if settings.use_residual || settings.module_input_name.is_some_and(|name| name != "sentence_embedding") {
        let problem = "a Dense with a residual or an input other than the pooled vector is not supported";
        return Err(Error::format(&path, problem));
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
