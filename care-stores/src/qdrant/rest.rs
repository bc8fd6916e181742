//! Calls of Qdrant's REST interface.

use std::fmt::{self, Debug};
use std::time::Duration;

use care_core::{Error, ErrorKind, Result, clip};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{Request, StatusCode, Uri};

use super::options::QdrantOptions;

/// Longest time until a server has answered: an update of a batch may wait for its optimizer.
const TIMEOUT: Duration = Duration::from_secs(300);
const CONNECT: Duration = Duration::from_secs(10);
/// Longest answer: a thousand rows with long texts.
const LONGEST_BODY: u64 = 1 << 30;
/// Longest problem of a server that is repeated.
const LONGEST_PROBLEM: usize = 400;

/// A connection to a collection.
pub(super) struct Rest {
    agent: Agent,
    url: String,
    collection: String,
    key: Option<String>,
}

/// What every answer has.
#[derive(serde::Deserialize)]
struct Answer<T> {
    result: T,
}

/// What an answer with a problem has.
#[derive(serde::Deserialize)]
struct Refusal {
    status: Status,
}

#[derive(serde::Deserialize)]
struct Status {
    error: String,
}

impl Rest {
    pub(super) fn new(options: &QdrantOptions) -> Result<Self> {
        let url = options.url.trim_end_matches('/').to_owned();
        let uri = url.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
        let Some(uri) = uri else {
            return Err(Error::setting("url", format!("{url:?}"), "an address as http://localhost:6333"));
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let collection = options.collection.clone();
        if collection.is_empty() || !collection.chars().all(is_name) || collection.starts_with('.') {
            let allowed = "ASCII letters, digits, `-`, `_` and `.`";
            return Err(Error::setting("collection", format!("{collection:?}"), allowed));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect could carry the key elsewhere.
            .max_redirects(0)
            .timeout_global(Some(TIMEOUT))
            .timeout_connect(Some(CONNECT))
            .user_agent(concat!("care-stores/", env!("CARGO_PKG_VERSION")));
        if uri.host().is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]")) {
            config = config.proxy(None);
        }
        Ok(Self { agent: config.build().into(), url, collection, key: options.api_key.clone() })
    }

    pub(super) fn name(&self) -> String {
        format!("the collection {} at {}", self.collection, self.url)
    }

    /// An answer that the collection should not give.
    pub(super) fn malformed(&self, problem: &str) -> Error {
        Error::new(ErrorKind::Format, format!("{}: {problem}", self.name()))
    }

    /// The result of a call; `path` follows that of the collection.
    pub(super) fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T> {
        let (status, bytes) = self.send(method, path, body)?;
        if status.is_success() { self.result(&bytes) } else { Err(self.refusal(status, &bytes)) }
    }

    /// The result of a call without a body; `None` if there is no such collection.
    pub(super) fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let (status, bytes) = self.send("GET", path, None::<&()>)?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => self.result(&bytes).map(Some),
            status => Err(self.refusal(status, &bytes)),
        }
    }

    fn send(&self, method: &str, path: &str, body: Option<&impl Serialize>) -> Result<(StatusCode, Vec<u8>)> {
        let failed = |e: &dyn fmt::Display| Error::new(ErrorKind::Io, format!("{}: {e}", self.name()));
        let address = format!("{}/collections/{}{path}", self.url, self.collection);
        let mut request = Request::builder().method(method).uri(address).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("api-key", key);
        }
        let body = body.map(serde_json::to_vec).transpose().map_err(|e| failed(&e).with_source(e))?;
        let answered = match body {
            Some(body) => request.body(body).map(|request| self.agent.run(request)),
            None => request.body(()).map(|request| self.agent.run(request)),
        };
        // The error's cause may have the header, and so the key.
        let answered = answered.map_err(|_| failed(&"the key is no text of a header"))?;
        let mut response = answered.map_err(|e| failed(&e).with_source(e))?;
        let bytes = response.body_mut().with_config().limit(LONGEST_BODY).read_to_vec();
        Ok((response.status(), bytes.map_err(|e| failed(&e).with_source(e))?))
    }

    fn result<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        let answer = serde_json::from_slice::<Answer<T>>(bytes);
        let answer = answer.map_err(|e| self.malformed(&format!("an answer of another form: {e}")).with_source(e))?;
        Ok(answer.result)
    }

    fn refusal(&self, status: StatusCode, bytes: &[u8]) -> Error {
        let problem = match serde_json::from_slice::<Refusal>(bytes) {
            Ok(refusal) => refusal.status.error,
            Err(_) => String::from_utf8_lossy(bytes).trim().to_owned(),
        };
        let problem = clip(problem, LONGEST_PROBLEM);
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => ErrorKind::Busy,
            _ => ErrorKind::Io,
        };
        Error::new(kind, format!("{}: {status}: {problem}", self.name()))
    }
}

/// Without the key.
impl Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").field("url", &self.url).field("collection", &self.collection).finish_non_exhaustive()
    }
}
