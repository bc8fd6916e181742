//! Writes towers as sentence-transformers folders.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;
use care_core::{Error, ErrorKind, Result, Role, Text};
use serde_json::{Value, json};

use super::form::{
    IDENTITY, MODULES, ModuleRow, ROUTER, RouterConfig, SETTINGS, TANH, TRANSFORMER_SETTINGS, module_folder,
};
use crate::head::{Pooling, ProjectionActivation, ProjectionConfig, TruncationOrder};
use crate::layers::PROJECTION;
use crate::pretrained::checkpoint::SINGLE;
use crate::pretrained::folder::{CONFIG, create_folder, write_encoder, write_json};
use crate::pretrained::tokenizer::write_tokenizer;
use crate::pretrained::weights::{HostTensor, write_tensors, write_weights};
use crate::registry::AnyEncoder;
use crate::tower::Tower;

/// Saves one tower as a folder that [`load_tower`](crate::load_tower) loads, and sentence-transformers unless the tower is
/// int8-quantized.
///
/// The instruction becomes the prompt of the tower's role, so it must be a prefix, without text after `{text}`.
///
/// # Errors
/// If the folder is not empty, the instruction is not a prefix, the tower is quantized to 4 bits or to int8 weights that
/// were unpacked, or a file cannot be written.
pub fn save_tower<T: Text>(folder: impl AsRef<Path>, tower: &Tower<T, AnyEncoder>) -> Result<()> {
    let folder = folder.as_ref();
    let taken = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if taken {
        return Err(Error::new(ErrorKind::Io, format!("{}: the folder is not empty", folder.display())));
    }
    let Some(prompt) = tower.instruction().prefix() else {
        let template = tower.instruction().template();
        let message =
            format!("the instruction {template:?} is not a prefix, and sentence-transformers has no templates");
        return Err(Error::new(ErrorKind::Config, message));
    };
    let head = tower.network().head();
    let cut_last = head.truncation == TruncationOrder::NormalizeThenTruncate && head.normalize;
    let mut rows = Vec::new();
    let modules = match (&head.projection, head.dim) {
        // A chain has one Dense, so a projection is truncated in its matrix.
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
    write_settings(folder, &[(T::ROLE, prompt)], truncate_dim, head.is_unit_length())?;
    write_json(&folder.join(MODULES), &rows)
}

/// Writes a tower's modules as a route of a `Router`. The network is that in the folder of the role `transformer`, and is
/// written if that is the tower's own.
///
/// # Reference
/// sentence-transformers, too, writes a module of two routes once, under its name in the first.
///
/// # Errors
/// If the tower is quantized to 4 bits or to int8 weights that were unpacked, or a file cannot be written.
pub(crate) fn write_route<T: Text>(folder: &Path, tower: &Tower<T, AnyEncoder>, transformer: Role) -> Result<Route> {
    let role = T::ROLE;
    let mut modules = Vec::new();
    for (idx, module) in self::modules(tower, true).into_iter().enumerate() {
        let holder = if idx == 0 { transformer } else { role };
        let name = module_folder(holder, idx, module.class());
        if holder == role {
            module.write(&folder.join(&name), tower)?;
        }
        modules.push((name, module.full_class()));
    }
    let unit_length = tower.network().head().is_unit_length();
    Ok(Route { role, modules, prompt: tower.instruction().prefix().unwrap_or_default().to_owned(), unit_length })
}

/// A written route: the folders and classes of its modules, and the prompt of its role.
pub(crate) struct Route {
    role: Role,
    modules: Vec<(String, String)>,
    prompt: String,
    unit_length: bool,
}

/// Writes the files that join routes into one model, `modules.json` last, since it marks the folder as a model.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn write_router(folder: &Path, routes: &[Route]) -> Result<()> {
    let names = |route: &Route| route.modules.iter().map(|(name, _)| name.clone()).collect();
    let config = RouterConfig {
        types: routes.iter().flat_map(|route| route.modules.iter().cloned()).collect(),
        structure: routes.iter().map(|route| (route.role.as_str().to_owned(), names(route))).collect(),
        parameters: json!({"default_route": Role::Query.as_str(), "allow_empty_key": true}),
    };
    write_json(&folder.join(ROUTER), &config)?;
    let prompts: Vec<(Role, &str)> = routes.iter().map(|route| (route.role, route.prompt.as_str())).collect();
    write_settings(folder, &prompts, None, routes.iter().all(|route| route.unit_length))?;
    let row = ModuleRow { idx: 0, name: "0".into(), path: String::new(), class: full_class("Router") };
    write_json(&folder.join(MODULES), &[row])
}

/// Vectors are compared by dot product. For vectors of unit length it is the cosine, which is what Python calls it.
fn write_settings(
    folder: &Path,
    prompts: &[(Role, &str)],
    truncate_dim: Option<usize>,
    unit_length: bool,
) -> Result<()> {
    let mut named = BTreeMap::from([("query", ""), ("document", "")]);
    named.extend(prompts.iter().map(|(role, prompt)| (role.as_str(), *prompt)));
    let mut settings = json!({
        "prompts": named,
        "default_prompt_name": null,
        "similarity_fn_name": if unit_length { "cosine" } else { "dot" },
        "model_type": "SentenceTransformer",
    });
    if let Some(dim) = truncate_dim {
        settings["truncate_dim"] = dim.into();
    }
    write_json(&folder.join(SETTINGS), &settings)
}

/// The class with the package path that every version from 2 on accepts.
fn full_class(class: &str) -> String {
    format!("sentence_transformers.models.{class}")
}

/// A module that represents a part of a tower.
enum Module {
    Transformer,
    Pooling(Pooling),
    /// The projection, or its first outputs.
    Projection(ProjectionConfig),
    /// Keeps the first `dim` dimensions: a `Dense` whose matrix is the first rows of the identity.
    Cut {
        width: usize,
        dim: usize,
    },
    Normalize,
}

/// The chain of modules that is equivalent to a tower. Without `cut_last`, a truncation at the very end is left out.
fn modules<T: Text>(tower: &Tower<T, AnyEncoder>, cut_last: bool) -> Vec<Module> {
    let head = tower.network().head();
    let mut modules = vec![Module::Transformer, Module::Pooling(head.pooling)];
    modules.extend(head.projection.clone().map(Module::Projection));
    let width = head.projected(tower.network().hidden_size());
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
        let config = folder.join(CONFIG);
        let network = tower.network();
        match self {
            Module::Transformer => {
                write_encoder(folder, network.encoder())?;
                write_tokenizer(folder, tower.tokenizer(), network.encoder())?;
                let settings = json!({"max_seq_length": tower.tokenizer().max_length(), "do_lower_case": false});
                write_json(&folder.join(TRANSFORMER_SETTINGS[0]), &settings)
            }
            Module::Pooling(pooling) => {
                let mut settings = json!({"word_embedding_dimension": network.hidden_size(), "include_prompt": true});
                let modes = pooling.modes();
                // The older form of these settings, which every version reads. It has one order of concatenation only.
                let flags: Vec<_> = Pooling::flags().map(|(mode, flag)| (mode, flag, modes.contains(&mode))).collect();
                match flags.iter().filter(|(_, _, set)| *set).map(|(mode, ..)| *mode).eq(modes.iter().copied()) {
                    true => flags.iter().for_each(|(_, flag, set)| settings[*flag] = (*set).into()),
                    false => settings["pooling_mode"] = modes.into(),
                }
                write_json(&config, &settings)
            }
            Module::Projection(projection) => {
                let activation = match projection.activation {
                    ProjectionActivation::Identity => IDENTITY,
                    ProjectionActivation::Tanh => TANH,
                };
                let inputs = network.head().pooling.outputs(network.hidden_size());
                write_json(&config, &dense(inputs, projection.outputs, projection.bias, activation))?;
                let path = folder.join(SINGLE);
                network.projection().map_or(Ok(()), |weights| {
                    let weights = weights.unpacked_copy().first_outputs(projection.outputs);
                    write_weights(&path, &PROJECTION, &weights, &BTreeMap::new())
                })
            }
            Module::Cut { width, dim } => {
                write_json(&config, &dense(*width, *dim, false, IDENTITY))?;
                let values: Vec<f32> = (0..dim * width).map(|i| f32::from(u8::from(i % width == i / width))).collect();
                let weight = HostTensor::new(TensorData::new(values, [*dim, *width]));
                write_tensors(&folder.join(SINGLE), BTreeMap::from([("linear.weight".to_owned(), weight)]))
            }
            Module::Normalize => write_json(&config, &json!({})),
        }
    }
}

fn dense(inputs: usize, outputs: usize, bias: bool, activation: &str) -> Value {
    json!({"in_features": inputs, "out_features": outputs, "bias": bias, "activation_function": activation})
}
