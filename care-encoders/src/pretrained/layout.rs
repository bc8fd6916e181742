//! Which of the layouts that models come in a folder has.

use std::path::{Path, PathBuf};

use care_core::{Error, ErrorKind, Result, Role};

use super::adapter::{self, AdapterConfig};
use super::checkpoint::{INDEX, SINGLE};
use super::folder::{CONFIG, require_folder};
use super::pair::{self, MANIFEST};
use super::recipe::{PairRecipe, Recipe};
use super::sentence_transformers::{self, MODULES, transformer_folder};

/// The folders of the two towers in the layout of the published CARE code.
const PUBLISHED: [&str; 2] = ["query_encoder", "doc_encoder"];

/// What a folder says about its two towers: a saved pair, a model of sentence-transformers, the layout of
/// the published CARE code, a PEFT adapter, or a single Hugging Face folder that serves both roles.
///
/// # Errors
/// When the folder is missing, half written or none of these, or one of its files is broken.
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

/// A Hugging Face folder, or the folder of an adapter whose base model is another one on this machine.
///
/// # Errors
/// When the base model of an adapter is not to be found.
pub(crate) fn hugging_face(folder: &Path) -> Result<Recipe> {
    if !folder.join(adapter::CONFIG).exists() {
        return Ok(Recipe::bare(folder));
    }
    let adapted = |base: &Path| Recipe { adapter: Some(folder.to_owned()), ..Recipe::bare(base) };
    // The base model may lie in the same folder.
    if [SINGLE, INDEX].iter().any(|weights| folder.join(weights).exists()) {
        return Ok(adapted(folder));
    }
    let config = AdapterConfig::from_folder(folder)?;
    let named = config.base_model_name_or_path.unwrap_or_default();
    let beside = folder.join(&named);
    let base = [beside, PathBuf::from(&named)].into_iter().find(|base| !named.is_empty() && base.join(CONFIG).exists());
    match base {
        Some(base) => Ok(adapted(&base)),
        None => Err(Error::format(
            &folder.join(adapter::CONFIG),
            format!("the base model {named:?} is not a folder here: load it, and give this folder as its adapter"),
        )),
    }
}
