//! Data sets of the Hugging Face hub as tasks.

use std::path::{Path, PathBuf};

use care_core::{Error, ErrorKind, Result};

use super::table::{HubSet, TASKS, repository};
use crate::loader::{Choice, lacks_judgements, load_as};
use crate::task::Task;

/// Downloads a data set of the Hugging Face hub: takes its id, e.g. `org/name@revision`, and returns a local folder.
pub type Fetch<'a> = dyn FnMut(&str) -> Result<PathBuf> + 'a;

/// Where [`open`](crate::open) looks for a task. By default only at built-in tasks, task files and folders.
///
/// ```
/// use cmedteb::{Sources, open};
///
/// // Wherever data sets come from; `care_core::hub::Hub::data_set` downloads them.
/// let mut download = |id: &str| Ok(std::path::Path::new("data").join(id));
/// let mut sources = Sources::default().with_hub(&mut download).with_split("dev");
/// assert_eq!(open("mini-sts", &mut sources)?[0].name(), "mini-sts");
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Default)]
#[non_exhaustive]
pub struct Sources<'a> {
    /// A folder with one data set per task, each in a folder named after the task. It takes precedence over the hub.
    pub data: Option<&'a Path>,
    /// The function that downloads data sets of the hub. Without it, only local tasks are found.
    pub hub: Option<&'a mut Fetch<'a>>,
    /// The split to evaluate if a task specifies none. By default the first of `test`, `dev` and `validation`.
    pub split: Option<&'a str>,
    /// The subset to read of data with several, e.g. a language, if a task file specifies none. By default several subsets
    /// are refused.
    pub subset: Option<&'a str>,
}

impl<'a> Sources<'a> {
    /// Sets [`Sources::data`].
    #[must_use]
    pub fn with_data(self, folder: &'a (impl AsRef<Path> + ?Sized)) -> Self {
        Self { data: Some(folder.as_ref()), ..self }
    }

    /// Sets [`Sources::hub`].
    #[must_use]
    pub fn with_hub(self, fetch: &'a mut Fetch<'a>) -> Self {
        Self { hub: Some(fetch), ..self }
    }

    /// Sets [`Sources::split`].
    #[must_use]
    pub fn with_split(self, split: &'a str) -> Self {
        Self { split: Some(split), ..self }
    }

    /// Sets [`Sources::subset`].
    #[must_use]
    pub fn with_subset(self, subset: &'a str) -> Self {
        Self { subset: Some(subset), ..self }
    }
}

/// The tasks of a data set of the hub. If it has no judgements and `choice` names none, those that C-MTEB keeps separately
/// are downloaded. Of a set in the table, a missing revision or split and the main score are the row's; other reranking has
/// the main score of every such task of C-MTEB.
pub(super) fn of_hub(id: &str, name: &str, choice: Choice<'_>, sources: &mut Sources<'_>) -> Result<Vec<Task>> {
    let set = TASKS.iter().find_map(|row| row.set_of(id));
    let (id, split, main_score) = match set {
        Some((pinned, HubSet { split, main_score, .. })) => {
            (if id.contains('@') { id } else { pinned }, choice.split.or(Some(split)), Some(*main_score))
        }
        None => (id, choice.split.or(sources.split), None),
    };
    let tasks = download(id, name, Choice { split, ..choice }, sources)?;
    let scored = tasks.into_iter().map(|task| match (main_score, &task) {
        (Some(main), _) => task.with_main_score(main),
        (None, Task::Reranking(_)) => task.with_main_score("map@1000"),
        (None, _) => Ok(task),
    });
    scored.collect()
}

fn download(id: &str, name: &str, choice: Choice<'_>, sources: &mut Sources<'_>) -> Result<Vec<Task>> {
    let Some(fetch) = sources.hub.as_mut() else {
        let message = format!("{id} is a data set of the Hugging Face hub, which cannot be accessed here");
        return Err(Error::new(ErrorKind::Config, message));
    };
    let folder = fetch(id)?;
    if choice.qrels.is_some() || !lacks_judgements(&folder, &choice)? {
        return load_as(&folder, name, &choice);
    }
    // The revision of one data set does not apply to the other.
    let apart = format!("{}-qrels", repository(id));
    let qrels = fetch(&apart)?;
    load_as(&folder, name, &Choice { qrels: Some(&qrels), ..choice })
}

/// The task's name for `org/name@revision`: `name`.
pub(super) fn hub_name(id: &str) -> String {
    let name = repository(id);
    name.rsplit('/').next().unwrap_or(name).to_owned()
}
