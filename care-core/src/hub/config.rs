//! Settings of the hub: cache folder, endpoint, token, offline mode.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

const TIMEOUT: Duration = Duration::from_secs(30);
const HUGGING_FACE: &str = "https://huggingface.co";

/// The settings of a [`Hub`](super::Hub). `Debug` does not show the token.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubConfig {
    /// The cache folder, shared with other Hugging Face programs. Default `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// The server's address, `http://` or `https://`. Default `https://huggingface.co`.
    pub endpoint: String,
    /// The token for private and gated repositories, sent to the endpoint. Default none.
    pub token: Option<String>,
    /// Whether to use only the cache and make no requests. Default false.
    pub offline: bool,
    /// Longest wait for a response, and for more data of a download. Default 30 s.
    pub timeout: Duration,
}

impl HubConfig {
    /// The defaults over this cache folder: Hugging Face's own server, no token, online.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self { cache: cache.into(), endpoint: HUGGING_FACE.to_owned(), token: None, offline: false, timeout: TIMEOUT }
    }

    /// The same settings with another [`HubConfig::endpoint`].
    #[must_use]
    pub fn with_endpoint(self, endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), ..self }
    }

    /// The same settings with this [`HubConfig::token`].
    #[must_use]
    pub fn with_token(self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self }
    }

    /// The same settings with another [`HubConfig::offline`].
    #[must_use]
    pub fn with_offline(self, offline: bool) -> Self {
        Self { offline, ..self }
    }

    /// The same settings with another [`HubConfig::timeout`].
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The settings from environment variables, by the rules of the Python library `huggingface_hub`:
    ///
    /// - cache: `HF_HUB_CACHE`, else `HF_HOME/hub`, where `HF_HOME` defaults to `XDG_CACHE_HOME/huggingface` or
    ///   `~/.cache/huggingface`;
    /// - endpoint: `HF_ENDPOINT`;
    /// - token: `HF_TOKEN`, else the content of the file `HF_TOKEN_PATH`, else of `HF_HOME/token`;
    /// - offline: `HF_HUB_OFFLINE` is `1`, `true`, `yes` or `on`, in upper or lower case;
    /// - timeout: `HF_HUB_DOWNLOAD_TIMEOUT`, in whole seconds.
    ///
    /// An empty variable counts as unset.
    ///
    /// # Errors
    /// If a variable is not valid Unicode, a timeout is not a number of seconds >= 1, a token file exists but cannot be read, or `HF_HOME` is unset and there is
    /// no home folder.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(&|name| std::env::var_os(name), std::env::home_dir())
    }

    fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Result<Self> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| match variable(name).map(OsString::into_string) {
            Some(Ok(value)) => Ok(Some(value.trim().to_string()).filter(|value| !value.is_empty())),
            Some(Err(_)) => Err(Error::setting(name, "not valid Unicode", "Unicode text")),
            None => Ok(None),
        };
        let folder = |name: &str| variable(name).map(|path| expand_home(path.into(), home.as_deref()));

        let hf_home = folder("HF_HOME")
            .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("huggingface")))
            .or_else(|| Some(home.as_ref()?.join(".cache").join("huggingface")));
        let hf_home = hf_home.ok_or_else(|| {
            Error::new(ErrorKind::Config, "no home folder found for the Hugging Face cache; set HF_HOME")
        })?;
        let token = match text("HF_TOKEN")? {
            Some(token) => Some(token),
            None => read_token(&folder("HF_TOKEN_PATH").unwrap_or_else(|| hf_home.join("token")))?,
        };
        let timeout = match text("HF_HUB_DOWNLOAD_TIMEOUT")? {
            None => TIMEOUT,
            Some(seconds) => match seconds.parse() {
                Ok(seconds @ 1..) => Duration::from_secs(seconds),
                _ => {
                    let value = format!("`{seconds}`");
                    return Err(Error::setting("HF_HUB_DOWNLOAD_TIMEOUT", value, "a whole number of seconds >= 1"));
                }
            },
        };
        Ok(Self {
            timeout,
            cache: folder("HF_HUB_CACHE").unwrap_or_else(|| hf_home.join("hub")),
            endpoint: text("HF_ENDPOINT")?.unwrap_or_else(|| HUGGING_FACE.to_string()),
            token,
            offline: text("HF_HUB_OFFLINE")?.is_some_and(|value| is_true(&value)),
        })
    }

    /// Validates the settings and removes the endpoint's final slashes.
    ///
    /// # Errors
    /// If the endpoint is not an address, or the token is not valid in an HTTP header.
    pub(super) fn checked(mut self) -> Result<Self> {
        self.endpoint.truncate(self.endpoint.trim_end_matches('/').len());
        let host = self.endpoint.strip_prefix("https://").or_else(|| self.endpoint.strip_prefix("http://"));
        if !host.is_some_and(|host| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Error::setting(
                "HF_ENDPOINT",
                format!("`{}`", self.endpoint),
                "an address that starts with http:// or https://",
            ));
        }
        if self.token.as_ref().is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Error::setting("HF_TOKEN", "not valid in an HTTP header", "visible ASCII characters"));
        }
        Ok(self)
    }
}

impl fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConfig")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "(hidden)"))
            .field("offline", &self.offline)
            .field("timeout", &self.timeout)
            .finish()
    }
}

fn expand_home(path: PathBuf, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

fn read_token(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_string()).filter(|token| !token.is_empty())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

fn is_true(value: &str) -> bool {
    ["1", "true", "yes", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> HubConfig {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        HubConfig::from_variables(&find, Some("/users/a".into())).expect("settings")
    }

    #[test]
    fn the_cache_is_where_the_python_library_has_it() {
        let cache = |variables: &[_]| config(variables).cache.display().to_string();
        assert_eq!(cache(&[]), "/users/a/.cache/huggingface/hub");
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")]), "/h/hub");
        assert_eq!(cache(&[("HF_HOME", "~/h"), ("HF_HUB_CACHE", "")]), "/users/a/h/hub");
        assert_eq!(cache(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]), "/c");
        let homeless = HubConfig::from_variables(&|_| None, None).expect_err("no home");
        assert_eq!(homeless.to_string(), "no home folder found for the Hugging Face cache; set HF_HOME");
    }

    #[test]
    fn the_token_is_read_from_the_environment_or_a_file_and_never_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().to_str().expect("a name");
        assert_eq!(config(&[("HF_HOME", home)]).token, None);
        std::fs::write(folder.path().join("token"), "hf_file\n").expect("written");
        std::fs::write(folder.path().join("other"), "hf_other\n").expect("written");
        let other = format!("{home}/other");
        assert_eq!(config(&[("HF_HOME", home)]).token.as_deref(), Some("hf_file"));
        assert_eq!(config(&[("HF_HOME", home), ("HF_TOKEN_PATH", &other)]).token.as_deref(), Some("hf_other"));
        let named = config(&[("HF_HOME", home), ("HF_TOKEN", " hf_named\n")]);
        assert_eq!(named.token.as_deref(), Some("hf_named"));
        assert!(!format!("{named:?}").contains("hf_"), "{named:?}");

        let error = HubConfig { token: Some("hf a\n".into()), ..named }.checked().expect_err("a space");
        assert_eq!(error.to_string(), "`HF_TOKEN` is not valid in an HTTP header, allowed: visible ASCII characters");
    }

    #[test]
    fn offline_is_said_in_the_words_of_the_python_library() {
        for yes in ["1", "true", "TRUE", "Yes", "on", "ON"] {
            assert!(config(&[("HF_HUB_OFFLINE", yes)]).offline, "{yes}");
        }
        for no in ["", "0", "false", "no", "off", "2"] {
            assert!(!config(&[("HF_HUB_OFFLINE", no)]).offline, "{no}");
        }
    }

    #[test]
    fn a_timeout_is_a_number_of_seconds() {
        assert_eq!(config(&[]).timeout, Duration::from_secs(30));
        assert_eq!(config(&[("HF_HUB_DOWNLOAD_TIMEOUT", "7")]).timeout, Duration::from_secs(7));
        for bad in ["0", "-1", "soon"] {
            let find = |name: &str| (name == "HF_HUB_DOWNLOAD_TIMEOUT").then(|| bad.into());
            let error = HubConfig::from_variables(&find, Some("/users/a".into())).expect_err("no number");
            let allowed = "allowed: a whole number of seconds >= 1";
            assert_eq!(error.to_string(), format!("`HF_HUB_DOWNLOAD_TIMEOUT` is `{bad}`, {allowed}"));
        }
    }

    #[test]
    fn an_endpoint_is_an_address() {
        let endpoint = |value| config(&[("HF_ENDPOINT", value)]).checked().map(|config| config.endpoint);
        assert_eq!(config(&[]).endpoint, "https://huggingface.co");
        assert_eq!(endpoint("https://hf-mirror.com/").expect("an address"), "https://hf-mirror.com");
        for bad in ["hf-mirror.com", "ftp://hf", "https://"] {
            assert!(
                endpoint(bad).expect_err("no address").to_string().starts_with("`HF_ENDPOINT` is `"),
                "{bad} is rejected"
            );
        }
    }
}
