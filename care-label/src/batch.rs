//! Batch files: requests written as JSON Lines, and answers read back into the same journal.
//!
//! The form is that of OpenAI's Batch API, which Ark, DashScope and others take too; `vllm run-batch -i .. -o ..` answers
//! the same files without a server.
//!
//! # Reference
//! OpenAI API reference, "Batch": lines `{custom_id, method, url, body}`, at most 50,000 of them and 200 MB per file, one
//! model per file; answers come in any order, failed requests in an error file of their own.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use care_core::files::{PartialFolder, read_file, sha256_file, write_atomic};
use care_core::jsonl::for_each_jsonl;
use care_core::{Error, ErrorKind, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::http::StatusCode;

use crate::estimate::{questions, within_budget};
use crate::journal::{Journal, Known};
use crate::judge::client::{FailureKind, reported, request_body};
use crate::judge::{Judge, Judges};
use crate::pair::Pair;
use crate::prompt::Prompt;
use crate::vote::{Call, Key, Keys, State, Vote};

/// Most requests in a file that endpoints take.
pub const MOST_REQUESTS: usize = 50_000;
/// Most bytes of a file that endpoints take: 200 MB.
pub const MOST_BYTES: u64 = 200_000_000;

/// Where requests are sent.
const URL: &str = "/v1/chat/completions";
const MANIFEST: &str = "manifest.json";
/// Hexadecimal digits of a key in a `custom_id`, which has at most 64 characters with the attempt: some endpoints take
/// no more.
const DIGITS: usize = 60;
/// Votes per group when answers are recorded.
const GROUP: usize = 500;
/// Codes of requests that the endpoint did not get to: they are written again.
const NOT_TRIED: [&str; 3] = ["batch_expired", "batch_cancelled", "batch_canceled"];

/// How to write batch files.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Most requests per file, 1 to [`MOST_REQUESTS`], which is the default.
    pub requests: usize,
    /// Most bytes per file, 1 to [`MOST_BYTES`], which is the default.
    pub bytes: u64,
    /// Write although there are files whose answers were not read. If they were sent, their requests are paid twice.
    /// Default false.
    pub replace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { requests: MOST_REQUESTS, bytes: MOST_BYTES, replace: false }
    }
}

impl Options {
    /// Sets [`Options::requests`].
    #[must_use]
    pub fn with_requests(mut self, requests: usize) -> Self {
        self.requests = requests;
        self
    }

    /// Sets [`Options::bytes`].
    #[must_use]
    pub fn with_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets [`Options::replace`].
    #[must_use]
    pub fn with_replace(mut self, replace: bool) -> Self {
        self.replace = replace;
        self
    }
}

/// `manifest.json` beside the batch files of a judge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Manifest {
    /// Name of the judge.
    pub judge: String,
    /// Its model.
    pub model: String,
    /// [`Prompt::hash`].
    pub prompt: String,
    /// When the files were written, in UTC (RFC 3339).
    pub created: String,
    /// The files.
    pub files: Vec<BatchFile>,
}

/// A batch file in a [`Manifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BatchFile {
    /// Its name.
    pub name: String,
    /// Number of requests.
    pub requests: usize,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// Whether answers to it were read.
    pub read: bool,
}

/// What was written for a judge.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Name of the judge.
    pub judge: String,
    /// The files to send, each a batch of its own; none if no question of the judge is open.
    pub files: Vec<PathBuf>,
    /// Their requests.
    pub requests: usize,
}

/// Writes the open questions of every judge as batch files: `FOLDER/JUDGE/requests-001.jsonl` and so on, and a
/// [`Manifest`].
///
/// A question that the journal has answered is left out, so requests that expired or failed are sent again by writing
/// again. Each file is checked before it gets its name. Costs follow from the prices in the configuration: set those for
/// batches.
///
/// # Errors
/// If there are files whose answers were not read, the budget is below the estimate, an option is out of its range, two
/// judges' names give one folder, a request is too long for a file, or a file cannot be written.
pub fn write(
    pairs: &[Pair],
    judges: &Judges,
    prompt: &Prompt,
    journal: &Journal,
    folder: impl AsRef<Path>,
    options: &Options,
) -> Result<Vec<Written>> {
    if !(1..=MOST_REQUESTS).contains(&options.requests) {
        return Err(Error::setting("requests", options.requests, &format!("1 to {MOST_REQUESTS}")));
    }
    if !(1..=MOST_BYTES).contains(&options.bytes) {
        return Err(Error::setting("bytes", options.bytes, &format!("1 to {MOST_BYTES}")));
    }
    let folders = folders(judges, folder.as_ref())?;
    for folder in folders.iter().filter(|_| !options.replace) {
        let waiting = manifest(folder)?.and_then(|manifest| manifest.files.into_iter().find(|file| !file.read));
        if let Some(file) = waiting {
            let problem =
                "no answers to it were read: read them, or allow replacing it if it was not sent or has expired";
            return Err(Error::format(folder.join(file.name), problem));
        }
    }
    let questions = questions(pairs, judges, prompt, journal)?;
    within_budget(judges, prompt, journal, &questions)?;
    let mut written = Vec::new();
    for ((judge, folder), questions) in judges.judges.iter().zip(folders).zip(questions) {
        let mut files = Vec::new();
        if !questions.open.is_empty() {
            let partial = PartialFolder::create(&folder)?;
            let mut chunks = Chunks { folder: partial.path(), options, files: Vec::new(), out: None };
            for question in &questions.open {
                let body = request_body(judge, prompt, &pairs[question.pair as usize], question.sample)?;
                let custom_id = custom_id(&question.key, question.answers + 1);
                let line = json!({"custom_id": custom_id, "method": "POST", "url": URL, "body": body});
                chunks.add(&line.to_string())?;
            }
            files = chunks.finish()?;
            let manifest = Manifest {
                judge: judge.name.clone(),
                model: judge.model.clone(),
                prompt: prompt.hash(),
                created: Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string(),
                files: files.clone(),
            };
            write_manifest(partial.path(), &manifest)?;
            partial.commit()?;
        }
        written.push(Written {
            judge: judge.name.clone(),
            files: files.iter().map(|file| folder.join(&file.name)).collect(),
            requests: files.iter().map(|file| file.requests).sum(),
        });
    }
    Ok(written)
}

/// The folder of each judge.
fn folders(judges: &Judges, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut names = HashSet::new();
    let mut folders = Vec::new();
    for Judge { name, .. } in &judges.judges {
        let is_safe = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        let mut safe: String = name.chars().map(|c| if is_safe(c) { c } else { '-' }).collect();
        if safe.starts_with('.') {
            safe.insert(0, '-');
        }
        if !names.insert(safe.to_lowercase()) {
            return Err(Error::setting("judge.name", format!("`{name}`"), "names that differ as names of folders"));
        }
        folders.push(folder.join(safe));
    }
    Ok(folders)
}

fn manifest(folder: &Path) -> Result<Option<Manifest>> {
    let path = folder.join(MANIFEST);
    if !path.exists() {
        return Ok(None);
    }
    serde_json::from_slice(&read_file(&path)?).map(Some).map_err(|e| Error::format(&path, e))
}

fn write_manifest(folder: &Path, manifest: &Manifest) -> Result<()> {
    let text = serde_json::to_vec_pretty(manifest).map_err(|e| Error::format(folder.join(MANIFEST), e))?;
    write_atomic(folder.join(MANIFEST), text)
}

/// Files that are begun as the last one gets full.
struct Chunks<'a> {
    folder: &'a Path,
    options: &'a Options,
    files: Vec<BatchFile>,
    out: Option<BufWriter<File>>,
}

impl Chunks<'_> {
    fn add(&mut self, line: &str) -> Result<()> {
        let length = line.len() as u64 + 1;
        if length > self.options.bytes {
            return Err(Error::setting("bytes", self.options.bytes, &format!("at least {length}, one request")));
        }
        let has_room =
            |file: &BatchFile| file.requests < self.options.requests && file.bytes + length <= self.options.bytes;
        if !self.files.last().is_some_and(has_room) {
            self.close()?;
            let name = format!("requests-{:03}.jsonl", self.files.len() + 1);
            let path = self.folder.join(&name);
            self.out = Some(BufWriter::new(File::create(&path).map_err(|e| Error::io("write", &path, e))?));
            self.files.push(BatchFile { name, requests: 0, bytes: 0, sha256: String::new(), read: false });
        }
        if let (Some(file), Some(out)) = (self.files.last_mut(), &mut self.out) {
            let path = self.folder.join(&file.name);
            writeln!(out, "{line}").map_err(|e| Error::io("write", &path, e))?;
            file.requests += 1;
            file.bytes += length;
        }
        Ok(())
    }

    /// Ends the last file and checks it.
    fn close(&mut self) -> Result<()> {
        let (Some(file), Some(mut out)) = (self.files.last_mut(), self.out.take()) else { return Ok(()) };
        let path = self.folder.join(&file.name);
        out.flush().map_err(|e| Error::io("write", &path, e))?;
        drop(out);
        check(&path)?;
        file.sha256 = sha256_file(&path)?.1;
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<BatchFile>> {
        self.close()?;
        Ok(self.files)
    }
}

/// What [`check`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// Number of requests.
    pub requests: usize,
    /// Length of the file.
    pub bytes: u64,
    /// The model of all requests.
    pub model: String,
}

/// Checks a batch file for what endpoints reject after it was sent, some of them by hanging.
///
/// # Errors
/// If the file cannot be read, is empty or exceeds [`MOST_REQUESTS`] or [`MOST_BYTES`]; or if a line is no request, has the
/// `custom_id` of another, or another `url` or model. The message names the line.
pub fn check(path: impl AsRef<Path>) -> Result<Checked> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Request {
        custom_id: String,
        method: String,
        url: String,
        body: Value,
    }

    let path = path.as_ref();
    let bytes = fs::metadata(path).map_err(|e| Error::io("read", path, e))?.len();
    if bytes > MOST_BYTES {
        return Err(Error::format(path, format!("{bytes} bytes, allowed: at most {MOST_BYTES}")));
    }
    let (mut ids, mut first) = (HashSet::new(), None::<(String, String)>);
    for_each_jsonl(path, &mut |line, request: Request| {
        let refuse = |problem: String| Err(Error::line(path, line, problem));
        let Request { custom_id, method, url, body } = request;
        let Some(model) = body["model"].as_str().filter(|model| !model.is_empty()) else {
            return refuse("`body.model` is absent".into());
        };
        if body["messages"].as_array().is_none_or(Vec::is_empty) {
            return refuse("`body.messages` is absent or empty".into());
        }
        if method != "POST" {
            return refuse(format!("`method` is `{method}`, allowed: POST"));
        }
        let (first_url, first_model) = first.get_or_insert_with(|| (url.clone(), model.to_owned()));
        if *first_url != url {
            return refuse(format!("`url` is `{url}`, allowed: `{first_url}` as on the first line"));
        }
        if first_model != model {
            return refuse(format!("`body.model` is `{model}`, allowed: `{first_model}` as on the first line"));
        }
        if custom_id.is_empty() || !ids.insert(custom_id.clone()) {
            return refuse(format!("`custom_id` is `{custom_id}`, which is empty or duplicated"));
        }
        match ids.len() > MOST_REQUESTS {
            true => refuse(format!("more than {MOST_REQUESTS} requests")),
            false => Ok(()),
        }
    })?;
    let (_, model) = first.ok_or_else(|| Error::format(path, "no requests"))?;
    Ok(Checked { requests: ids.len(), bytes, model })
}

fn custom_id(key: &Key, attempt: u32) -> String {
    format!("{}-{attempt}", &key.to_string()[..DIGITS])
}

/// What was read for a judge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Read {
    /// Name of the judge.
    pub judge: String,
    /// Requests in its batch files.
    pub requests: u64,
    /// Answers with a score, recorded now.
    pub scored: u64,
    /// Answers without a readable score, recorded now.
    pub unparsable: u64,
    /// Answers that were declined, recorded now.
    pub refused: u64,
    /// Requests that failed, recorded now.
    pub failed: u64,
    /// Answers and failures that the journal had.
    pub known: u64,
    /// Requests without an answer, e.g. because the batch expired: write again to send them again.
    pub missing: u64,
}

/// A line of an output or error file. Fields that only some endpoints have are not needed.
#[derive(Deserialize)]
struct Output {
    custom_id: String,
    #[serde(default)]
    response: Value,
    #[serde(default)]
    error: Value,
}

impl Output {
    /// The body of an answer.
    fn answer(&self) -> Option<&Value> {
        let body = self.response.get("body").filter(|body| body.get("choices").is_some())?;
        let status = self.response.get("status_code").and_then(Value::as_u64).unwrap_or(200);
        ((200..300).contains(&status) && self.error.is_null()).then_some(body)
    }

    fn is_not_tried(&self) -> bool {
        self.error["code"].as_str().is_some_and(|code| NOT_TRIED.contains(&code))
    }

    /// Whether the endpoint's filter declined the text, and the problem.
    fn failure(&self) -> (bool, String) {
        let status = self.response["status_code"].as_u64().and_then(|status| u16::try_from(status).ok());
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let body = match &self.response["body"] {
            Value::Null => json!({"error": self.error}),
            body => body.clone(),
        };
        let failure = reported(status.unwrap_or(StatusCode::BAD_GATEWAY), Some(&body), &body.to_string(), None);
        (failure.kind == FailureKind::Filtered, failure.message)
    }
}

/// Reads the output and error files of batches into the journal, in any order; `.gz` files are unpacked.
///
/// `folder` is that of [`write()`], with the same pairs, judges and prompt. The records are those of online calls, without
/// `seconds`. Reading the same files again records nothing. Where a request has an answer in one file and a failure in
/// another, the answer counts.
///
/// # Errors
/// Before anything is recorded: if a file cannot be read, a line is no output or belongs to other batches, a request has
/// two different answers, or the pairs, judges or prompt have changed since the batch files were written.
pub fn read<P: AsRef<Path>>(
    folder: impl AsRef<Path>,
    outputs: &[P],
    pairs: &[Pair],
    judges: &Judges,
    prompt: &Prompt,
    journal: &mut Journal,
) -> Result<Vec<Read>> {
    let folders = folders(judges, folder.as_ref())?;
    let mut sent = Sent::open(&folders, pairs, judges, prompt)?;
    let answered = check_outputs(outputs, &mut sent)?;
    let mut read: Vec<Read> =
        judges.judges.iter().map(|judge| Read { judge: judge.name.clone(), ..Read::default() }).collect();
    let prompt_hash = prompt.hash();
    let mut group = Group { votes: Vec::new(), journal };
    for path in outputs {
        for_each_jsonl(path, &mut |_, output: Output| {
            let Some(request) = sent.requests.get_mut(&output.custom_id) else { return Ok(()) };
            let answer = output.answer();
            if output.is_not_tried() || request.is_done || (answer.is_none() && answered.contains(&output.custom_id)) {
                return Ok(());
            }
            request.is_done = true;
            let (judge, read) = (&judges.judges[request.judge], &mut read[request.judge]);
            let Request { key, attempt, sample, .. } = *request;
            let known = group.journal.known(&key);
            let has = |known: Known| known.answer == Some(State::Scored) || u32::from(known.answers) >= attempt;
            let has_failed = |known: Known| answer.is_none() && u32::from(known.failed_at) >= attempt;
            if known.is_some_and(|known| has(known) || has_failed(known)) {
                read.known += 1;
                return Ok(());
            }
            let pair = &pairs[request.pair];
            let call = Call { judge, prompt, prompt_hash: &prompt_hash, pair, sample, key, attempt };
            let vote = match answer {
                Some(body) => call.answered(body, None),
                None => {
                    let (is_filtered, problem) = output.failure();
                    let state = if is_filtered { State::Refused } else { State::Failed };
                    call.without_answer(state, Some(problem), None)
                }
            };
            *match vote.state {
                State::Scored => &mut read.scored,
                State::Unparsable => &mut read.unparsable,
                State::Refused => &mut read.refused,
                State::Failed => &mut read.failed,
            } += 1;
            group.push(vote)
        })?;
    }
    group.finish()?;
    for request in sent.requests.values() {
        read[request.judge].requests += 1;
        read[request.judge].missing += u64::from(!request.is_done);
    }
    sent.mark_read(&folders)?;
    Ok(read)
}

/// Votes on their way to the journal, many per sync.
struct Group<'a> {
    votes: Vec<Vote>,
    journal: &'a mut Journal,
}

impl Group<'_> {
    fn push(&mut self, vote: Vote) -> Result<()> {
        self.votes.push(vote);
        if self.votes.len() >= GROUP { self.finish() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<()> {
        self.journal.append(&self.votes)?;
        self.votes.clear();
        Ok(())
    }
}

/// A request in a batch file.
struct Request {
    judge: usize,
    file: usize,
    pair: usize,
    sample: u32,
    key: Key,
    attempt: u32,
    is_done: bool,
}

/// The requests in all batch files, by `custom_id`.
struct Sent {
    manifests: Vec<Option<Manifest>>,
    requests: HashMap<String, Request>,
}

impl Sent {
    fn open(folders: &[PathBuf], pairs: &[Pair], judges: &Judges, prompt: &Prompt) -> Result<Self> {
        #[derive(Deserialize)]
        struct Id {
            custom_id: String,
        }

        let manifests = folders.iter().map(|folder| manifest(folder)).collect::<Result<Vec<_>>>()?;
        let mut requests = HashMap::new();
        for (at, (judge, manifest)) in judges.judges.iter().zip(&manifests).enumerate() {
            let Some(manifest) = manifest else { continue };
            let keys = Keys::new(judge, prompt);
            let mut questions = HashMap::new();
            for (pair, content) in pairs.iter().enumerate() {
                for sample in 0..judges.samples {
                    let key = keys.key(content, sample);
                    questions.insert(key.to_string()[..DIGITS].to_owned(), (pair, sample, key));
                }
            }
            for (file, BatchFile { name, .. }) in manifest.files.iter().enumerate() {
                let path = folders[at].join(name);
                for_each_jsonl(&path, &mut |line, Id { custom_id }| {
                    let parts = custom_id
                        .rsplit_once('-')
                        .and_then(|(key, attempt)| Some((questions.get(key)?, attempt.parse().ok()?)));
                    let Some(((pair, sample, key), attempt)) = parts else {
                        let problem = "a request of other pairs, judges or another prompt: they have changed since";
                        return Err(Error::line(&path, line, problem));
                    };
                    let (pair, sample, key) = (*pair, *sample, *key);
                    requests.insert(custom_id, Request { judge: at, file, pair, sample, key, attempt, is_done: false });
                    Ok(())
                })?;
            }
        }
        if requests.is_empty() {
            return Err(Error::new(ErrorKind::Config, "no batch files were written for these judges"));
        }
        Ok(Self { manifests, requests })
    }

    /// Notes in the manifests which files have answers.
    fn mark_read(&mut self, folders: &[PathBuf]) -> Result<()> {
        for request in self.requests.values().filter(|request| request.is_done) {
            if let Some(manifest) = &mut self.manifests[request.judge] {
                manifest.files[request.file].read = true;
            }
        }
        for (manifest, folder) in self.manifests.iter().zip(folders) {
            if let Some(manifest) = manifest {
                write_manifest(folder, manifest)?;
            }
        }
        Ok(())
    }
}

/// Checks all lines of output files; returns the requests that have an answer.
fn check_outputs<P: AsRef<Path>>(outputs: &[P], sent: &mut Sent) -> Result<HashSet<String>> {
    let mut answers = HashMap::<String, (Value, String)>::new();
    for path in outputs {
        let path = path.as_ref();
        for_each_jsonl(path, &mut |line, output: Output| {
            if !sent.requests.contains_key(&output.custom_id) {
                let problem = format!("`custom_id` is `{}`, which is in no batch file", output.custom_id);
                return Err(Error::line(path, line, problem));
            }
            let Some(answer) = output.answer() else { return Ok(()) };
            let answer = answer["choices"].clone();
            match answers.entry(output.custom_id) {
                Entry::Vacant(entry) => drop(entry.insert((answer, format!("{}:{line}", path.display())))),
                Entry::Occupied(entry) if entry.get().0 == answer => {}
                Entry::Occupied(entry) => {
                    let problem = format!("another answer to `{}` than in {}", entry.key(), entry.get().1);
                    return Err(Error::line(path, line, problem));
                }
            }
            Ok(())
        })?;
    }
    Ok(answers.into_keys().collect())
}
