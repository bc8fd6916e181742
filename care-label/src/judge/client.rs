//! Calls a chat endpoint and tells what kind of failure a failure is.

use std::fmt;
use std::io;
use std::time::Duration;

use care_core::{Error, ErrorKind, Result, clip};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::{Map, Value, json};
use ureq::http::header::{AUTHORIZATION, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use ureq::http::{HeaderMap, StatusCode, Uri};

use crate::judge::config::{Judge, Structured};
use crate::pair::Pair;
use crate::prompt::Prompt;

/// Longest body of an answer, in bytes; a score needs a few hundred.
const LONGEST_BODY: u64 = 4 << 20;
/// Longest part of a server's message in ours, in bytes.
const LONGEST_MESSAGE: usize = 500;
/// Longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Carries an id of the call, for the logs of both sides.
///
/// # Reference
/// `X-Client-Request-Id` of the OpenAI API reference, "Debugging requests"; others ignore it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");

/// Codes and types of an empty purse, which no waiting fills: OpenAI, DashScope, Ark, Moonshot, Zhipu.
const NO_FUNDS: [&str; 5] =
    ["insufficient_quota", "Arrearage", "AccountOverdueError", "exceeded_current_quota_error", "1113"];
/// Signs that an endpoint's filter declined one text: OpenAI and Azure, DashScope, Ark, DeepSeek.
const FILTERED: [&str; 6] = [
    "content_filter",
    "content_policy_violation",
    "data_inspection_failed",
    "DataInspectionFailed",
    "SensitiveContentDetected",
    "Content Exists Risk",
];
/// Signs that one text is too long: OpenAI and vLLM, llama.cpp.
const TOO_LONG: [&str; 4] =
    ["context_length_exceeded", "maximum context length", "exceed_context_size", "exceeds the available context size"];

/// What kind of failure a call ended with, which decides what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The endpoint understands no request of this form (400, 404, 413, 422, a redirect). Calls of this form are
    /// pointless, unless others succeed: then it is about this text.
    Request,
    /// One text is too long for the model.
    TooLong,
    /// The endpoint's filter declined one text before the model saw it.
    Filtered,
    /// The key is wrong or lacks a permission (401, 403).
    Key,
    /// The account has no funds (402, or a code that says so): not a rate limit, waiting does not help.
    Funds,
    /// Too many calls or tokens (429): worth a later try, with fewer concurrent calls.
    RateLimit,
    /// The endpoint is out of order or overloaded (408, 409, 5xx): worth a later try.
    Server,
    /// No answer: refused, reset, cut off, or timed out. Worth a later try.
    Network,
    /// An answer that is no JSON, e.g. the page of a gateway, or too large: worth a later try.
    Malformed,
}

impl FailureKind {
    /// Whether the same call may succeed later.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::RateLimit | Self::Server | Self::Network | Self::Malformed)
    }
}

/// A call without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind it is.
    pub kind: FailureKind,
    /// What happened, in the endpoint's words where it has some; never with the key.
    pub message: String,
    /// How long the endpoint asks to wait.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An API key, which is never shown.
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

/// A connection to the endpoint of one judge.
#[derive(Debug)]
pub struct Client {
    agent: ureq::Agent,
    url: String,
    headers: HeaderMap,
    key: Option<Secret>,
}

impl Client {
    /// Prepares calls; none is made. The key is read from the environment.
    ///
    /// # Errors
    /// If the variable with the key is not set, or the key, a header or the address has characters that HTTP does not
    /// allow. The message names the judge and the variable, not the key.
    pub fn new(judge: &Judge) -> Result<Self> {
        Self::with_key(judge, judge.api_key_env.as_deref().and_then(|name| std::env::var(name).ok()))
    }

    fn with_key(judge: &Judge, key: Option<String>) -> Result<Self> {
        let refuse = |problem: String| Error::new(ErrorKind::Config, format!("judge `{}`: {problem}", judge.name));
        let key = key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        let mut headers = HeaderMap::new();
        for (name, value) in &judge.headers {
            let parsed = name.parse::<HeaderName>().ok().zip(value.parse::<HeaderValue>().ok());
            let (name, value) = parsed.ok_or_else(|| refuse(format!("`headers.{name}` is no HTTP header")))?;
            headers.insert(name, value);
        }
        if let Some(variable) = &judge.api_key_env {
            let key = key.as_ref().ok_or_else(|| {
                refuse(format!("the environment variable `{variable}`, which `api_key_env` names, is not set"))
            })?;
            let value = Some(format!("Bearer {key}")).filter(|value| value.is_ascii());
            let mut value = value
                .and_then(|value| HeaderValue::try_from(value).ok())
                .ok_or_else(|| refuse(format!("the key in the environment variable `{variable}` is no ASCII text")))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let url = format!("{}/chat/completions", judge.endpoint.trim_end_matches('/'));
        let uri: Uri = url.parse().map_err(|_| refuse(format!("`endpoint` is `{}`, no address", judge.endpoint)))?;
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A redirect could carry the key elsewhere.
            .max_redirects(0)
            .timeout_global(Some(judge.timeout()))
            .max_idle_connections(judge.concurrency as usize)
            .max_idle_connections_per_host(judge.concurrency as usize)
            .user_agent(concat!("care-label/", env!("CARGO_PKG_VERSION")));
        if uri.host().is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]")) {
            config = config.proxy(None);
        }
        Ok(Self {
            agent: config.build().into(),
            url,
            headers,
            key: key.filter(|_| judge.api_key_env.is_some()).map(Secret),
        })
    }

    /// Sends the body of a chat completion and returns the body of the answer.
    ///
    /// # Errors
    /// If there is no answer, or it reports an error.
    pub fn ask(&self, body: &[u8], id: &str) -> std::result::Result<Value, Failure> {
        self.call(body, id).map_err(|mut failure| {
            failure.message = self.redacted(failure.message);
            failure
        })
    }

    fn call(&self, body: &[u8], id: &str) -> std::result::Result<Value, Failure> {
        let mut request = self.agent.post(&self.url).content_type("application/json").header(REQUEST_ID, id);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut response = request.send(body).map_err(|error| network(&error))?;
        let status = response.status();
        let retry_after = retry_after(response.headers(), Timestamp::now());
        let location = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default().to_owned();
        let bytes = response.body_mut().with_config().limit(LONGEST_BODY).read_to_vec();
        if status.is_redirection() {
            let message = format!("redirected to `{}` ({status}); write the final address into `endpoint`", location);
            return Err(Failure { kind: FailureKind::Request, message, retry_after: None });
        }
        let text = match bytes {
            Ok(bytes) => self.redacted(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if status.is_success() => return Err(network(&error)),
            Err(_) => String::new(),
        };
        let parsed = serde_json::from_str::<Value>(&text).ok();
        match parsed {
            Some(body) if status.is_success() && !reports_error(&body) => Ok(body),
            None if status.is_success() => {
                let message = format!("the answer is no JSON: {}", clip(text.trim().to_owned(), LONGEST_MESSAGE));
                Err(Failure { kind: FailureKind::Malformed, message, retry_after })
            }
            body => Err(reported(status, body.as_ref(), &text, retry_after)),
        }
    }

    /// The text without the key, which some endpoints repeat.
    fn redacted(&self, text: String) -> String {
        match &self.key {
            Some(Secret(key)) if text.contains(key) => text.replace(key, "[key]"),
            _ => text,
        }
    }
}

/// The body of the request for the score of a pair.
///
/// `max_tokens` is left out if [`Judge::body`] has `max_completion_tokens`, which newer models of OpenAI require in its
/// place.
///
/// # Errors
/// If the prompt needs a known positive and the pair has none.
pub fn request_body(judge: &Judge, prompt: &Prompt, pair: &Pair, sample: u32) -> Result<Value> {
    let mut body = Map::new();
    body.insert("model".into(), json!(judge.model));
    body.insert("messages".into(), json!(prompt.messages(pair, sample)?));
    body.insert("temperature".into(), json!(judge.temperature));
    if !judge.body.contains_key("max_completion_tokens") {
        body.insert("max_tokens".into(), json!(judge.max_tokens));
    }
    let format = match judge.structured {
        Structured::JsonSchema => {
            let schema = json!({"name": "judgement", "strict": true, "schema": prompt.schema()});
            Some(json!({"type": "json_schema", "json_schema": schema}))
        }
        Structured::JsonObject => Some(json!({"type": "json_object"})),
        Structured::None => None,
    };
    body.extend(format.map(|format| ("response_format".to_owned(), format)));
    body.extend(judge.body.clone());
    Ok(Value::Object(body))
}

/// Whether a body with a good status is an error all the same, as of gateways that forward one.
fn reports_error(body: &Value) -> bool {
    body.get("error").is_some_and(|error| !error.is_null()) && body.get("choices").is_none()
}

/// The failure that an endpoint reports: by its status, or by the code in its body.
pub(crate) fn reported(status: StatusCode, body: Option<&Value>, text: &str, retry_after: Option<Duration>) -> Failure {
    let null = Value::Null;
    let body = body.unwrap_or(&null);
    let error = body.get("error").unwrap_or(body);
    let word = |value: &Value| match value {
        Value::String(word) => word.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    let (code, of_type) = (word(&error["code"]), word(&error["type"]));
    let said = [&error["message"], error, &error["msg"], &body["message"]].into_iter().find_map(Value::as_str);
    let said = said.unwrap_or(text).trim();
    // A gateway's 200 with an error in its body, e.g. {"error": {"code": 429}}.
    let status = match code.parse().ok().and_then(|code| StatusCode::from_u16(code).ok()) {
        Some(inner) if status.is_success() && inner.as_u16() >= 400 => inner,
        _ if status.is_success() => StatusCode::BAD_GATEWAY,
        _ => status,
    };
    let is_any = |signs: &[&str]| signs.iter().any(|sign| code == *sign || of_type == *sign);
    let contains = |signs: &[&str]| is_any(signs) || signs.iter().any(|sign| said.contains(sign));
    let kind = match status.as_u16() {
        402 => FailureKind::Funds,
        400..=499 if is_any(&NO_FUNDS) => FailureKind::Funds,
        400 | 403 | 413 | 422 | 451 if contains(&FILTERED) => FailureKind::Filtered,
        400 | 413 | 422 if contains(&TOO_LONG) => FailureKind::TooLong,
        401 | 403 => FailureKind::Key,
        429 => FailureKind::RateLimit,
        // llama-cpp-python 0.3.36 reports a form of answer that it does not know as an error of its own.
        500 if said.contains("validation error") && said.contains("response_format") => FailureKind::Request,
        408 | 409 | 425 | 500.. => FailureKind::Server,
        _ => FailureKind::Request,
    };
    let hint = match kind {
        FailureKind::Funds => "; the account has no funds left",
        FailureKind::Key => "; check the key in the variable that `api_key_env` names",
        FailureKind::Request if status == StatusCode::NOT_FOUND => "; check `endpoint` and `model`",
        FailureKind::Request if said.contains("response_format") || said.contains("json_schema") => {
            "; choose another `structured`: json_schema, json_object or none"
        }
        FailureKind::Request if said.contains("max_completion_tokens") => {
            "; set `max_completion_tokens` in the judge's `body`"
        }
        _ => "",
    };
    let said = if said.is_empty() { String::new() } else { format!(": {}", clip(said.to_owned(), LONGEST_MESSAGE)) };
    let code = if code.is_empty() || code == status.as_str() { code } else { format!(" ({code})") };
    let code = if code.starts_with(' ') { code } else { String::new() };
    Failure { kind, message: format!("HTTP {}{code}{said}{hint}", status.as_u16()), retry_after }
}

/// The failure of a call that brought no whole answer.
fn network(error: &ureq::Error) -> Failure {
    let (kind, message) = match error {
        ureq::Error::Timeout(_) => (FailureKind::Network, "timed out; raise `timeout`".to_owned()),
        ureq::Error::BodyExceedsLimit(most) => {
            (FailureKind::Malformed, format!("the answer has more than {most} bytes"))
        }
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
            (FailureKind::Network, "timed out; raise `timeout`".to_owned())
        }
        ureq::Error::BadUri(_) | ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Http(_) => {
            (FailureKind::Request, error.to_string())
        }
        other => (FailureKind::Network, other.to_string()),
    };
    Failure { kind, message: clip(message, LONGEST_MESSAGE), retry_after: None }
}

/// The wait of a `Retry-After`: seconds, or a date (RFC 9110, 10.2.3); `retry-after-ms` of OpenAI and Azure is finer.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let of = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let seconds = |text: &str| text.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let wait = match of("retry-after-ms").and_then(seconds) {
        Some(milliseconds) => milliseconds / 1000.0,
        None => {
            let text = of(RETRY_AFTER.as_str())?;
            let date = || rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok();
            seconds(text).or_else(|| Some((date()?.as_second() - now.as_second()).max(0) as f64))?
        }
    };
    Some(Duration::from_secs_f64(wait.min(LONGEST_WAIT.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(fields: &str) -> Judge {
        let text = format!("name = 'j'\nendpoint = 'http://127.0.0.1:9/v1/'\nmodel = 'm'\n{fields}");
        toml::from_str(&text).expect("a judge")
    }

    fn of(status: u16, body: Value) -> (FailureKind, String) {
        let status = StatusCode::from_u16(status).expect("a status");
        let failure = reported(status, Some(&body), &body.to_string(), None);
        (failure.kind, failure.message)
    }

    #[test]
    fn failures_are_told_apart() {
        use FailureKind::{Filtered, Funds, Key, RateLimit, Request, Server, TooLong};
        let error = |message: &str, code: Value| json!({"error": {"message": message, "code": code, "type": "x"}});
        let none = Value::Null;
        for (status, body, kind, message) in [
            (400, error("bad", none.clone()), Request, "HTTP 400: bad"),
            (
                400,
                error("This response_format type is unavailable now", none.clone()),
                Request,
                "HTTP 400: This response_format type is unavailable now; choose another `structured`: json_schema, json_object or none",
            ),
            (
                400,
                error("Use 'max_completion_tokens' instead.", json!("unsupported_parameter")),
                Request,
                "HTTP 400 (unsupported_parameter): Use 'max_completion_tokens' instead.; set `max_completion_tokens` in the judge's `body`",
            ),
            (400, error("Content Exists Risk", none.clone()), Filtered, "HTTP 400: Content Exists Risk"),
            (
                400,
                error("at most 4096", json!("context_length_exceeded")),
                TooLong,
                "HTTP 400 (context_length_exceeded): at most 4096",
            ),
            (
                400,
                error("overdue", json!("Arrearage")),
                Funds,
                "HTTP 400 (Arrearage): overdue; the account has no funds left",
            ),
            (
                401,
                error("no", none.clone()),
                Key,
                "HTTP 401: no; check the key in the variable that `api_key_env` names",
            ),
            (
                402,
                json!({"error": "Insufficient Balance"}),
                Funds,
                "HTTP 402: Insufficient Balance; the account has no funds left",
            ),
            (
                403,
                json!({"message": "no"}),
                Key,
                "HTTP 403: no; check the key in the variable that `api_key_env` names",
            ),
            (404, error("no model", none.clone()), Request, "HTTP 404: no model; check `endpoint` and `model`"),
            (408, json!(null), Server, "HTTP 408: null"),
            (
                429,
                error("slow down", json!("rate_limit_exceeded")),
                RateLimit,
                "HTTP 429 (rate_limit_exceeded): slow down",
            ),
            (
                429,
                error("quota", json!("insufficient_quota")),
                Funds,
                "HTTP 429 (insufficient_quota): quota; the account has no funds left",
            ),
            (
                500,
                error("1 validation error: ('body', 'response_format', 'type')", none.clone()),
                Request,
                "HTTP 500: 1 validation error: ('body', 'response_format', 'type'); choose another `structured`: json_schema, json_object or none",
            ),
            (500, error("sorry", none), Server, "HTTP 500: sorry"),
            (200, error("later", json!(429)), RateLimit, "HTTP 429: later"),
            (200, json!({"error": {"message": "odd"}}), Server, "HTTP 502: odd"),
        ] {
            assert_eq!(of(status, body), (kind, message.to_owned()), "{message}");
        }
        let long = of(400, error(&"长".repeat(10_000), Value::Null)).1;
        assert!(long.len() < 600, "{long}");
    }

    #[test]
    fn waits_are_seconds_or_dates() {
        let now: Timestamp = "2026-11-29T03:00:00Z".parse().expect("a time");
        let wait = |name: &'static str, value: &'static str| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            retry_after(&headers, now).map(|wait| wait.as_secs_f64())
        };
        assert_eq!(wait("retry-after", "7"), Some(7.0));
        assert_eq!(wait("retry-after", " 0.5 "), Some(0.5));
        assert_eq!(wait("retry-after-ms", "250"), Some(0.25));
        assert_eq!(wait("retry-after", "Sun, 29 Nov 2026 03:00:20 GMT"), Some(20.0));
        assert_eq!(wait("retry-after", "Sun, 29 Nov 2026 02:00:00 GMT"), Some(0.0));
        assert_eq!(wait("retry-after", "999999"), Some(600.0));
        for nonsense in ["soon", "-1", "NaN", "inf", ""] {
            assert_eq!(wait("retry-after", nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn the_key_is_needed_and_never_shown() {
        let keyed = judge("api_key_env = 'CARE_TEST_KEY_THAT_IS_NOT_SET'");
        let absent = "judge `j`: the environment variable `CARE_TEST_KEY_THAT_IS_NOT_SET`, which `api_key_env` names, is not set";
        assert_eq!(Client::new(&keyed).expect_err("no key").to_string(), absent);
        assert_eq!(Client::with_key(&keyed, Some(" \n".into())).expect_err("blank").to_string(), absent);
        let odd = Client::with_key(&keyed, Some("sk-密-geheim".into())).expect_err("not ASCII").to_string();
        assert!(odd.ends_with("is no ASCII text") && !odd.contains("geheim"), "{odd}");
        let client = Client::with_key(&keyed, Some("sk-geheim\n".into())).expect("a key");
        let shown = format!("{client:?}");
        assert!(!shown.contains("geheim") && shown.contains("[key]"), "{shown}");
        assert_eq!(client.redacted("wrong key sk-geheim".into()), "wrong key [key]");
        let header = Client::new(&judge("headers = { 'a b' = 'c' }")).expect_err("a header").to_string();
        assert_eq!(header, "judge `j`: `headers.a b` is no HTTP header");
    }

    #[test]
    fn the_body_has_what_the_endpoint_understands() {
        let prompt = Prompt::open("relevance").expect("a preset");
        let pair: Pair =
            serde_json::from_str(r#"{"query_id":"q","doc_id":"d","query":"甲","document":"乙"}"#).expect("a pair");
        let body = |fields: &str| request_body(&judge(fields), &prompt, &pair, 0).expect("a body");
        let plain = body("body = { top_p = 0.5 }");
        assert_eq!((&plain["max_tokens"], &plain["top_p"]), (&json!(512), &json!(0.5)));
        assert!(plain.get("response_format").is_none() && plain["messages"][0]["role"] == "system");
        let schema = &body("structured = 'json_schema'")["response_format"]["json_schema"]["schema"];
        assert_eq!(schema["properties"]["score"]["enum"], json!([1, 2, 3, 4, 5]));
        assert_eq!(body("structured = 'json_object'")["response_format"], json!({"type": "json_object"}));
        let newer = body("body = { max_completion_tokens = 900 }");
        assert_eq!((newer.get("max_tokens"), &newer["max_completion_tokens"]), (None, &json!(900)));
    }
}
