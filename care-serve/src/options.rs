//! Limits and settings of a server.

use std::time::Duration;

use care_core::{Error, Result, Role};

/// Limits and settings of a server. All limits are >= 1.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeOptions {
    /// Role of texts for which a request states none; by default none, and such a request is refused.
    pub default_role: Option<Role>,
    /// Keys, one of which each request must bear; by default none, and requests need no key.
    pub api_keys: Vec<String>,
    /// Dimensions that are offered beside all, for pairs that were trained to be truncated; by default none.
    pub dimensions: Vec<usize>,
    /// Requests that are worked on at once; of more, each is answered 429. A request that was given up counts until work for it
    /// that has begun on a thread of its own ends. Default 512.
    pub max_concurrent_requests: usize,
    /// Connections at once; more wait to be accepted. Default 1024.
    pub max_connections: usize,
    /// Texts per request. Default 2048, OpenAI's limit.
    pub max_client_batch: usize,
    /// Bytes of a request's body. Default 4 MiB.
    pub max_body: usize,
    /// Tokens per forward pass of queries, padding included. Default 4096.
    pub max_batch_tokens: usize,
    /// Tokens per forward pass of documents, padding included; a quarter while there are queries, since one may wait for a
    /// pass. Default 1024.
    pub document_batch_tokens: usize,
    /// Tokens that wait in front of each tower; a request for which there is no room is answered 429. Default 262,144.
    pub max_queue_tokens: usize,
    /// Results per search. Default 1000.
    pub max_top_k: usize,
    /// Time in which a request is answered; 503 after it. Default 60 s.
    pub deadline: Duration,
    /// Time in which a request has arrived, head and body each; 408 after it. Default 15 s.
    pub read_timeout: Duration,
    /// Time that requests have to end when the server stops. Default 30 s.
    pub shutdown_timeout: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            default_role: None,
            api_keys: Vec::new(),
            dimensions: Vec::new(),
            max_concurrent_requests: 512,
            max_connections: 1024,
            max_client_batch: 2048,
            max_body: 4 << 20,
            max_batch_tokens: 4096,
            document_batch_tokens: 1024,
            max_queue_tokens: 1 << 18,
            max_top_k: 1000,
            deadline: Duration::from_secs(60),
            read_timeout: Duration::from_secs(15),
            shutdown_timeout: Duration::from_secs(30),
        }
    }
}

impl ServeOptions {
    /// Refuses limits of zero and keys that no header can bear.
    ///
    /// # Errors
    /// The message names the field and its allowed range.
    pub(crate) fn check(&self) -> Result<()> {
        let limits = [
            ("max_concurrent_requests", self.max_concurrent_requests),
            ("max_connections", self.max_connections),
            ("max_client_batch", self.max_client_batch),
            ("max_body", self.max_body),
            ("max_batch_tokens", self.max_batch_tokens),
            ("document_batch_tokens", self.document_batch_tokens),
            ("max_queue_tokens", self.max_queue_tokens),
            ("max_top_k", self.max_top_k),
        ];
        if let Some((name, _)) = limits.iter().find(|(_, value)| *value == 0) {
            return Err(Error::setting(name, 0, "at least 1"));
        }
        let times = [("deadline", self.deadline), ("read_timeout", self.read_timeout)];
        if let Some((name, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Err(Error::setting(name, "0 s", "above 0"));
        }
        let is_key = |key: &String| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        match self.api_keys.iter().position(|key| !is_key(key)) {
            // The key itself does not belong into a log.
            Some(at) => Err(Error::setting("api_keys", format!("unusable at {at}"), "visible ASCII without blanks")),
            None => Ok(()),
        }
    }
}
