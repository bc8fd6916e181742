//! Downloads models and data sets from the Hugging Face hub, through the local cache.

mod cache;
mod checksum;
mod config;
mod data_set;
mod model;
mod remote;
mod repo;
mod snapshot;

use std::path::Path;

pub use config::HubConfig;
pub use repo::{RepoId, RepoKind};
pub use snapshot::Snapshot;

use cache::{Cached, RepoCache};
use remote::{Remote, Resolved};

use crate::error::Result;
use crate::files::is_model_file;

/// The Hugging Face hub, as a source of local folders.
///
/// The cache is that of the Python library `huggingface_hub`: either finds what the other downloaded. A revision that
/// is complete in the cache is returned without any request, so a branch stays at the commit at which it was first
/// downloaded; request a newer one by its commit hash. Local folders need no `Hub`: callers that accept a path or a
/// name create one only for a name.
///
/// Requests are made only if files are missing, and never in offline mode. The proxy is taken from `ALL_PROXY`,
/// `HTTPS_PROXY` or `HTTP_PROXY`, with exceptions in `NO_PROXY`. Certificates are checked against Mozilla's root
/// certificates, not the system's.
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

/// The progress of a download. Reported for each chunk that arrives, so a slow display should skip some reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Download<'a> {
    /// The file's path in the repository.
    pub file: &'a str,
    /// Bytes on disk, including those of an earlier, interrupted download.
    pub done: u64,
    /// Size of the file in bytes.
    pub size: u64,
    /// Index of this file among the missing ones, from 0.
    pub index: usize,
    /// Number of missing files.
    pub files: usize,
}

/// The requested part of a repository.
struct Source<'a> {
    kind: RepoKind,
    /// Whether a file is wanted, of all files of the repository.
    wanted: &'a dyn Fn(&str, &[String]) -> bool,
    /// Why a repository with these files is rejected before anything is downloaded.
    refused: &'a dyn Fn(&[String]) -> Option<String>,
}

impl Hub {
    /// The hub with these settings; reads and requests nothing yet.
    ///
    /// # Errors
    /// If the endpoint is not an address, or the token is not valid in an HTTP header.
    pub fn new(config: HubConfig) -> Result<Self> {
        Ok(Self { config: config.checked()? })
    }

    /// The hub with the settings from environment variables, see [`HubConfig::from_env`].
    ///
    /// # Errors
    /// As [`HubConfig::from_env`] and [`Hub::new`].
    pub fn from_env() -> Result<Self> {
        Self::new(HubConfig::from_env()?)
    }

    /// The folder of a model: every `.json` and `.safetensors` file, `vocab.txt` and `merges.txt` of the repository, and PyTorch's `.bin` files of
    /// weights where there are no safetensors, subfolders included except `onnx`, `openvino`, `original` and `coreml`.
    ///
    /// A folder that another program downloaded is used as it is if it has the weights and the tokenizer of each
    /// `config.json`, every shard of an index, and the modules listed in `modules.json` or `router_config.json`.
    ///
    /// # Errors
    /// As [`Hub::snapshot`].
    pub fn model(&self, id: &RepoId, progress: &mut dyn FnMut(Download<'_>)) -> Result<Snapshot> {
        let source = Source { kind: RepoKind::Model, wanted: &is_model_file, refused: &model::foreign_weights };
        self.fetch(id, source, &model::lacking_file, progress)
    }

    /// The folder of a data set: every `.jsonl`, `.jsonl.gz`, `.parquet` and `.tsv` file of the repository, except hidden ones.
    ///
    /// A folder that another program downloaded is used as it is if it has a file of rows.
    ///
    /// # Errors
    /// As [`Hub::snapshot`].
    pub fn data_set(&self, id: &RepoId, progress: &mut dyn FnMut(Download<'_>)) -> Result<Snapshot> {
        self.snapshot(RepoKind::Dataset, id, &data_set::is_data_file, &data_set::lacking_rows, progress)
    }

    /// The folder of the `wanted` files of a repository; downloads those that are missing.
    ///
    /// The revision is resolved to a commit once, and every file is taken from that commit. Interrupted downloads are
    /// resumed. The checksum of each new file is verified.
    ///
    /// `wanted` selects files by their paths in the repository, with slashes. `lacking` names a file that a folder
    /// lacks; it is called only if another program filled the folder, since the commit's list of files is then unknown.
    ///
    /// # Errors
    /// [`ErrorKind::Hub`](crate::ErrorKind::Hub) if files are missing in offline mode; if the server cannot be reached,
    /// denies access, does not know the repository or revision, or has none of the `wanted` files; or if a file fails
    /// its checksum. Also returns an error if the cache cannot be read or written.
    pub fn snapshot(
        &self,
        kind: RepoKind,
        id: &RepoId,
        wanted: &dyn Fn(&str) -> bool,
        lacking: &dyn Fn(&Path) -> Option<String>,
        progress: &mut dyn FnMut(Download<'_>),
    ) -> Result<Snapshot> {
        self.fetch(id, Source { kind, wanted: &|file, _| wanted(file), refused: &|_| None }, lacking, progress)
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

        let remote = Remote::new(&self.config, &cache, kind, id)?;
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
