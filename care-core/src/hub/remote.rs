//! Requests to the server: a revision's commit and list of files, and downloads.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LOCATION, RANGE};
use ureq::http::{Response, StatusCode, Uri};
use ureq::{Agent, Body};

use super::cache::RepoCache;
use super::checksum::compare;
use super::config::HubConfig;
use super::repo::{RepoId, RepoKind, is_commit};
use crate::error::{Error, Result};
use crate::files::rename_file;

/// Redirects that are followed before a request is given up.
const MAX_REDIRECTS: usize = 10;
/// Largest list of a repository's files in bytes.
const MAX_LISTING: u64 = 64 << 20;
/// Bytes per second below which a download counts as stalled.
const MIN_RATE: f64 = 256.0;
/// Bytes read at a time.
const CHUNK: usize = 1 << 16;
/// How long another process's download of the same file is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// A repository on the server.
pub(super) struct Remote<'a> {
    agent: Agent,
    endpoint: Uri,
    config: &'a HubConfig,
    cache: &'a RepoCache,
    kind: RepoKind,
    id: &'a RepoId,
}

/// The fields of the hub's answer about a revision that are used.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// What the hub announces about a file.
struct Announced {
    /// Also the name of the blob in the cache.
    etag: String,
    size: u64,
}

/// Why a request has no usable response.
enum Failure {
    Http(ureq::Error),
    /// The connection broke while the body was read, or no data came for too long.
    Interrupted(io::Error),
    /// Another process holds the lock of the file.
    Locked,
    /// The response lacks what a hub's has.
    NoHub(&'static str),
    Local(Error),
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        Self::Http(error)
    }
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
    /// If the endpoint is not an address; requests nothing yet.
    pub(super) fn new(config: &'a HubConfig, cache: &'a RepoCache, kind: RepoKind, id: &'a RepoId) -> Result<Self> {
        let endpoint = config.endpoint.parse().map_err(|e| {
            let allowed = "an address that starts with http:// or https://";
            Error::setting("HF_ENDPOINT", format!("`{}`", config.endpoint), allowed).with_source(e)
        })?;
        let settings = Agent::config_builder()
            .user_agent(concat!("care-core/", env!("CARGO_PKG_VERSION")))
            // Followed here, so that each host gets only what it may see.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(config.timeout))
            .timeout_connect(Some(config.timeout))
            .timeout_send_request(Some(config.timeout))
            .timeout_recv_response(Some(config.timeout))
            .timeout_per_read(Some(config.timeout));
        Ok(Self { agent: settings.build().into(), endpoint, config, cache, kind, id })
    }

    /// The commit of the revision and its files. `cached` describes the state of the cache, for error messages.
    pub(super) fn resolve(&self, wanted: &dyn Fn(&str, &[String]) -> bool, cached: &str) -> Result<Resolved> {
        let info = self.info().map_err(|e| self.failure(e, None, cached))?;
        if !is_commit(&info.sha) {
            return Err(self.id.error(format_args!("`{}` is not a commit hash", info.sha)));
        }
        if is_commit(self.id.revision_or_main()) && info.sha != self.id.revision_or_main() {
            return Err(self.id.error(format_args!("{} answers with commit {}", self.config.endpoint, info.sha)));
        }
        let files: Vec<String> = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        let wanted: Vec<String> = files.iter().filter(|file| wanted(file, &files)).cloned().collect();
        if wanted.is_empty() {
            return Err(self.id.error("the repository has none of the requested files"));
        }
        if let Some(file) = wanted.iter().find(|file| !is_plain_path(file)) {
            return Err(self.id.error(format_args!("`{file}` is not a file name that can be requested")));
        }
        Ok(Resolved { commit: info.sha, files, wanted })
    }

    /// The repository's address.
    fn page(&self) -> String {
        let kind = match self.kind {
            RepoKind::Model => "",
            RepoKind::Dataset => "datasets/",
        };
        format!("{}/{kind}{}", self.config.endpoint, self.id.name())
    }

    fn info(&self) -> std::result::Result<Info, Failure> {
        let kind = match self.kind {
            RepoKind::Model => "models",
            RepoKind::Dataset => "datasets",
        };
        let name = self.id.name();
        let revision = self.id.revision_or_main().replace('/', "%2F");
        let address = format!("{}/api/{kind}/{name}/revision/{revision}", self.config.endpoint);
        let (_, response) = self.get(&address, None, &|_, _| true)?;
        let mut body = response.into_body().into_with_config().limit(MAX_LISTING).reader();
        let mut content = Vec::new();
        self.read(&mut body, &mut |bytes| content.write_all(bytes))?;
        serde_json::from_slice(&content).map_err(|_| Failure::NoHub("no list of files"))
    }

    /// Downloads one file of a commit into the cache, resuming an interrupted download.
    pub(super) fn fetch(&self, commit: &str, file: &str, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let address = format!("{}/resolve/{commit}/{file}", self.page());
        let failed = |e| self.failure(e, Some(file), "received data is kept");
        let Announced { etag, size } = self.announced(&address, commit, file).map_err(failed)?;

        self.cache.unlink_dangling(commit, file)?;
        let blob = self.cache.blob(&etag);
        if let Some(parent) = blob.parent() {
            std::fs::create_dir_all(parent).map_err(|e| Error::io("create folder", parent, e))?;
        }
        let _lock = lock(&blob.with_extension("lock")).map_err(failed)?;
        if !blob.is_file() || compare(&blob, &etag, size)?.is_some() {
            let part = blob.with_extension("part");
            // A part may be complete but not yet renamed, or not this content at all, which the checksum tells.
            self.download(&address, &part, size, progress).map_err(failed)?;
            rename_file(&part, &blob)?;
        }
        progress(size, size);
        if let Some(mismatch) = compare(&blob, &etag, size)? {
            self.cache.discard(&etag, commit, file)?;
            let problem = format!("expected {}, found {}", mismatch.expected, mismatch.found);
            return Err(self.id.error(format_args!("{file}: {problem}; the file was removed, try again")));
        }
        self.cache.link(&etag, commit, file).map(drop)
    }

    /// The etag and size of a file, which the hub itself states before it redirects to where large files are stored.
    fn announced(&self, address: &str, commit: &str, file: &str) -> std::result::Result<Announced, Failure> {
        // A renamed repository is elsewhere on the hub; the redirect to where a large file is stored tells about the file.
        let still_the_hub = |response: &Response<Body>, next: &Uri| {
            next.authority() == self.endpoint.authority() && !response.headers().contains_key("x-linked-etag")
        };
        let (_, response) = self.get(address, Some("bytes=0-0"), &still_the_hub)?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let found = header("x-repo-commit").ok_or(Failure::NoHub("no x-repo-commit"))?;
        if found != commit {
            let error = self.id.error(format_args!("{file}: expected commit {commit}, found commit {found}"));
            return Err(Failure::Local(error));
        }
        let etag = header("x-linked-etag").or(header(ETAG.as_str())).ok_or(Failure::NoHub("no etag"))?;
        let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"').to_owned();
        if etag.is_empty() || !etag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
            return Err(Failure::Local(self.id.error(format_args!("{file}: invalid etag `{etag}`"))));
        }
        let size = match header("x-linked-size") {
            Some(size) => size.parse().ok(),
            None if response.status().is_redirection() => size(&self.get(address, Some("bytes=0-0"), &|_, _| true)?.1),
            None => size(&response),
        };
        Ok(Announced { etag, size: size.ok_or(Failure::NoHub("no size"))? })
    }

    /// Downloads a file to its end, and resumes where the connection broke as long as each attempt receives some data.
    fn download(
        &self,
        address: &str,
        part: &Path,
        size: u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> std::result::Result<(), Failure> {
        loop {
            let arrived = length(part);
            if arrived >= size.max(1) {
                return Ok(());
            }
            match self.download_once(address, part, arrived, size, progress) {
                Err(Failure::Interrupted(cause)) if !is_timeout(&cause) && length(part) > arrived => {}
                Ok(()) if size > 0 && length(part) < size => {
                    if length(part) <= arrived {
                        return Err(Failure::Interrupted(io::ErrorKind::UnexpectedEof.into()));
                    }
                }
                outcome => return outcome,
            }
        }
    }

    fn download_once(
        &self,
        address: &str,
        part: &Path,
        arrived: u64,
        size: u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> std::result::Result<(), Failure> {
        let (_, response) = self.get(address, Some(&format!("bytes={arrived}-")), &|_, _| true)?;
        // A server that ignores the range sends the file from its start.
        let resumes = response.status() == StatusCode::PARTIAL_CONTENT;
        let open = File::options().create(true).write(true).append(resumes).truncate(!resumes).open(part);
        let cannot_write = |e| Failure::Local(Error::io("write", part, e));
        let mut file = open.map_err(cannot_write)?;
        let mut done = if resumes { arrived } else { 0 };
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut excess = false;
        let mut refused = None;
        let outcome = self.read(&mut body, &mut |bytes| {
            done += bytes.len() as u64;
            excess |= done > size;
            if excess {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            file.write_all(bytes).inspect_err(|e| refused = Some(io::Error::new(e.kind(), e.to_string())))?;
            progress(done, size);
            Ok(())
        });
        match (outcome, refused) {
            _ if excess => Err(Failure::NoHub("more bytes than announced")),
            (_, Some(error)) => Err(cannot_write(error)),
            (outcome, None) => outcome,
        }
    }

    /// Reads a body to its end. Too little data per second is an interruption, like no data at all.
    fn read(
        &self,
        body: &mut dyn Read,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> std::result::Result<(), Failure> {
        let mut chunk = vec![0; CHUNK];
        let (mut since, mut received) = (Instant::now(), 0.0);
        loop {
            match body.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(bytes) => {
                    take(&chunk[..bytes]).map_err(Failure::Interrupted)?;
                    received += bytes as f64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Failure::Interrupted(e)),
            }
            let elapsed = since.elapsed();
            if elapsed >= self.config.timeout {
                if received < MIN_RATE * elapsed.as_secs_f64() {
                    return Err(Failure::Interrupted(io::ErrorKind::TimedOut.into()));
                }
                (since, received) = (Instant::now(), 0.0);
            }
        }
    }

    /// Requests an address and follows the redirects that `follow` accepts; returns the last address.
    ///
    /// The token is sent to the endpoint and to no other host.
    fn get(
        &self,
        address: &str,
        range: Option<&str>,
        follow: &dyn Fn(&Response<Body>, &Uri) -> bool,
    ) -> std::result::Result<(Uri, Response<Body>), Failure> {
        let mut address: Uri = address.parse().map_err(|_| Failure::NoHub("no valid address"))?;
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.agent.get(&address);
            if let Some(range) = range {
                request = request.header(RANGE, range);
            }
            let is_endpoint =
                (address.scheme(), address.authority()) == (self.endpoint.scheme(), self.endpoint.authority());
            if let Some(token) = self.config.token.as_ref().filter(|_| is_endpoint) {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            let response = request.call()?;
            if !response.status().is_redirection() {
                return Ok((address, response));
            }
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| relative_to(&address, location));
            let next = next.ok_or(Failure::NoHub("a redirect without an address"))?;
            if !follow(&response, &next) {
                return Ok((address, response));
            }
            address = next;
        }
        Err(Failure::Http(ureq::Error::TooManyRedirects))
    }

    /// A message for the user.
    fn failure(&self, failure: Failure, file: Option<&str>, kept: &str) -> Error {
        let endpoint = &self.config.endpoint;
        let what = file.map(|file| format!("{file}: ")).unwrap_or_default();
        let seconds = self.config.timeout.as_secs_f64();
        let problem = match &failure {
            Failure::Http(ureq::Error::StatusCode(status @ (401 | 403))) if self.config.token.is_some() => format!(
                "{what}status {status}: it is private, gated or does not exist, and the token has no access; accept a \
                 gated repository's terms at {}",
                self.page()
            ),
            Failure::Http(ureq::Error::StatusCode(status @ (401 | 403))) => format!(
                "{what}status {status}: it is private, gated or does not exist; set HF_TOKEN to a token with access"
            ),
            Failure::Http(ureq::Error::StatusCode(404)) => {
                format!("{what}{endpoint} has no such repository, revision or file")
            }
            Failure::Http(ureq::Error::StatusCode(status)) => {
                format!("{what}{endpoint} answers with status {status}; {kept}")
            }
            Failure::Http(ureq::Error::Timeout(_)) => {
                format!("{what}{endpoint} did not answer within {seconds} s; {kept}")
            }
            Failure::Http(cause) if is_unreachable(cause) => {
                format!("{what}cannot reach {endpoint}, check the network; {kept}")
            }
            Failure::Interrupted(cause) if is_timeout(cause) => {
                format!("{what}(almost) no data for {seconds} s; {kept}, try again to resume")
            }
            Failure::Interrupted(_) if file.is_none() => {
                format!("cannot reach {endpoint}, check the network; {kept}")
            }
            Failure::Interrupted(_) => format!("{what}the download was interrupted; {kept}, try again to resume"),
            Failure::Locked => format!("{what}another program is downloading it; try again when it has finished"),
            Failure::Http(_) | Failure::NoHub(_) | Failure::Local(_) => {
                format!("{what}{endpoint} does not respond like a Hugging Face hub")
            }
        };
        match failure {
            Failure::Local(error) => error,
            Failure::Http(cause) => self.id.error(problem).with_source(cause),
            Failure::Interrupted(cause) => self.id.error(problem).with_source(cause),
            Failure::NoHub(cause) => self.id.error(problem).with_source(io::Error::other(cause)),
            Failure::Locked => self.id.error(problem),
        }
    }
}

/// Locks a file's download; the lock ends with the process that holds it.
fn lock(path: &Path) -> std::result::Result<File, Failure> {
    let cannot_lock = |e| Failure::Local(Error::io("lock", path, e));
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(cannot_lock)?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_WAIT => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(TryLockError::WouldBlock) => return Err(Failure::Locked),
            // A file system without locks, as some network drives are: a torn file fails its checksum.
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => return Ok(file),
            Err(TryLockError::Error(e)) => return Err(cannot_lock(e)),
        }
    }
}

/// The size of the whole file that a response is a part of.
fn size(response: &Response<Body>) -> Option<u64> {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    match header(CONTENT_RANGE) {
        Some(range) => range.rsplit_once('/')?.1.parse().ok(),
        None => header(CONTENT_LENGTH)?.parse().ok(),
    }
}

/// The address that a `Location` header means.
fn relative_to(address: &Uri, location: &str) -> Option<Uri> {
    let next: Uri = location.parse().ok()?;
    if next.host().is_some() {
        return matches!(next.scheme_str(), Some("http" | "https")).then_some(next);
    }
    let mut parts = address.clone().into_parts();
    parts.path_and_query = next.into_parts().path_and_query;
    Uri::from_parts(parts).ok()
}

/// Whether reading a body ended because too little data came.
fn is_timeout(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    error.kind() == io::ErrorKind::TimedOut || matches!(inner, Some(ureq::Error::Timeout(_)))
}

/// Whether there was no response at all.
fn is_unreachable(error: &ureq::Error) -> bool {
    use ureq::Error::{ConnectProxyFailed, ConnectionFailed, HostNotFound, Io, Rustls, Tls};
    matches!(error, ConnectProxyFailed(_) | ConnectionFailed | HostNotFound | Io(_) | Rustls(_) | Tls(_))
}

/// Whether a name is a path inside the snapshot's folder and valid in a URL as it is.
fn is_plain_path(file: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+=@,()[]~!$&".contains(&b);
    file.split('/').all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(plain))
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
