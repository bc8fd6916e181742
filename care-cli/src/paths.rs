//! Paths as messages show them.

use std::env;
use std::path::Path;

/// A path without detours, relative to the working directory if it is below; as it is if there is nothing under it.
pub(crate) fn shown(path: &Path) -> String {
    let Ok(whole) = path.canonicalize() else { return path.display().to_string() };
    let here = env::current_dir().and_then(|here| here.canonicalize());
    match here.as_deref().map(|here| whole.strip_prefix(here)) {
        Ok(Ok(below)) if below.as_os_str().is_empty() => ".".to_owned(),
        Ok(Ok(below)) => below.display().to_string(),
        _ => path.display().to_string(),
    }
}
