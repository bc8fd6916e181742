//! The documents of a retrieval task, in memory or in files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use care_core::{Document, Error, Result, Text};
use care_data::table::for_each_row;

use crate::fingerprint::Fingerprint;
use crate::rows::{CorpusRow, duplicate_id};

/// Documents and their ids.
///
/// A corpus opened from files keeps only ids in memory. Texts are read again on every visit. White space around a
/// document is removed, as mteb does ([`Document::trimmed`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Corpus {
    ids: Vec<String>,
    texts: Texts,
    /// Covers the ids and texts, in order.
    fingerprint: Fingerprint,
}

#[derive(Debug, Clone, PartialEq)]
enum Texts {
    Memory(Vec<Document>),
    Files(Vec<PathBuf>),
}

impl Corpus {
    /// Opens files of rows with the columns `_id` (or `id`), `title` (optional) and `text`, in a format of
    /// [`for_each_row`](crate::for_each_row).
    ///
    /// # Errors
    /// If a file cannot be read, a row lacks a field, or an id is duplicated; the message names file and row.
    pub fn open(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Self> {
        let paths: Vec<PathBuf> = paths.into_iter().map(|path| path.as_ref().to_owned()).collect();
        let mut first: HashMap<String, (usize, usize)> = HashMap::new();
        let (mut ids, mut fingerprint) = (Vec::new(), Fingerprint::new());
        for (file, path) in paths.iter().enumerate() {
            for_each_row(path, &mut |number, row: CorpusRow| {
                let (id, document) = row.into();
                if let Some((file, line)) = first.insert(id.clone(), (file, number)) {
                    return Err(duplicate_id(path, number, &id, &paths[file], line));
                }
                fingerprint.add(&id);
                fingerprint.add(&document.content());
                ids.push(id);
                Ok(())
            })?;
        }
        Ok(Self { ids, texts: Texts::Files(paths), fingerprint })
    }

    /// The ids, in order.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether the corpus has no documents.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Calls `each` with the documents in order, in groups of `size`, >= 1. The last group may be smaller.
    ///
    /// # Errors
    /// If `each` returns an error, or if a file cannot be read or has changed since it was opened.
    ///
    /// # Panics
    /// Panics if `size` is 0.
    pub fn visit(&self, size: usize, each: &mut dyn FnMut(&[Document]) -> Result<()>) -> Result<()> {
        assert!(size > 0, "the size of a group is at least 1");
        let paths = match &self.texts {
            Texts::Memory(documents) => return documents.chunks(size).try_for_each(each),
            Texts::Files(paths) => paths,
        };
        let changed = |path: &Path| Error::format(path, "the file has changed since it was opened");
        let (mut group, mut next) = (Vec::with_capacity(size), 0);
        for path in paths {
            for_each_row(path, &mut |_, row: CorpusRow| {
                let (id, document) = row.into();
                if self.ids.get(next) != Some(&id) {
                    return Err(changed(path));
                }
                next += 1;
                group.push(document);
                if group.len() == size {
                    each(&group)?;
                    group.clear();
                }
                Ok(())
            })?;
        }
        match paths.last() {
            Some(path) if next < self.len() => Err(changed(path)),
            _ if group.is_empty() => Ok(()),
            _ => each(&group),
        }
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.clone()
    }
}

/// A corpus in memory. Documents are trimmed, as those of files are.
impl From<Vec<(String, Document)>> for Corpus {
    fn from(documents: Vec<(String, Document)>) -> Self {
        let documents: Vec<_> = documents.into_iter().map(|(id, document)| (id, document.trimmed())).collect();
        let mut fingerprint = Fingerprint::new();
        for (id, document) in &documents {
            fingerprint.add(id);
            fingerprint.add(&document.content());
        }
        let (ids, documents) = documents.into_iter().unzip();
        Self { ids, texts: Texts::Memory(documents), fingerprint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_files_are_those_of_memory_in_any_group_and_a_change_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths: Vec<PathBuf> = ["a.jsonl", "b.jsonl"].map(|name| folder.path().join(name)).to_vec();
        let row = |id: usize| format!("{{\"_id\": \"{id}\", \"title\": \"t\", \"text\": \"text {id}\"}}\n");
        let write = |ids: &[&[usize]]| {
            for (path, ids) in paths.iter().zip(ids) {
                std::fs::write(path, ids.iter().copied().map(row).collect::<String>()).expect("written");
            }
        };
        write(&[&[0, 1, 2], &[3, 4]]);
        let files = Corpus::open(&paths).expect("opened");
        let memory: Corpus = (0..5usize)
            .map(|id| (id.to_string(), Document::with_title("t", format!("text {id}"))))
            .collect::<Vec<_>>()
            .into();
        assert_eq!(files.ids(), memory.ids());
        assert_eq!(files.fingerprint, memory.fingerprint);
        let visit = |corpus: &Corpus, size: usize| {
            let mut groups = Vec::new();
            corpus.visit(size, &mut |group| {
                groups.push(group.to_vec());
                Ok(())
            })?;
            Ok::<_, Error>(groups)
        };
        for size in 1..7 {
            assert_eq!(visit(&files, size).expect("read"), visit(&memory, size).expect("read"));
        }
        for changed in [[&[0, 1, 2][..], &[3]], [&[0, 1, 2], &[3, 4, 5]], [&[0, 2, 1], &[3, 4]]] {
            write(&changed);
            let message = visit(&files, 2).expect_err("changed").to_string();
            assert!(message.ends_with(".jsonl: the file has changed since it was opened"), "{message}");
        }
    }
}
