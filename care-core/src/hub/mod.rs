//! Models and data sets by name from the Hugging Face hub, through its cache on this machine.

mod cache;
mod checksum;
mod config;
mod data_set;
mod model;
mod remote;
mod repo;

use std::path::{Path, PathBuf};

pub use config::HubConfig;
pub use repo::{RepoId, RepoKind};

use cache::{Cached, RepoCache};
use remote::{Remote, Resolved};

use crate::error::Result;

/// The Hugging Face hub, as a source of local folders.
///
/// The cache is the one of the Python library `huggingface_hub`: what one of them downloaded, the other
/// finds. A revision that is complete in the cache is returned without any request, so a branch stays at
/// the commit at which it was first downloaded; a newer one is had by its commit hash. A local folder
/// needs no `Hub` at all: whoever accepts a path or a name makes one for the name only.
///
/// No request is made before a file is lacking, and none at all when the settings say offline. A proxy is
/// taken from `ALL_PROXY`, `HTTPS_PROXY` or `HTTP_PROXY`, with the exceptions of `NO_PROXY`. Certificates
/// are checked against Mozilla's list, not the system's.
///
/// ```no_run
/// use care_core::hub::Hub;
///
/// let hub = Hub::from_env()?;
/// let model = hub.model(&"Qwen/Qwen3-Embedding-0.6B".parse()?, &mut |_| ())?;
/// assert!(model.folder.join("config.json").is_file());
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Hub {
    config: HubConfig,
}

/// A repository's files at one commit, in a local folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder; its files are links into the cache and are not to be written.
    pub folder: PathBuf,
    /// The commit's hash.
    pub commit: String,
}

/// How far a download is. Called for each chunk that arrives, so a display that is slow has to skip some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Download<'a> {
    /// The file's path in the repository.
    pub file: &'a str,
    /// Bytes of the file that are there, those of an earlier download included.
    pub done: u64,
    /// Bytes of the file in all.
    pub size: u64,
    /// Which of the files that were lacking this one is, from 0.
    pub index: usize,
    /// How many files were lacking.
    pub files: usize,
}

/// What is asked of a repository.
struct Source<'a> {
    kind: RepoKind,
    wanted: &'a dyn Fn(&str) -> bool,
    /// Why a repository with these files is not worth a download.
    refused: &'a dyn Fn(&[String]) -> Option<String>,
}

impl Hub {
    /// The hub with these settings; nothing is read or asked yet.
    ///
    /// # Errors
    /// When the endpoint is no address, or the token cannot be sent.
    pub fn new(config: HubConfig) -> Result<Self> {
        Ok(Self { config: config.checked()? })
    }

    /// The hub with the settings of the environment, see [`HubConfig::from_env`].
    ///
    /// # Errors
    /// As [`HubConfig::from_env`] and [`Hub::new`].
    pub fn from_env() -> Result<Self> {
        Self::new(HubConfig::from_env()?)
    }

    /// The folder of a model: every `.json` and `.safetensors` file of the repository, those in the
    /// folders of a model's parts included, those in `onnx`, `openvino`, `original` and `coreml` not.
    ///
    /// A folder that another program downloaded is used as it is if it has the weights and the tokenizer
    /// of each `config.json`, every shard of an index, and the modules that `modules.json` or
    /// `router_config.json` names.
    ///
    /// # Errors
    /// As [`Hub::snapshot`].
    pub fn model(&self, id: &RepoId, progress: &mut dyn FnMut(Download<'_>)) -> Result<Snapshot> {
        let source = Source { kind: RepoKind::Model, wanted: &model::is_model_file, refused: &model::foreign_weights };
        self.fetch(id, source, &model::lacking_file, progress)
    }

    /// The folder of a data set: every `.jsonl`, `.parquet` and `.tsv` file of the repository, hidden ones not.
    ///
    /// A folder that another program downloaded is used as it is if it has a file of rows.
    ///
    /// # Errors
    /// As [`Hub::snapshot`].
    pub fn data_set(&self, id: &RepoId, progress: &mut dyn FnMut(Download<'_>)) -> Result<Snapshot> {
        self.snapshot(RepoKind::Dataset, id, &data_set::is_data_file, &data_set::lacking_rows, progress)
    }

    /// The folder of a repository's files that are `wanted`, downloaded as far as they are lacking.
    ///
    /// The revision is resolved to a commit once, and every file is of that commit. Downloads go on where
    /// an earlier one broke off. Each new file's checksum is compared with the hub's.
    ///
    /// `wanted` is asked of paths in the repository, with slashes. `lacking` names a file that a folder
    /// lacks; it is asked only where another program filled the folder, since nothing says then which
    /// files the commit has.
    ///
    /// # Errors
    /// Of kind [`ErrorKind::Hub`](crate::ErrorKind::Hub), when files are lacking and the settings say
    /// offline, the server cannot be reached, refuses, knows no such repository or revision, or has no
    /// file that is wanted, or a file is not what the hub announced. Also when the cache cannot be read or
    /// written.
    pub fn snapshot(
        &self,
        kind: RepoKind,
        id: &RepoId,
        wanted: &dyn Fn(&str) -> bool,
        lacking: &dyn Fn(&Path) -> Option<String>,
        progress: &mut dyn FnMut(Download<'_>),
    ) -> Result<Snapshot> {
        self.fetch(id, Source { kind, wanted, refused: &|_| None }, lacking, progress)
    }

    fn fetch(
        &self,
        id: &RepoId,
        Source { kind, wanted, refused }: Source<'_>,
        lacking: &dyn Fn(&Path) -> Option<String>,
        progress: &mut dyn FnMut(Download<'_>),
    ) -> Result<Snapshot> {
        let cache = RepoCache::new(&self.config.cache, kind, id);
        let cached = match cache.look_up(wanted, lacking)? {
            Cached::Usable(snapshot) => return Ok(snapshot),
            Cached::Unusable(why) => why,
        };
        if self.config.offline {
            return Err(id.error(format_args!("{cached}, and HF_HUB_OFFLINE is set")));
        }

        let remote = Remote::new(&self.config, &cache, id)?;
        let Resolved { commit, files, wanted } = remote.resolve(wanted, &cached)?;
        if let Some(why) = refused(&files) {
            return Err(id.error(format_args!("{why}")));
        }
        cache.record(&commit, &files)?;
        let folder = cache.snapshot(&commit);
        let lacking: Vec<&String> = wanted.iter().filter(|file| !folder.join(file).is_file()).collect();
        for (index, file) in lacking.iter().enumerate() {
            let files = lacking.len();
            remote.fetch(&commit, file, &mut |done, size| progress(Download { file, done, size, index, files }))?;
        }
        Ok(Snapshot { folder, commit })
    }
}
