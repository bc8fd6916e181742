//! Manifests: how a file was made, from what, and with which counts. They form a chain back to the raw texts.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};
use crate::files::{read_file, sha256_file, write_atomic};

/// How the file beside it was made: `NAME.manifest.json` for the file or folder `NAME`.
///
/// Files are named without their folders, so a manifest tells nothing about the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The step, e.g. `label collect`.
    pub step: String,
    /// Version of the program.
    pub version: String,
    /// The options of the step.
    pub options: Map<String, Value>,
    /// What was counted.
    pub counts: Map<String, Value>,
    /// What was read, by role.
    pub inputs: Vec<Input>,
    /// What was written.
    pub output: Digest,
}

/// A file and its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// Name without its folder.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
}

/// A file that a step read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What it is for, e.g. `corpus`.
    pub role: String,
    /// The file.
    pub file: Digest,
    /// How it was made itself, if a manifest beside it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<Box<Manifest>>,
}

impl Digest {
    /// Reads and hashes a file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn of(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (bytes, sha256) = sha256_file(path)?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, bytes, sha256 })
    }
}

impl Input {
    /// Reads and hashes an input, and takes over its manifest.
    ///
    /// # Errors
    /// If the file cannot be read, or the manifest beside it belongs to another content: the file was changed by hand,
    /// or the manifest was left behind.
    pub fn of(role: &str, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = Digest::of(path)?;
        let manifest = Manifest::path_for(path);
        let made_by = if manifest.exists() { Some(Box::new(Manifest::read(&manifest)?)) } else { None };
        if let Some(made_by) = &made_by
            && made_by.output.sha256 != file.sha256
        {
            let problem = format!("{} was changed after `{}` wrote it", path.display(), made_by.step);
            let advice = format!("{problem}; remove {} if that is meant", manifest.display());
            return Err(Error::new(ErrorKind::Format, advice));
        }
        Ok(Self { role: role.to_owned(), file, made_by })
    }
}

impl Manifest {
    /// The place of a file's manifest.
    pub fn path_for(path: impl AsRef<Path>) -> PathBuf {
        let mut name = path.as_ref().as_os_str().to_owned();
        name.push(".manifest.json");
        name.into()
    }

    /// Hashes `output`, which must be complete, and writes its manifest beside it.
    ///
    /// # Errors
    /// If the output cannot be read or the manifest not be written.
    pub fn write(
        step: &str,
        options: Map<String, Value>,
        counts: Map<String, Value>,
        inputs: Vec<Input>,
        output: impl AsRef<Path>,
    ) -> Result<Self> {
        let output = output.as_ref();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let manifest = Self { step: step.to_owned(), version, options, counts, inputs, output: Digest::of(output)? };
        let mut text = serde_json::to_string_pretty(&manifest)
            .map_err(|e| Error::io("write", Self::path_for(output), e.into()))?;
        text.push('\n');
        write_atomic(Self::path_for(output), text)?;
        Ok(manifest)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// If the file cannot be read or is no manifest.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        serde_json::from_slice(&read_file(path)?).map_err(|e| Error::format(path, &e).with_source(e))
    }

    /// This manifest and those of its inputs, nearest first, each file once.
    pub fn chain(&self) -> Vec<&Manifest> {
        let mut chain = vec![self];
        let mut at = 0;
        while let Some(manifest) = chain.get(at) {
            for made_by in manifest.inputs.iter().filter_map(|input| input.made_by.as_deref()) {
                if !chain.iter().any(|known| known.output == made_by.output) {
                    chain.push(made_by);
                }
            }
            at += 1;
        }
        chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(name: &str, value: u64) -> Map<String, Value> {
        Map::from_iter([(name.to_owned(), value.into())])
    }

    #[test]
    fn manifests_form_a_chain_back_to_the_first_input() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("corpus.jsonl"), "raw").expect("written");
        std::fs::write(file("pairs.jsonl"), "pairs").expect("written");
        let inputs = vec![Input::of("corpus", file("corpus.jsonl")).expect("read")];
        Manifest::write("collect", Map::new(), counts("pairs", 1), inputs, file("pairs.jsonl")).expect("written");
        std::fs::write(file("labels.jsonl"), "labels").expect("written");
        let inputs = vec![Input::of("pairs", file("pairs.jsonl")).expect("read")];
        Manifest::write("resolve", Map::new(), counts("labels", 1), inputs, file("labels.jsonl")).expect("written");

        let last = Manifest::read(Manifest::path_for(file("labels.jsonl"))).expect("read");
        let steps: Vec<_> = last.chain().iter().map(|manifest| manifest.step.as_str()).collect();
        assert_eq!(steps, ["resolve", "collect"]);
        assert_eq!(last.chain()[1].inputs[0].file, Digest::of(file("corpus.jsonl")).expect("read"));
        let text = serde_json::to_string(&last).expect("JSON");
        assert!(!text.contains(&folder.path().display().to_string()), "no folders: {text}");
    }

    #[test]
    fn a_file_that_was_changed_later_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pairs.jsonl");
        std::fs::write(&path, "pairs").expect("written");
        Manifest::write("collect", Map::new(), Map::new(), vec![], &path).expect("written");
        std::fs::write(&path, "other").expect("written");
        let message = Input::of("pairs", &path).expect_err("changed").to_string();
        assert!(message.contains("pairs.jsonl was changed after `collect` wrote it"), "{message}");
        std::fs::write(Manifest::path_for(&path), "{").expect("written");
        assert!(Input::of("pairs", &path).expect_err("broken").to_string().contains("pairs.jsonl.manifest.json: EOF"));
    }
}
