//! Selects the files of a data set repository.

use std::path::Path;

/// Whether a file is downloaded: rows and relevance judgements, in the formats that task loaders read.
pub(super) fn is_data_file(path: &str) -> bool {
    let hidden = path.split('/').any(|part| part.starts_with('.'));
    !hidden && [".jsonl", ".jsonl.gz", ".parquet", ".tsv"].iter().any(|extension| path.ends_with(extension))
}

/// What a folder lacks that another program filled: any file of rows at all, since its list of files is unknown.
pub(super) fn lacking_rows(folder: &Path) -> Option<String> {
    fn has_rows(folder: &Path) -> bool {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).any(|path| match path.is_dir() {
            true => has_rows(&path),
            false => path.to_str().is_some_and(is_data_file),
        })
    }
    (!has_rows(folder)).then(|| "its rows (.jsonl or .parquet)".to_owned())
}
