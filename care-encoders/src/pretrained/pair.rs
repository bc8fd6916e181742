//! A saved pair: two towers in one folder, written whole or not at all.
//!
//! It is a `Router` model of sentence-transformers; `care.json` beside its files holds what those cannot
//! say.

use std::path::Path;

use care_core::files::{remove_folder, replace_folder, sibling};
use care_core::{Error, ErrorKind, Result, Role, Text};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::folder::{create_folder, read_json, write_json};
use super::recipe::{PairRecipe, Recipe};
use super::sentence_transformers::{
    ROUTER_FILES, is_module_folder, projection_folder, transformer_folder, write_route, write_router,
};
use crate::head::HeadConfig;
use crate::registry::AnyEncoder;
use crate::tower::{DocumentTower, QueryTower, Tower};

/// Our own file of a pair.
pub(crate) const MANIFEST: &str = "care.json";
/// What people read of a pair.
const CARD: &str = "README.md";
/// Raised when a reader of the older form could misread the newer one.
const FORMAT: u32 = 2;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    query: TowerManifest,
    document: TowerManifest,
    /// Where the weights come from, in whatever form its writer has.
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

    fn recipe(self, folder: &Path, role: Role) -> Recipe {
        Recipe {
            dense: self.head.projection.as_ref().map(|_| folder.join(projection_folder(role))),
            head: Some(self.head),
            max_length: Some(self.max_length),
            instruction: self.instruction,
            terminal_token: Some(self.terminal_token),
            ..Recipe::bare(&folder.join(transformer_folder(role)))
        }
    }
}

/// Reads what a saved pair says about its towers.
///
/// # Errors
/// When `care.json` is broken or of another version.
pub(crate) fn read(folder: &Path) -> Result<PairRecipe> {
    let path = folder.join(MANIFEST);
    let json: Value = read_json(&path)?;
    if json["format"] != FORMAT {
        let problem = format!("format {} is not {FORMAT}, the one this version reads", json["format"]);
        return Err(Error::format(&path, problem));
    }
    let Manifest { query, document, provenance, .. } = read_json(&path)?;
    let (query, document) = (query.recipe(folder, Role::Query), document.recipe(folder, Role::Document));
    Ok(PairRecipe { provenance, ..PairRecipe::new(query, document) })
}

/// Refuses a target that replacing would cost files of others.
///
/// # Errors
/// When the folder holds anything that is no part of a saved pair, or has no name of its own.
pub(crate) fn check_target(folder: &Path) -> Result<()> {
    if folder.file_name().is_none() {
        let message = format!("{}: a pair is saved under a name of its own", folder.display());
        return Err(Error::new(ErrorKind::Config, message));
    }
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| Error::io("read", folder, e))?,
    };
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("read", folder, e))?;
        let name = entry.file_name();
        let known = name.to_str().is_some_and(|name| match entry.path().is_dir() {
            true => is_module_folder(name),
            false => name == MANIFEST || name == CARD || ROUTER_FILES.contains(&name),
        });
        if !known {
            let message = format!("{}: the folder holds {name:?}, which is no part of a saved pair", folder.display());
            return Err(Error::new(ErrorKind::Io, message));
        }
    }
    Ok(())
}

/// Writes both towers beside `folder` and moves them there, so that a crash while writing leaves the
/// old folder as it was. One between the two moves leaves it as `.<name>.old`.
///
/// # Errors
/// When a file cannot be written, or `folder` holds something else than a saved pair.
pub(crate) fn save_pair(
    folder: &Path,
    query: &QueryTower<AnyEncoder>,
    document: &DocumentTower<AnyEncoder>,
    provenance: &Value,
    card: &str,
) -> Result<()> {
    check_target(folder)?;
    let partial = sibling(folder, "partial");
    remove_folder(&partial)?;
    create_folder(&partial)?;
    let routes = [write_route(&partial, query)?, write_route(&partial, document)?];
    let (query, document) = (TowerManifest::of(query), TowerManifest::of(document));
    let manifest = Manifest { format: FORMAT, query, document, provenance: provenance.clone() };
    write_json(&partial.join(MANIFEST), &manifest)?;
    if !card.is_empty() {
        let path = partial.join(CARD);
        std::fs::write(&path, card).map_err(|e| Error::io("write", &path, e))?;
    }
    write_router(&partial, &routes)?;
    replace_folder(&partial, folder)
}
