//! Recognises the layout of a model folder, and loads a tower from any of them.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use care_core::{Error, ErrorKind, Result, Role, Text};

use super::folder::{MANIFEST, require_folder};
use super::options::EncoderOptions;
use super::pair;
use super::recipe::{PairRecipe, hugging_face};
use super::sentence_transformers::{self, MODULES, transformer_folder};
use crate::registry::AnyEncoder;
use crate::tower::Tower;

/// The folders of the two towers in the layout of the published CARE code.
const PUBLISHED: [&str; 2] = ["query_encoder", "doc_encoder"];

/// Reads how a folder describes its two towers. The folder is a saved pair, a sentence-transformers model, in the
/// layout of the published CARE code, a PEFT adapter, or a single Hugging Face folder that serves both roles.
///
/// # Errors
/// If the folder is missing, half written or none of these, or one of its files is broken.
pub(crate) fn read(folder: &Path) -> Result<PairRecipe> {
    require_folder(folder)?;
    if folder.join(MANIFEST).exists() {
        return pair::read(folder);
    }
    if folder.join(MODULES).exists() {
        return sentence_transformers::read(folder);
    }
    let [query, document] = PUBLISHED.map(|name| folder.join(name));
    if query.is_dir() && document.is_dir() {
        return PairRecipe::published(hugging_face(&query)?, hugging_face(&document)?);
    }
    if [Role::Query, Role::Document].iter().any(|role| folder.join(transformer_folder(*role)).exists()) {
        let problem = format!("half written: it has a tower but no {MANIFEST}");
        return Err(Error::new(ErrorKind::Format, format!("{}: {problem}", folder.display())));
    }
    hugging_face(folder).map(PairRecipe::same)
}

/// The Hugging Face folder of the network of a role in a folder of any layout; `None` if an adapter changes it on loading.
///
/// # Errors
/// If the folder is missing, half written or not a model, or one of its files is broken.
pub fn network_folder(folder: impl AsRef<Path>, role: Role) -> Result<Option<PathBuf>> {
    let recipes = read(folder.as_ref())?;
    let recipe = match role {
        Role::Query => recipes.query,
        Role::Document => recipes.document,
    };
    // Without the slash at the end of the path of a module in the root.
    Ok(recipe.adapter.is_none().then(|| recipe.transformer.components().collect()))
}

/// Loads the tower of one role from a folder in any layout: a saved pair, a sentence-transformers model, the published
/// CARE layout, a PEFT adapter, or a Hugging Face folder, which serves either role. Options that are set override the
/// folder's settings. On the CPU, f32 weights are prepacked for inference: see
/// [`Network::prepacked`](crate::Network::prepacked).
///
/// # Errors
/// If the folder is missing, half written or none of these; a file is broken; the architecture is unknown; a tensor is
/// missing, unexpected or of the wrong shape; the tokenizer does not fit; or an option is out of range.
pub fn load_tower<T: Text>(
    folder: impl AsRef<Path>,
    options: &EncoderOptions,
    device: &Device,
) -> Result<Tower<T, AnyEncoder>> {
    read(folder.as_ref())?.of::<T>().load(options, device)
}
