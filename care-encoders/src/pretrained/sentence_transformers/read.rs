//! Reads the towers of a sentence-transformers folder.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use care_core::{Error, ErrorKind, Result, Role};
use serde::Deserialize;
use serde_json::Value;

use super::form::{IDENTITY, MODULES, ModuleRow, ROUTER, RouterConfig, SETTINGS, TANH, inside};
use super::transformer::transformer;
use crate::head::{HeadConfig, Pooling, ProjectionActivation, ProjectionConfig, TruncationOrder};
use crate::pretrained::folder::{CONFIG, read_json};
use crate::pretrained::recipe::{PairRecipe, Recipe};
use crate::summary::{Source, Sources};

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
#[derive(Clone)]
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
    let modules = folder.join(MODULES);
    let chain = rows.iter().map(|row| link(&modules, &row.class, folder, &row.path)).collect::<Result<Vec<Link>>>()?;
    let routers = ["Router", "Asym"];
    if chain.first().is_none_or(|first| !routers.contains(&first.class.as_str())) {
        let recipe = |role| recipe(folder, &chain, &settings, role);
        return Ok(PairRecipe::new(recipe(Role::Query)?, recipe(Role::Document)?));
    }
    let (router, after) = chain.split_at(1);
    let recipe =
        |role| self::recipe(folder, &[route(&router[0].folder, role)?, after.to_vec()].concat(), &settings, role);
    Ok(PairRecipe::new(recipe(Role::Query)?, recipe(Role::Document)?))
}

/// The modules of a role's route in the folder of a `Router`, or of an `Asym`, as it was called before version 5.
fn route(router: &Path, role: Role) -> Result<Vec<Link>> {
    // An `Asym` has the same settings in its `config.json`.
    let path = [ROUTER, CONFIG].map(|name| router.join(name)).into_iter().find(|path| path.exists());
    let path = path.unwrap_or_else(|| router.join(ROUTER));
    let config: RouterConfig = read_json(&path)?;
    let mappings = config.parameters.get("route_mappings").filter(|mappings| !mappings.is_null());
    if mappings.is_some_and(|mappings| mappings.as_object().is_none_or(|mappings| !mappings.is_empty())) {
        return Err(Error::format(&path, "`route_mappings` are not supported"));
    }
    if [Role::Query, Role::Document].iter().any(|role| !config.structure.contains_key(role.as_str())) {
        let routes: Vec<&String> = config.structure.keys().collect();
        let problem = format!("`structure` has the routes {routes:?}, but a pair needs \"query\" and \"document\"");
        return Err(Error::format(&path, problem));
    }
    let of = |name: &String| {
        let class = config.types.get(name);
        let class = class.ok_or_else(|| Error::format(&path, format!("`types` has no module `{name}`")))?;
        link(&path, class, router, name)
    };
    config.structure[role.as_str()].iter().map(of).collect()
}

/// The module of a class of sentence-transformers, in a folder of `parent`, or in `parent` itself.
///
/// # Errors
/// If the class is of another package, or the folder is not directly in `parent`; both are written in the file `stated`.
fn link(stated: &Path, class: &str, parent: &Path, name: &str) -> Result<Link> {
    if !class.starts_with("sentence_transformers.") {
        let problem =
            format!("module `{class}` is custom code, which is not run; only sentence-transformers' own are known");
        return Err(Error::format(stated, problem));
    }
    let inside = Path::new(name).components().collect::<Vec<_>>();
    if !matches!(inside.as_slice(), [] | [Component::Normal(_)]) || name.contains(['\\', ':']) {
        return Err(Error::format(stated, format!("{name:?} is not the name of a folder in the same folder")));
    }
    Ok(Link { class: class.rsplit('.').next().unwrap_or_default().to_owned(), folder: parent.join(name) })
}

/// Whether a projection and one after it are one linear map.
fn is_linear(projection: Option<&ProjectionConfig>) -> bool {
    projection.is_none_or(|projection| projection.activation == ProjectionActivation::Identity)
}

/// The tower that a chain of modules describes.
fn recipe(folder: &Path, chain: &[Link], settings: &Settings, role: Role) -> Result<Recipe> {
    let refuse = |problem: String| Err(Error::new(ErrorKind::Config, format!("{}: {problem}", folder.display())));
    let mut links = chain.iter();
    let mut recipe = match links.next() {
        Some(first) if first.class == "Transformer" => transformer(folder, &first.folder, role)?,
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
            ("Dense", Some(head)) if !head.normalize && is_linear(head.projection.as_ref()) => {
                let config = projection(&link.folder)?;
                let bias = config.bias || head.projection.as_ref().is_some_and(|before| before.bias);
                head.projection = Some(config.clone().with_bias(bias));
                recipe.dense.push((link.folder.clone(), config));
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

/// The pooling of a `Pooling` module, whose settings have a newer and an older form.
///
/// # Reference
/// sentence-transformers 6.2: the newer form precedes the older one, and the mean is the default of both.
fn pooling(folder: &Path) -> Result<Pooling> {
    #[derive(Deserialize)]
    struct Settings {
        pooling_mode: Option<Value>,
        #[serde(default = "yes")]
        include_prompt: bool,
        #[serde(flatten)]
        flags: BTreeMap<String, Value>,
    }
    fn yes() -> bool {
        true
    }
    let path = folder.join(CONFIG);
    let settings: Settings = read_json(&path)?;
    if !settings.include_prompt {
        return Err(Error::format(&path, "`include_prompt` false is not supported"));
    }
    let modes: Vec<&str> = match &settings.pooling_mode {
        Some(Value::String(mode)) => vec![mode],
        Some(Value::Array(modes)) => modes.iter().map(|mode| mode.as_str().unwrap_or_default()).collect(),
        _ => {
            let set = |flag: &str| settings.flags.get(flag).is_some_and(|set| *set == true);
            let modes: Vec<&str> = Pooling::flags().filter(|(_, flag)| set(flag)).map(|(mode, _)| mode).collect();
            if modes.is_empty() { vec!["mean"] } else { modes }
        }
    };
    Pooling::from_modes(&modes).ok_or_else(|| {
        let supported = Pooling::all_modes().collect::<Vec<_>>().join(", ");
        Error::format(&path, format!("pooling {modes:?} is not supported, only one or several of {supported}"))
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
