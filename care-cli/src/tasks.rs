//! Options that specify the tasks and where their data is.

use std::path::PathBuf;

use anyhow::Result;
use care_core::hub::{Hub, RepoId};
use clap::Args;
use cmedteb::{Sources, Task};

use crate::progress::download_bar;
use crate::stderr::note;

/// Options of every command that reads tasks.
#[derive(Debug, Clone, Args)]
pub(crate) struct TaskArgs {
    /// Names of tasks, your own folders or task files (.toml), or data sets on the Hugging Face hub: ORG/NAME or
    /// ORG/NAME@REVISION
    #[arg(long = "task", value_name = "NAME|PATH|ORG/NAME", required = true, num_args = 1..)]
    tasks: Vec<String>,
    /// Folder with one data set per task, each in a folder named after the task; searched before the hub
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Split to evaluate if a task does not specify one; by default the first of test, dev and validation
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Subset to read if a task file does not specify one, e.g. a language; several are refused without it
    #[arg(long, value_name = "NAME")]
    subset: Option<String>,
}

impl TaskArgs {
    /// Opens the tasks, in the order given.
    pub(crate) fn open(&self) -> Result<Vec<Task>> {
        let mut bar = None;
        let mut fetch = |id: &str| {
            let id: RepoId = id.parse()?;
            Ok(Hub::from_env()?.data_set(&id, &mut |download| download_bar(&mut bar, &download))?.folder)
        };
        let mut sources = Sources::default().with_hub(&mut fetch);
        sources.data = self.data.as_deref();
        sources.split = self.split.as_deref();
        sources.subset = self.subset.as_deref();
        let mut tasks = Vec::new();
        for word in &self.tasks {
            tasks.extend(cmedteb::open(word, &mut sources)?);
        }
        Ok(tasks)
    }
}

/// Prints what may be wrong in the data of tasks.
pub(crate) fn warn(tasks: &[Task]) {
    for task in tasks {
        for warning in task.warnings() {
            note!("warning: {}: {warning}", task.name());
        }
    }
}
