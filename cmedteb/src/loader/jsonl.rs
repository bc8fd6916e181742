//! Single files of one row a line: reranking and STS.

use std::path::Path;

use care_core::{Error, Result, read_jsonl};
use serde::de::DeserializeOwned;

use crate::task::{RerankingTask, StsTask};

pub(super) fn load_reranking(path: &Path, folder_name: &str) -> Result<RerankingTask> {
    let task = RerankingTask::new(format!("{folder_name}-reranking"), "test", rows(path)?);
    task.map_err(|e| Error::format(path, e))
}

pub(super) fn load_sts(path: &Path, folder_name: &str) -> Result<StsTask> {
    StsTask::new(format!("{folder_name}-sts"), "test", rows(path)?).map_err(|e| Error::format(path, e))
}

fn rows<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    Ok(read_jsonl(path)?.into_iter().map(|(_, row)| row).collect())
}
