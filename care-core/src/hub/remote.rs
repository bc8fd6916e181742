//! Requests to the server: a revision's commit and list of files, and downloads.

use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo, Metadata};

use super::cache::RepoCache;
use super::checksum::compare;
use super::config::HubConfig;
use super::repo::{RepoId, is_commit};
use crate::error::{Error, Result};
use crate::files::rename_file;

/// A repository on the server.
pub(super) struct Remote<'a> {
    api: Api,
    config: &'a HubConfig,
    cache: &'a RepoCache,
    id: &'a RepoId,
}

/// A revision, resolved by the server.
pub(super) struct Resolved {
    pub(super) commit: String,
    /// Every file of the commit.
    pub(super) files: Vec<String>,
    /// The requested ones: at least one, each a path inside the snapshot's folder.
    pub(super) wanted: Vec<String>,
}

impl<'a> Remote<'a> {
    /// # Errors
    /// If the client cannot be created; requests nothing yet.
    pub(super) fn new(config: &'a HubConfig, cache: &'a RepoCache, id: &'a RepoId) -> Result<Self> {
        let api = ApiBuilder::from_cache(cache.cache().clone())
            .with_endpoint(config.endpoint.clone())
            .with_token(config.token.clone())
            .with_user_agent("care-core", env!("CARGO_PKG_VERSION"))
            .with_progress(false)
            // hf-hub's own retries wait, and overwrite the end of a resumed file.
            .with_retries(0)
            .build()
            .map_err(|e| id.error("cannot create a client for the Hugging Face hub").with_source(e))?;
        Ok(Self { api, config, cache, id })
    }

    /// The commit of the revision and its files. `cached` describes the state of the cache, for error messages.
    pub(super) fn resolve(&self, wanted: &dyn Fn(&str) -> bool, cached: &str) -> Result<Resolved> {
        let repo = self.api.repo(self.cache.repo(self.id.revision_or_main()));
        let info = repo.info().map_err(|e| self.failure(e, None, cached))?;
        if !is_commit(&info.sha) {
            return Err(self.id.error(format_args!("`{}` is not a commit hash", info.sha)));
        }
        if is_commit(self.id.revision_or_main()) && info.sha != self.id.revision_or_main() {
            return Err(self.id.error(format_args!("{} answers with commit {}", self.config.endpoint, info.sha)));
        }
        let files: Vec<String> = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        let wanted: Vec<String> = files.iter().filter(|file| wanted(file)).cloned().collect();
        if wanted.is_empty() {
            return Err(self.id.error("the repository has none of the requested files"));
        }
        if let Some(file) = wanted.iter().find(|file| !is_plain_path(file)) {
            return Err(self.id.error(format_args!("`{file}` is not a file name that can be requested")));
        }
        Ok(Resolved { commit: info.sha, files, wanted })
    }

    /// Downloads one file of a commit into the cache, resuming an interrupted download.
    pub(super) fn fetch(&self, commit: &str, file: &str, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let repo = self.api.repo(self.cache.repo(commit));
        let failed = |e| self.failure(e, Some(file), "received data is kept");
        let metadata = self.api.metadata(&repo.url(file)).map_err(failed)?;
        let (etag, size) = (metadata.etag(), metadata.size() as u64);
        self.check(&metadata, commit, file)?;

        self.cache.unlink_dangling(commit, file)?;
        let blob = self.cache.blob(etag);
        let part = blob.with_extension("part");
        if length(&part) >= size.max(1) {
            // Complete but not yet renamed, or not this content at all, which the checksum tells.
            rename_file(&part, &blob)?;
        }
        if blob.is_file() && compare(&blob, etag, size)?.is_none() {
            self.cache.link(etag, commit, file)?;
            progress(size, size);
            return Ok(());
        }
        let pointer = self.download(&repo, file, &part, commit, progress)?;
        if let Some(mismatch) = compare(&pointer, etag, size)? {
            self.cache.discard(etag, commit, file)?;
            let problem = format!("expected {}, found {}", mismatch.expected, mismatch.found);
            return Err(self.id.error(format_args!("{file}: {problem}; the file was removed, try again")));
        }
        Ok(())
    }

    /// Downloads a file, and resumes as long as each attempt receives some data.
    fn download(
        &self,
        repo: &ApiRepo,
        file: &str,
        part: &Path,
        commit: &str,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<PathBuf> {
        let mut arrived = length(part);
        loop {
            let outcome = repo.download_with_progress(file, Relay { report: &mut *progress, done: 0, size: 0 });
            self.cache.remove_commit_ref(commit)?;
            match outcome {
                Err(ApiError::IoError(_)) if length(part) > arrived => arrived = length(part),
                outcome => return outcome.map_err(|e| self.failure(e, Some(file), "received data is kept")),
            }
        }
    }

    /// Rejects a file of another commit, and an etag that would be written outside the cache's folder.
    fn check(&self, metadata: &Metadata, commit: &str, file: &str) -> Result<()> {
        if metadata.commit_hash() != commit {
            let found = metadata.commit_hash();
            return Err(self.id.error(format_args!("{file}: expected commit {commit}, found commit {found}")));
        }
        let etag = metadata.etag().strip_prefix("W/").unwrap_or(metadata.etag());
        if etag.is_empty() || !etag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
            return Err(self.id.error(format_args!("{file}: invalid etag `{}`", metadata.etag())));
        }
        Ok(())
    }

    /// Translates hf-hub's error into a message for the user.
    fn failure(&self, error: ApiError, file: Option<&str>, kept: &str) -> Error {
        let endpoint = &self.config.endpoint;
        let what = file.map(|file| format!("{file}: ")).unwrap_or_default();
        let status = match &error {
            ApiError::RequestError(error) => match error.as_ref() {
                ureq::Error::StatusCode(status) => Some(*status),
                _ => None,
            },
            _ => None,
        };
        let problem = match (&error, status) {
            (_, Some(status @ (401 | 403))) if self.config.token.is_some() => format!(
                "{what}status {status}: it is private, gated or does not exist, and the token has no access; accept a \
                 gated repository's terms at {endpoint}/{}",
                self.cache.repo("").url()
            ),
            (_, Some(status @ (401 | 403))) => format!(
                "{what}status {status}: it is private, gated or does not exist; set HF_TOKEN to a token with access"
            ),
            (_, Some(404)) => format!("{what}{endpoint} has no such repository, revision or file"),
            (_, Some(status)) => format!("{what}{endpoint} answers with status {status}; {kept}"),
            (ApiError::RequestError(cause), None) if is_unreachable(cause) => {
                format!("{what}cannot reach {endpoint}, check the network; {kept}")
            }
            (ApiError::IoError(_), _) => format!("{what}the download was interrupted; {kept}, try again to resume"),
            (ApiError::LockAcquisition(_), _) => {
                format!("{what}another program is downloading it; try again when it has finished")
            }
            _ => format!("{what}{endpoint} does not respond like a Hugging Face hub"),
        };
        self.id.error(problem).with_source(error)
    }
}

/// Forwards hf-hub's progress to a callback of bytes done and total bytes.
struct Relay<'a> {
    report: &'a mut dyn FnMut(u64, u64),
    done: u64,
    size: u64,
}

impl Progress for Relay<'_> {
    fn init(&mut self, size: usize, _: &str) {
        (self.done, self.size) = (0, size as u64);
    }

    fn update(&mut self, bytes: usize) {
        self.done += bytes as u64;
        if bytes > 0 {
            (self.report)(self.done, self.size);
        }
    }

    fn finish(&mut self) {}
}

/// Whether there was no response at all.
fn is_unreachable(error: &ureq::Error) -> bool {
    use ureq::Error::{ConnectProxyFailed, ConnectionFailed, HostNotFound, Io, Rustls, Timeout, Tls};
    matches!(error, ConnectProxyFailed(_) | ConnectionFailed | HostNotFound | Io(_) | Rustls(_) | Timeout(_) | Tls(_))
}

/// Whether a name is a path inside the snapshot's folder and valid in a URL as it is, since hf-hub does not escape it.
fn is_plain_path(file: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+=@,()[]~!$&".contains(&b);
    file.split('/').all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(plain))
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
