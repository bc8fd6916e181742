//! A test server on the loopback interface that responds like the Hugging Face hub.
//!
//! Small files come from the hub itself, with git's blob hash as etag. Large files are redirected to a store (here
//! `/store/` of the same server), with their SHA-256 as `x-linked-etag`. The responses follow those of huggingface.co
//! to the Python library's requests.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub(crate) const COMMIT_A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(crate) const COMMIT_B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// Smallest body that [`HubServer::cut_bodies`] truncates.
const CUT_FROM: usize = 200_000;

pub(crate) fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// The hash that `git hash-object` prints.
pub(crate) fn git_blob(content: &[u8]) -> String {
    hex(&Sha1::new().chain_update(format!("blob {}\0", content.len())).chain_update(content).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The content sent for a corrupted file.
pub(crate) fn corrupted(content: &[u8]) -> Vec<u8> {
    content.iter().map(|byte| byte ^ 1).collect()
}

/// The address of a port with no listener.
pub(crate) fn closed_endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A request that the server received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) authorization: Option<String>,
}

#[derive(Clone)]
struct File {
    content: Vec<u8>,
    large: bool,
    corrupted: bool,
}

#[derive(Default)]
struct State {
    address: String,
    branches: BTreeMap<(String, String), String>,
    files: BTreeMap<(String, String), BTreeMap<String, File>>,
    renamed: BTreeMap<String, String>,
    token: Option<String>,
    cuts: VecDeque<usize>,
    answer: Option<String>,
    requests: Vec<Request>,
    /// How large files are sent after the first 100 bytes, if not at once.
    slow: Option<Slow>,
    elsewhere: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Slow {
    /// Nothing more, and the connection stays open.
    Silent,
    /// One byte every 20 ms.
    Drip,
}

/// The server; it runs until the process ends.
pub(crate) struct HubServer {
    state: Arc<Mutex<State>>,
}

impl HubServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State { address, ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || answer(&stream, &shared));
            }
        });
        Self { state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.state().address)
    }

    pub(crate) fn set_branch(&self, repo: &str, branch: &str, commit: &str) {
        self.state().branches.insert((repo.into(), branch.into()), commit.into());
    }

    pub(crate) fn add(&self, repo: &str, commit: &str, name: &str, content: &[u8]) {
        self.insert(repo, commit, name, File { content: content.to_vec(), large: false, corrupted: false });
    }

    pub(crate) fn add_large(&self, repo: &str, commit: &str, name: &str, content: &[u8]) {
        self.insert(repo, commit, name, File { content: content.to_vec(), large: true, corrupted: false });
    }

    fn insert(&self, repo: &str, commit: &str, name: &str, file: File) {
        self.state().files.entry((repo.into(), commit.into())).or_default().insert(name.into(), file);
    }

    /// Sends a file with content that does not match its etag.
    pub(crate) fn corrupt(&self, repo: &str, commit: &str, name: &str) {
        let mut state = self.state();
        state.files.get_mut(&(repo.into(), commit.into())).unwrap().get_mut(name).unwrap().corrupted = true;
    }

    pub(crate) fn repair(&self) {
        self.state().files.values_mut().flat_map(BTreeMap::values_mut).for_each(|file| file.corrupted = false);
    }

    /// Closes the connection after this many bytes of a large file, once for each entry.
    pub(crate) fn cut_bodies(&self, after: &[usize]) {
        self.state().cuts = after.iter().copied().collect();
    }

    /// Sends large files slowly from now on.
    pub(crate) fn slow_down(&self, slow: Slow) {
        self.state().slow = Some(slow);
    }

    /// Redirects large files to a host of another name.
    pub(crate) fn store_elsewhere(&self) {
        self.state().elsewhere = true;
    }

    pub(crate) fn require_token(&self, token: &str) {
        self.state().token = Some(token.into());
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        self.state().renamed.insert(from.into(), to.into());
    }

    /// Responds to every request with the same text.
    pub(crate) fn answer_all_with(&self, text: &str) {
        self.state().answer = Some(text.into());
    }

    /// The requests since the start or the last [`HubServer::clear`].
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    pub(crate) fn clear(&self) {
        self.state().requests.clear();
    }

    /// The requested ranges of large files, without the requests for their length.
    pub(crate) fn content_ranges(&self) -> Vec<String> {
        let requests = self.requests().into_iter().filter(|request| request.path.starts_with("/store/"));
        requests.filter_map(|request| request.range).filter(|range| range != "bytes=0-0").collect()
    }
}

/// A response before it is sent.
struct Response {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Number of bytes of the body that are sent.
    sent: usize,
}

impl Response {
    fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: Vec::new(), sent: body.len(), body }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

fn answer(stream: &TcpStream, state: &Mutex<State>) {
    let Some(request) = read(stream) else { return };
    let (response, slow) = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        (state.respond(&request), state.slow)
    };
    let mut head = format!("HTTP/1.1 {}\r\nconnection: close\r\n", response.status);
    for (name, value) in &response.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", response.body.len());
    let mut stream = stream;
    let _ = stream.write_all(head.as_bytes());
    let content = &response.body[..response.sent];
    let (now, later) = content.split_at(if slow.is_some() { content.len().min(100) } else { content.len() });
    let _ = stream.write_all(now);
    match slow {
        Some(Slow::Silent) if !later.is_empty() => std::thread::sleep(std::time::Duration::from_secs(60)),
        _ => {
            for byte in later {
                std::thread::sleep(std::time::Duration::from_millis(20));
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
            }
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_string();
    let mut request = Request { path, range: None, authorization: None };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.into()),
            "authorization" => request.authorization = Some(value.into()),
            _ => {}
        }
    }
    Some(request)
}

impl State {
    fn respond(&mut self, request: &Request) -> Response {
        if let Some(answer) = &self.answer {
            return Response::new("200 OK", answer.as_str());
        }
        if let Some(hash) = request.path.strip_prefix("/store/") {
            return self.store(hash, request.range.as_deref());
        }
        if let Some(token) = &self.token {
            match &request.authorization {
                None => return Response::new("401 Unauthorized", "{}"),
                Some(sent) if *sent != format!("Bearer {token}") => return Response::new("403 Forbidden", "{}"),
                Some(_) => {}
            }
        }
        self.info(&request.path)
            .or_else(|| self.resolve(&request.path, request.range.as_deref()))
            .unwrap_or_else(|| Response::new("404 Not Found", "{}"))
    }

    /// `/api/models/org/name/revision/main`
    fn info(&self, path: &str) -> Option<Response> {
        let path = path.strip_prefix("/api/")?;
        let (repo, revision) = path.strip_prefix("models/").unwrap_or(path).split_once("/revision/")?;
        let repo = self.renamed.get(repo).map_or(repo, String::as_str);
        let revision = revision.replace("%2F", "/");
        let commit = self.branches.get(&(repo.into(), revision.clone())).unwrap_or(&revision);
        let files = self.files.get(&(repo.into(), commit.clone()))?;
        let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let json = serde_json::json!({ "id": repo, "sha": commit, "siblings": siblings });
        Some(Response::new("200 OK", json.to_string()).with("content-type", "application/json"))
    }

    /// `/org/name/resolve/<commit>/config.json`
    fn resolve(&self, path: &str, range: Option<&str>) -> Option<Response> {
        let (repo, rest) = path.strip_prefix('/')?.split_once("/resolve/")?;
        if let Some(renamed) = self.renamed.get(repo) {
            let location = format!("/{renamed}/resolve/{rest}");
            return Some(Response::new("307 Temporary Redirect", "").with("location", location));
        }
        let (revision, name) = rest.split_once('/')?;
        let commit = self.branches.get(&(repo.into(), revision.into())).map_or(revision, String::as_str);
        let file = self.files.get(&(repo.into(), commit.into()))?.get(name)?;
        let response = if file.large {
            let hash = sha256(&file.content);
            Response::new("302 Found", "Found. Redirecting to the store")
                .with("location", format!("http://{}/store/{hash}", self.store_address()))
                .with("x-linked-etag", format!("\"{hash}\""))
                .with("x-linked-size", file.content.len().to_string())
                .with("etag", "\"of the redirect\"")
        } else {
            file.part(range).with("etag", format!("\"{}\"", git_blob(&file.content)))
        };
        Some(response.with("x-repo-commit", commit))
    }

    fn store_address(&self) -> String {
        if self.elsewhere { self.address.replace("127.0.0.1", "localhost") } else { self.address.clone() }
    }

    fn store(&mut self, hash: &str, range: Option<&str>) -> Response {
        let mut files = self.files.values().flat_map(BTreeMap::values);
        let Some(file) = files.find(|file| file.large && sha256(&file.content) == hash) else {
            return Response::new("404 Not Found", "");
        };
        let mut response = file.part(range);
        if response.body.len() >= CUT_FROM
            && let Some(cut) = self.cuts.pop_front()
        {
            response.sent = cut;
        }
        response.with("etag", "\"of the store\"")
    }
}

impl File {
    /// The bytes of a range of the form `bytes=<from>-` or `bytes=<from>-<to>`.
    fn part(&self, range: Option<&str>) -> Response {
        let sent = if self.corrupted { corrupted(&self.content) } else { self.content.clone() };
        let Some((from, to)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
            return Response::new("200 OK", sent).with("accept-ranges", "bytes");
        };
        let from: usize = from.parse().unwrap();
        let to = to.parse().map_or(sent.len(), |to: usize| sent.len().min(to + 1));
        if from >= sent.len() {
            return Response::new("416 Range Not Satisfiable", "")
                .with("content-range", format!("bytes */{}", sent.len()));
        }
        Response::new("206 Partial Content", &sent[from..to])
            .with("accept-ranges", "bytes")
            .with("content-range", format!("bytes {from}-{}/{}", to - 1, sent.len()))
    }
}
