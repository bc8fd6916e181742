//! Data sets of the Hugging Face hub as tasks.

use std::path::{Path, PathBuf};

use care_core::{Error, ErrorKind, Result};

use crate::loader::{lacks_judgements, load_as};
use crate::task::Task;

/// What fetches a data set of the hub: its id, such as `org/name@revision`, to a local folder.
pub type Fetch<'a> = dyn FnMut(&str) -> Result<PathBuf> + 'a;

/// Where [`open`] looks for a task.
pub struct Sources<'a> {
    /// A folder with data sets, each in a folder of its task's name; looked into first.
    pub data: Option<&'a Path>,
    /// What fetches data sets of the hub. Without it only local tasks are found.
    pub hub: Option<&'a mut Fetch<'a>>,
    /// The split that is tested, where a task does not say; by default the first of test, dev and validation.
    pub split: Option<&'a str>,
}

/// A data set of the hub. Judgements that C-MTEB keeps apart are fetched when the data set has none and no folder
/// has them.
pub(super) fn of_hub(
    id: &str,
    name: &str,
    split: Option<&str>,
    qrels: Option<&Path>,
    sources: &mut Sources<'_>,
) -> Result<Vec<Task>> {
    let Some(fetch) = sources.hub.as_mut() else {
        let message = format!("{id} is a data set of the hub, which this program was built without");
        return Err(Error::new(ErrorKind::Config, message));
    };
    let folder = fetch(id)?;
    if qrels.is_some() || !lacks_judgements(&folder, split)? {
        return load_as(&folder, name, split, qrels);
    }
    // Its revision says nothing of the other data set's.
    let apart = format!("{}-qrels", id.split('@').next().unwrap_or(id));
    let qrels = fetch(&apart)?;
    load_as(&folder, name, split, Some(&qrels))
}

/// `org/name@revision` is called `name`.
pub(super) fn hub_name(id: &str) -> String {
    let name = id.split('@').next().unwrap_or(id);
    name.rsplit('/').next().unwrap_or(name).to_owned()
}
