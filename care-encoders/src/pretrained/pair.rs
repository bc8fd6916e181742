//! A saved pair: two towers in one folder, written whole or not at all.
//!
//! The sub-folders are named as sentence-transformers' `Router` names them; `care.json` beside them
//! holds what makes the parts towers.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use care_core::{DocumentTower, Error, ErrorKind, HeadConfig, QueryTower, Result, Role, Text, Tower};
use serde::{Deserialize, Serialize};

use super::folder::{EncoderOptions, create_folder, load_saved_tower, load_tower, read_json, save_tower, write_json};
use crate::AnyEncoder;

/// The file that makes a folder a pair; written last.
const MANIFEST: &str = "care.json";
/// Raised when a reader of the older form could misread the newer one.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    query: TowerManifest,
    document: TowerManifest,
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

    fn load<T: Text>(self, folder: &Path, device: &Device) -> Result<Tower<T, AnyEncoder>> {
        let tower = load_saved_tower(folder, self.head, self.max_length, &self.instruction, device)?;
        let found = tower.tokenizer().terminal_token();
        if found != self.terminal_token {
            return Err(Error::new(
                ErrorKind::Tokenizer,
                format!(
                    "{}: the {} tower was saved with terminal token {:?} but its tokenizer adds {found:?}",
                    folder.display(),
                    T::ROLE.as_str(),
                    self.terminal_token
                ),
            ));
        }
        Ok(tower)
    }
}

/// The folders that one role's parts are in.
fn parts(role: Role) -> [String; 2] {
    ["0_Transformer", "2_Dense"].map(|part| format!("{}_{part}", role.as_str()))
}

/// Whether a folder holds a saved pair, whole or half written.
pub(crate) fn is_pair(folder: &Path) -> bool {
    let tower = |role| folder.join(&parts(role)[0]).exists();
    folder.join(MANIFEST).exists() || tower(Role::Query) || tower(Role::Document)
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
    let ours = [parts(Role::Query), parts(Role::Document)].concat();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name != MANIFEST && !ours.iter().any(|part| name == part.as_str()) {
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
) -> Result<()> {
    check_target(folder)?;
    let (partial, old) = (sibling(folder, "partial"), sibling(folder, "old"));
    remove(&partial)?;
    create_folder(&partial)?;
    save_tower(&partial, query)?;
    save_tower(&partial, document)?;
    let manifest = Manifest { format: FORMAT, query: TowerManifest::of(query), document: TowerManifest::of(document) };
    write_json(&partial.join(MANIFEST), &manifest)?;
    let rename = |from: &Path, to: &Path| std::fs::rename(from, to).map_err(|e| Error::io("rename", from, e));
    if !folder.exists() {
        return rename(&partial, folder);
    }
    remove(&old)?;
    rename(folder, &old)?;
    if let Err(error) = rename(&partial, folder) {
        rename(&old, folder)?;
        return Err(error);
    }
    remove(&old)
}

/// `<name>.<suffix>` beside `folder`.
fn sibling(folder: &Path, suffix: &str) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".{name}.{suffix}"))
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", folder, e)),
        _ => Ok(()),
    }
}

/// Reads a saved pair.
///
/// # Errors
/// When the folder is half written, or as loading each tower.
pub(crate) fn load_pair(folder: &Path, device: &Device) -> Result<(QueryTower<AnyEncoder>, DocumentTower<AnyEncoder>)> {
    let Manifest { query, document, .. } = read_manifest(folder)?;
    Ok((query.load(folder, device)?, document.load(folder, device)?))
}

/// Loads the tower of one role: that of a saved pair, or a single encoder folder, which serves either
/// role. Options that are set replace the saved settings.
///
/// # Errors
/// When the folder is missing or half written, or as [`load_tower`](crate::load_tower).
pub fn open_tower<T: Text>(folder: &Path, options: &EncoderOptions, device: &Device) -> Result<Tower<T, AnyEncoder>> {
    if !is_pair(folder) {
        return load_tower(folder, options, device);
    }
    let Manifest { query, document, .. } = read_manifest(folder)?;
    let manifest = match T::ROLE {
        Role::Query => query,
        Role::Document => document,
    };
    options.apply(manifest.load(folder, device)?)
}

fn read_manifest(folder: &Path) -> Result<Manifest> {
    let refuse = |problem: String| Err(Error::new(ErrorKind::Format, format!("{}: {problem}", folder.display())));
    let path = folder.join(MANIFEST);
    if !is_pair(folder) {
        return refuse("no saved pair; a single encoder is read as one tower at a time".into());
    }
    if !path.exists() {
        return refuse(format!("half written: it has a tower but no {MANIFEST}"));
    }
    let json: serde_json::Value = read_json(&path)?;
    if json["format"] != FORMAT {
        let problem = format!("format {} is not {FORMAT}, the one this version reads", json["format"]);
        return Err(Error::format(&path, problem));
    }
    read_json(&path)
}
