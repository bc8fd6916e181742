//! The options that say which tasks, and where their data are.

use std::path::PathBuf;

use anyhow::Result;
use care_core::{Hub, RepoId};
use clap::Args;
use cmedteb::{Sources, Task};

use crate::progress::download_bar;

/// Options of every command that reads tasks.
#[derive(Debug, Clone, Args)]
pub(crate) struct TaskArgs {
    /// Names of tasks, folders or task files (.toml) of your own, or data sets of the Hugging Face hub: ORG/NAME,
    /// ORG/NAME@REVISION
    #[arg(long = "task", value_name = "NAME|PATH|ORG/NAME", required = true, num_args = 1..)]
    tasks: Vec<String>,
    /// Folder with data sets, each in a folder of its task's name, that is looked into before the hub
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The split that is tested where a task does not say; by default the first of test, dev and validation
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
}

impl TaskArgs {
    /// The tasks, in the order in which they were named.
    pub(crate) fn open(&self) -> Result<Vec<Task>> {
        let mut bar = None;
        let mut fetch = |id: &str| {
            let id: RepoId = id.parse()?;
            Ok(Hub::from_env()?.data_set(&id, &mut |download| download_bar(&mut bar, &download))?.folder)
        };
        let mut sources = Sources { data: self.data.as_deref(), hub: Some(&mut fetch), split: self.split.as_deref() };
        let mut tasks = Vec::new();
        for word in &self.tasks {
            tasks.extend(cmedteb::open(word, &mut sources)?);
        }
        Ok(tasks)
    }
}
