//! Reads and writes a saved pair: both towers in one folder, written atomically.
//!
//! It is a `Router` model of sentence-transformers; the additional `care.json` specifies what its files cannot.

use std::path::Path;

use care_core::files::{PartialFolder, sweep_folder};
use care_core::{Error, ErrorKind, Result, Role, Text};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::folder::{MANIFEST, read_json, write_json};
use super::recipe::{PairRecipe, Recipe};
use super::sentence_transformers::{
    ROUTER_FILES, is_module_folder, projection_folder, transformer_folder, write_route, write_router,
};
use crate::fingerprint::share_transformer;
use crate::head::HeadConfig;
use crate::registry::AnyEncoder;
use crate::summary::{Source, Sources};
use crate::tower::{DocumentTower, QueryTower, Tower};

/// The model card.
const CARD: &str = "README.md";
/// Version of the manifest; raised if readers of the older version could misread the newer one.
const FORMAT: u32 = 2;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    query: TowerManifest,
    document: TowerManifest,
    /// Whether both towers have the network and the tokenizer of the query tower's folder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shared_transformer: bool,
    /// Origin of the weights, in any form.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    provenance: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TowerManifest {
    head: HeadConfig,
    max_length: usize,
    instruction: String,
    terminal_token: Option<u32>,
}

impl TowerManifest {
    fn of<T: Text>(tower: &Tower<T, AnyEncoder>) -> Self {
        Self {
            head: tower.network().head().clone(),
            max_length: tower.tokenizer().max_length(),
            instruction: tower.instruction().template(),
            terminal_token: tower.tokenizer().terminal_token(),
        }
    }

    /// The tower of a role, with the network of the tower of another, or of the same.
    fn recipe(self, folder: &Path, role: Role, transformer: Role) -> Recipe {
        let dense = self.head.projection.iter().map(|config| (folder.join(projection_folder(role)), config.clone()));
        Recipe {
            dense: dense.collect(),
            head: Some(self.head),
            max_length: Some(self.max_length),
            instruction: self.instruction,
            terminal_token: Some(self.terminal_token),
            sources: Sources::all(Source::File(MANIFEST.to_owned())),
            ..Recipe::bare(&folder.join(transformer_folder(transformer)))
        }
    }
}

/// Reads how a saved pair specifies its towers.
///
/// # Errors
/// If `care.json` is broken or of another version.
pub(crate) fn read(folder: &Path) -> Result<PairRecipe> {
    let path = folder.join(MANIFEST);
    let json: Value = read_json(&path)?;
    if json["format"] != FORMAT {
        let problem = format!("format {} is not supported, only {FORMAT}", json["format"]);
        return Err(Error::format(&path, problem));
    }
    let Manifest { query, document, shared_transformer, provenance, .. } = read_json(&path)?;
    let query = query.recipe(folder, Role::Query, Role::Query);
    let document = document.recipe(folder, Role::Document, holder(shared_transformer));
    Ok(PairRecipe { provenance, ..PairRecipe::new(query, document) })
}

/// The role whose folder holds the document tower's network.
fn holder(shared_transformer: bool) -> Role {
    if shared_transformer { Role::Query } else { Role::Document }
}

/// Checks that replacing a folder would delete nothing but a saved pair.
///
/// # Errors
/// If the folder contains anything that is not part of a saved pair, or the path does not end in a name.
pub(crate) fn check_target(folder: &Path) -> Result<()> {
    if folder.file_name().is_none() {
        let message = format!("{}: the path of a saved pair must end in a folder name", folder.display());
        return Err(Error::new(ErrorKind::Config, message));
    }
    sweep_folder(folder);
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| Error::io("read", folder, e))?,
    };
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("read", folder, e))?;
        let name = entry.file_name();
        // As the folder says: another process may be replacing it, and then nothing is under this path.
        let kind = entry.file_type().map_err(|e| Error::io("read", entry.path(), e))?;
        let known =
            name.to_str().is_some_and(|name| match kind.is_dir() || kind.is_symlink() && entry.path().is_dir() {
                true => is_module_folder(name),
                false => name == MANIFEST || name == CARD || ROUTER_FILES.contains(&name),
            });
        if !known {
            let problem = format!("the folder contains {name:?}, which is not part of a saved pair");
            let message = format!("{}: {problem}", folder.display());
            return Err(Error::new(ErrorKind::Io, message));
        }
    }
    Ok(())
}

/// Writes both towers to a temporary folder and moves it to `folder`: see [`PartialFolder`]. A network that serves both
/// roles is written once.
///
/// # Errors
/// If a file cannot be written, or `folder` contains anything other than a saved pair.
pub(crate) fn save_pair(
    folder: &Path,
    query: &QueryTower<AnyEncoder>,
    document: &DocumentTower<AnyEncoder>,
    provenance: &Value,
    card: &str,
) -> Result<()> {
    check_target(folder)?;
    let whole = PartialFolder::create(folder)?;
    let partial = whole.path();
    let shared_transformer = share_transformer(query, document)?;
    let routes =
        [write_route(partial, query, Role::Query)?, write_route(partial, document, holder(shared_transformer))?];
    let (query, document) = (TowerManifest::of(query), TowerManifest::of(document));
    let manifest = Manifest { format: FORMAT, query, document, shared_transformer, provenance: provenance.clone() };
    write_json(&partial.join(MANIFEST), &manifest)?;
    if !card.is_empty() {
        let path = partial.join(CARD);
        std::fs::write(&path, card).map_err(|e| Error::io("write", &path, e))?;
    }
    write_router(partial, &routes)?;
    whole.commit()
}
