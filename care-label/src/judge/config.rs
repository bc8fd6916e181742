//! `judges.toml`: the judges of a benchmark and what may be spent on them.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use care_core::files::read_file;
use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Several judges, who answer the same questions.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Judges {
    /// A built-in prompt or a TOML file (see [`Prompt::open`](crate::Prompt::open)). Default `relevance`; for cleaning
    /// `false-negative`, for questions `query-generation`.
    #[serde(default)]
    pub prompt: String,
    /// Answers per pair and judge, 1 to 100. Default 1.
    #[serde(default = "default_samples")]
    pub samples: u32,
    /// Calls per question until an answer can be read, 1 to 10. Default 3.
    #[serde(default = "default_attempts")]
    pub attempts: u32,
    /// What may be spent.
    #[serde(default)]
    pub budget: Budget,
    /// The judges, at least one, each with a name of its own.
    #[serde(rename = "judge")]
    pub judges: Vec<Judge>,
}

/// Limits on all calls together, those of earlier runs with the same journal included.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Budget {
    /// Most input and output tokens.
    pub tokens: Option<u64>,
    /// Most money, in the currency of the prices.
    pub cost: Option<f64>,
    /// Currency of all prices, for display.
    #[serde(default)]
    pub currency: String,
}

/// How an endpoint is asked for JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Structured {
    /// `response_format` with the JSON Schema of an answer: OpenAI, vLLM, llama.cpp.
    JsonSchema,
    /// `response_format` of type `json_object`: DeepSeek and most others.
    JsonObject,
    /// By the prompt alone.
    #[default]
    None,
}

/// A model behind an OpenAI-compatible chat endpoint.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Judge {
    /// Name in votes and reports.
    pub name: String,
    /// Address up to and without `/chat/completions`, e.g. `https://api.deepseek.com/v1`.
    pub endpoint: String,
    /// Model as the endpoint names it.
    pub model: String,
    /// Family for the circularity audit, e.g. `qwen`; judges, generators and teachers of one family may share errors.
    #[serde(default)]
    pub family: Option<String>,
    /// Environment variable with the API key. The key itself is written nowhere.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// How the endpoint is asked for JSON. Default: by the prompt alone.
    #[serde(default)]
    pub structured: Structured,
    /// Sampling temperature, >= 0. Default 0.
    #[serde(default)]
    pub temperature: f64,
    /// Most tokens of an answer, >= 1. Default 512; reasoning models need more.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: u32,
    /// Further fields of the request body, e.g. `seed`, `top_p` or `enable_thinking`; `response_format` too, unless
    /// `structured` sets it.
    #[serde(default)]
    pub body: Map<String, Value>,
    /// Further HTTP headers. Values are not secret: they may be shown.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Most concurrent calls, 1 to 1024; fewer while the endpoint is overloaded. Default 8.
    #[serde(default = "default_concurrency")]
    pub concurrency: u32,
    /// Most calls per minute.
    #[serde(default)]
    pub requests_per_minute: Option<u32>,
    /// Most tokens per minute, estimated before a call.
    #[serde(default)]
    pub tokens_per_minute: Option<u32>,
    /// Seconds until a call is given up, > 0. Default 120.
    #[serde(default = "default_timeout")]
    pub timeout: f64,
    /// Price of a million input tokens. Default: unknown.
    #[serde(default)]
    pub input_price: Option<f64>,
    /// Price of a million output tokens. Default: unknown.
    #[serde(default)]
    pub output_price: Option<f64>,
}

/// The prompt of a file that names none.
const DEFAULT_PROMPT: &str = "relevance";

fn default_samples() -> u32 {
    1
}

fn default_attempts() -> u32 {
    3
}

fn default_max_tokens() -> u32 {
    512
}

fn default_concurrency() -> u32 {
    8
}

fn default_timeout() -> f64 {
    120.0
}

impl Judges {
    /// Reads a `judges.toml`. A prompt file is looked for beside it.
    ///
    /// # Errors
    /// If the file cannot be read, or as [`Judges::from_toml`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_for(path, DEFAULT_PROMPT)
    }

    /// [`Judges::open`] with another prompt if the file names none.
    ///
    /// # Errors
    /// As [`Judges::open`].
    pub fn open_for(path: impl AsRef<Path>, prompt: &str) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read_file(path)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::format(path, "not UTF-8"))?;
        let mut judges = Self::parse(text, prompt).map_err(|e| e.in_file(path))?;
        let beside = path.parent().unwrap_or(Path::new("")).join(&judges.prompt);
        if beside.is_file() {
            judges.prompt = beside.to_string_lossy().into_owned();
        }
        Ok(judges)
    }

    /// Parses a `judges.toml`.
    ///
    /// # Errors
    /// If a field is absent, unknown or out of its range, or a judge occurs twice, by name or by model, endpoint and
    /// parameters.
    pub fn from_toml(text: &str) -> Result<Self> {
        Self::parse(text, DEFAULT_PROMPT)
    }

    fn parse(text: &str, prompt: &str) -> Result<Self> {
        let refuse = |e: toml::de::Error| Error::new(ErrorKind::Config, e.to_string().trim_end().to_owned());
        let mut judges: Self = toml::from_str(text).map_err(refuse)?;
        if judges.prompt.is_empty() {
            judges.prompt = prompt.to_owned();
        }
        judges.check()?;
        Ok(judges)
    }

    fn check(&self) -> Result<()> {
        within("samples", self.samples, 1, 100)?;
        within("attempts", self.attempts, 1, 10)?;
        if let Some(cost) = self.budget.cost
            && !(cost.is_finite() && cost > 0.0)
        {
            return Err(Error::setting("budget.cost", cost, "> 0"));
        }
        if self.budget.tokens == Some(0) {
            return Err(Error::setting("budget.tokens", 0, ">= 1"));
        }
        if self.judges.is_empty() {
            return Err(Error::setting("judge", "empty", "at least one judge"));
        }
        let (mut names, mut models) = (HashSet::new(), HashSet::new());
        for judge in &self.judges {
            judge.check()?;
            if !names.insert(&judge.name) {
                return Err(Error::setting("judge.name", format!("`{}` twice", judge.name), "one judge of a name"));
            }
            if !models.insert((&judge.endpoint, judge.parameters().to_string())) {
                let problem = format!("`{}` with the settings of another judge", judge.model);
                return Err(Error::setting(
                    "judge.model",
                    problem,
                    "different judges: one model asked twice is one opinion",
                ));
            }
            if self.budget.cost.is_some() && (judge.input_price.is_none() || judge.output_price.is_none()) {
                let problem = format!("unknown for judge `{}`", judge.name);
                return Err(Error::setting("judge.input_price", problem, "both prices, as the budget limits the cost"));
            }
        }
        Ok(())
    }
}

impl Judge {
    fn check(&self) -> Result<()> {
        for (field, value) in [("judge.name", &self.name), ("judge.model", &self.model)] {
            if value.trim().is_empty() || value.chars().any(char::is_control) {
                return Err(Error::setting(field, format!("`{}`", value.escape_debug()), "a visible name"));
            }
        }
        let endpoint = &self.endpoint;
        if !(endpoint.starts_with("http://") || endpoint.starts_with("https://")) || endpoint.contains('@') {
            // A password in an address would be shown in messages.
            return Err(Error::setting(
                "judge.endpoint",
                format!("of judge `{}` none", self.name),
                "http:// or https://, without a password",
            ));
        }
        within("judge.concurrency", self.concurrency, 1, 1024)?;
        within("judge.max_tokens", self.max_tokens, 1, 1 << 20)?;
        for (field, value) in [
            ("judge.requests_per_minute", self.requests_per_minute),
            ("judge.tokens_per_minute", self.tokens_per_minute),
        ] {
            within(field, value.unwrap_or(1), 1, u32::MAX)?;
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(Error::setting("judge.temperature", self.temperature, ">= 0"));
        }
        if !(self.timeout > 0.0 && self.timeout <= 86_400.0) {
            return Err(Error::setting("judge.timeout", self.timeout, "> 0, up to 86400 seconds"));
        }
        for (field, price) in [("judge.input_price", self.input_price), ("judge.output_price", self.output_price)] {
            if price.is_some_and(|price| !(price.is_finite() && price >= 0.0)) {
                return Err(Error::setting(field, price.unwrap_or_default(), ">= 0"));
            }
        }
        let secret = ["authorization", "api-key", "x-api-key"];
        if let Some(name) = self.headers.keys().find(|name| secret.iter().any(|key| name.eq_ignore_ascii_case(key))) {
            let problem = format!("a key, of judge `{}`", self.name);
            return Err(Error::setting(
                &format!("judge.headers.{name}"),
                problem,
                "`api_key_env` with the name of an environment variable",
            ));
        }
        for field in ["model", "messages", "stream", "n", "response_format", "max_tokens", "temperature"] {
            // An endpoint may have a form of its own for JSON.
            let is_own = field == "response_format" && self.structured == Structured::None;
            if self.body.contains_key(field) && !is_own {
                return Err(Error::setting(
                    &format!("judge.body.{field}"),
                    "set",
                    "fields that care does not set itself",
                ));
            }
        }
        Ok(())
    }

    /// All that shapes an answer beside the prompt: model, temperature, length, form and further fields of the body.
    pub fn parameters(&self) -> Value {
        let mut body = self.body.clone();
        body.sort_keys();
        serde_json::json!({
            "model": self.model, "temperature": self.temperature, "max_tokens": self.max_tokens,
            "structured": self.structured, "body": body,
        })
    }

    /// Most tokens of an answer: `max_completion_tokens` of [`Judge::body`], or else [`Judge::max_tokens`].
    pub fn most_output(&self) -> u64 {
        let own = self.body.get("max_completion_tokens").and_then(Value::as_u64);
        own.unwrap_or_else(|| self.max_tokens.into())
    }

    /// [`Judge::timeout`].
    pub fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout)
    }

    /// Cost of a call, if prices are known.
    pub fn cost(&self, input_tokens: u64, output_tokens: u64) -> Option<f64> {
        Some((input_tokens as f64 * self.input_price? + output_tokens as f64 * self.output_price?) / 1e6)
    }
}

fn within(field: &str, value: u32, low: u32, high: u32) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::setting(field, value, &format!("{low} to {high}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"
        prompt = "relevance"
        budget = { cost = 20.0, currency = "CNY" }
        [[judge]]
        name = "deepseek"
        endpoint = "https://api.deepseek.com/v1"
        model = "deepseek-chat"
        api_key_env = "DEEPSEEK_API_KEY"
        structured = "json_object"
        input_price = 2.0
        output_price = 8.0
        [[judge]]
        name = "local"
        endpoint = "http://127.0.0.1:8080/v1"
        model = "qwen3"
        structured = "json_schema"
        body = { top_p = 0.9, enable_thinking = false }
        input_price = 0.0
        output_price = 0.0
    "#;

    #[test]
    fn judges_have_defaults_and_prices() {
        let judges = Judges::from_toml(TWO).expect("two judges");
        assert_eq!((judges.samples, judges.attempts, judges.judges.len()), (1, 3, 2));
        assert_eq!(judges.judges[0].cost(1_000_000, 500_000), Some(6.0));
        assert_eq!(judges.prompt, "relevance");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("judges.toml");
        for (text, prompt) in [(TWO.to_owned(), "relevance"), (TWO.replace("prompt = \"relevance\"", ""), "sts")] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(Judges::open_for(&path, "sts").expect("judges").prompt, prompt);
        }
        assert_eq!((judges.judges[1].max_tokens, judges.judges[1].concurrency), (512, 8));
    }

    #[test]
    fn bad_judges_are_refused_with_the_field() {
        let refused = |from: &str, to: &str| {
            assert!(TWO.contains(from), "{from}");
            Judges::from_toml(&TWO.replace(from, to)).expect_err("refused").to_string()
        };
        assert_eq!(
            refused("\"local\"", "\"deepseek\""),
            "`judge.name` is `deepseek` twice, allowed: one judge of a name"
        );
        assert!(refused("output_price = 8.0", "").starts_with("`judge.input_price` is unknown for judge `deepseek`"));
        assert!(refused("top_p = 0.9", "stream = true").starts_with("`judge.body.stream` is set"));
        assert!(
            refused("http://127.0.0.1:8080/v1", "127.0.0.1:8080")
                .starts_with("`judge.endpoint` is of judge `local` none")
        );
        let own = TWO
            .replace("structured = \"json_schema\"", "")
            .replace("top_p = 0.9", "response_format = { type = \"json_object\" }");
        assert!(Judges::from_toml(&own).is_ok());
        assert!(
            refused("top_p = 0.9", "response_format = { type = \"text\" }")
                .starts_with("`judge.body.response_format` is set")
        );
        assert!(refused("json_object", "json").contains("unknown variant `json`"));
        let header = "api_key_env = \"K\"\nheaders = { Authorization = \"Bearer sk-geheim\" }";
        let header = refused("api_key_env = \"DEEPSEEK_API_KEY\"", header);
        assert_eq!(
            header,
            "`judge.headers.Authorization` is a key, of judge `deepseek`, allowed: `api_key_env` with the name of an \
             environment variable"
        );
        assert!(refused("api_key_env", "api_key").contains("unknown field `api_key`"));
        assert_eq!(refused("cost = 20.0", "cost = nan"), "`budget.cost` is NaN, allowed: > 0");
        let twice = TWO.replace("local", "again").replace("http://127.0.0.1:8080/v1", "https://api.deepseek.com/v1");
        let twice = twice.replace("qwen3", "deepseek-chat").replace("json_schema", "json_object");
        let twice = twice.replace("body = { top_p = 0.9, enable_thinking = false }", "");
        assert!(Judges::from_toml(&twice).expect_err("one opinion").to_string().contains("one model asked twice"));
    }
}
