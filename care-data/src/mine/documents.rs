//! The documents that are ranked, with what must be known of them without their texts.

use std::collections::HashMap;
use std::path::Path;

use care_core::{Document, Error, ErrorKind, Result, Text};
use foldhash::fast::RandomState;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::sketch::{Sketch, Sketches};
use super::spool::Spool;
use crate::near::NearDuplicates;
use crate::normalise::normalise;

/// The documents of a corpus, and positives that are not among them.
///
/// Texts are in a nameless temporary file in `folder`, so that any format can be read at random. Memory is about 150
/// bytes per document.
pub struct Documents {
    spool: Spool,
    marks: Vec<Mark>,
    /// Of each document, if near-duplicates matter.
    sketched: Vec<Sketch>,
    sketches: Option<Sketches>,
    /// The first document of each text, and of each normalised text, under half of its key.
    numbers: HashMap<u64, u32, RandomState>,
    /// The first documents are the corpus; the others are positives of which it lacks the text.
    corpus: usize,
}

/// The first 128 bits of a SHA-256.
pub(super) type Key = u128;

struct Mark {
    /// Of the normalised text.
    key: Key,
    /// Of the text.
    exact: Key,
}

impl Documents {
    /// No documents yet. Near-duplicates are those of the [rules](crate::mine::Rules::near).
    ///
    /// # Errors
    /// If no file can be written in `folder`.
    pub fn new(folder: impl AsRef<Path>, near: Option<NearDuplicates>) -> Result<Self> {
        Ok(Self {
            spool: Spool::new(folder.as_ref())?,
            marks: Vec::new(),
            sketched: Vec::new(),
            sketches: near.map(Sketches::new),
            numbers: HashMap::default(),
            corpus: 0,
        })
    }

    /// Adds documents of the corpus, with their ids. Long lists are best added in groups of some thousands.
    ///
    /// # Errors
    /// If a document is empty, if [`Documents::positive`] was called before, or if the temporary file cannot be written.
    pub fn add(&mut self, documents: &[(String, Document)]) -> Result<()> {
        if self.corpus < self.marks.len() {
            return Err(Error::new(ErrorKind::Config, "documents are added before positives"));
        }
        let sketches = self.sketches.as_ref();
        let marks: Vec<_> = documents.par_iter().map(|(_, document)| Mark::of(document, sketches)).collect();
        for ((id, document), (mark, sketch)) in documents.iter().zip(marks) {
            self.push(id, document, mark, sketch)?;
        }
        self.corpus = self.marks.len();
        Ok(())
    }

    /// The number of a positive: that of the first document with the same text, else of a new one outside of the corpus,
    /// which is scored and never a candidate. The flag says whether the corpus has it, up to
    /// [`normalise`](crate::normalise).
    ///
    /// # Errors
    /// If it is empty, or the temporary file cannot be written.
    pub fn positive(&mut self, id: &str, document: &Document) -> Result<(usize, bool)> {
        if let Some(number) = self.same(document) {
            return Ok((number, self.corpus_has_key(self.marks[number].key)));
        }
        let (mark, sketch) = Mark::of(document, self.sketches.as_ref());
        let known = self.corpus_has_key(mark.key);
        self.push(id, document, mark, sketch)?;
        Ok((self.marks.len() - 1, known))
    }

    /// Whether a document with the same text is among them.
    pub(super) fn has(&self, document: &Document) -> bool {
        self.same(document).is_some()
    }

    /// Whether the corpus has a document with the same text, up to [`normalise`](crate::normalise).
    pub(super) fn corpus_has(&self, document: &Document) -> bool {
        let key = match self.same(document) {
            Some(number) => self.marks[number].key,
            None => key(&normalise(&document.content())),
        };
        self.corpus_has_key(key)
    }

    /// The first document with the same text.
    fn same(&self, document: &Document) -> Option<usize> {
        let exact = key(&document.content());
        self.find(exact as u64, |found| found.exact == exact)
    }

    fn corpus_has_key(&self, key: Key) -> bool {
        self.find(!key as u64, |found| found.key == key).is_some_and(|number| number < self.corpus)
    }

    fn find(&self, key: u64, is_meant: impl Fn(&Mark) -> bool) -> Option<usize> {
        let number = *self.numbers.get(&key)? as usize;
        is_meant(&self.marks[number]).then_some(number)
    }

    fn push(&mut self, id: &str, document: &Document, mark: Mark, sketch: Option<Sketch>) -> Result<()> {
        let (title, text) = document.parts();
        if document.content().trim().is_empty() {
            return Err(Error::new(ErrorKind::Format, format!("document {id:?} is empty")));
        }
        let too_many = || Error::new(ErrorKind::Config, "more than 2^32 - 1 documents");
        let number = u32::try_from(self.marks.len()).map_err(|_| too_many())?;
        self.spool.push([id, title, text])?;
        // Inverted, so that a text is not taken for one whose normalised text it is.
        for key in [mark.exact as u64, !mark.key as u64] {
            self.numbers.entry(key).or_insert(number);
        }
        self.marks.push(mark);
        self.sketched.extend(sketch);
        Ok(())
    }

    /// Number of documents of the corpus.
    pub fn corpus(&self) -> usize {
        self.corpus
    }

    /// Number of all documents, positives outside of the corpus included.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether there are no documents.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// A document and its id, by its number.
    ///
    /// # Errors
    /// If the temporary file cannot be read.
    ///
    /// # Panics
    /// Panics if there is no such document.
    pub fn get(&self, number: usize) -> Result<(String, Document)> {
        let [id, title, text] = self.spool.get(number)?;
        Ok((id, Document::with_title(title, text)))
    }

    /// Calls `each` with the documents from number `from` to below `to`, in groups of `size`.
    ///
    /// # Errors
    /// If the temporary file cannot be read, or `each` fails.
    pub fn visit(
        &self,
        (from, to): (usize, usize),
        size: usize,
        each: &mut dyn FnMut(&[Document]) -> Result<()>,
    ) -> Result<()> {
        for start in (from..to).step_by(size.max(1)) {
            let group = (start..to.min(start + size)).map(|number| Ok(self.get(number)?.1)).collect::<Result<Vec<_>>>();
            each(&group?)?;
        }
        Ok(())
    }

    /// The key of a document's normalised text.
    pub(super) fn key(&self, number: usize) -> Key {
        self.marks[number].key
    }

    /// 64 bits of a document's text, for draws.
    pub(super) fn hash(&self, number: usize) -> u64 {
        (self.marks[number].exact >> 64) as u64
    }

    /// Whether two documents are near-duplicates.
    pub(super) fn are_near(&self, a: usize, b: usize) -> Result<bool> {
        let Some(sketches) = &self.sketches else { return Ok(false) };
        if !sketches.may_be_near(&self.sketched[a], &self.sketched[b]) {
            return Ok(false);
        }
        Ok(sketches.are_near(&self.get(a)?.1.content(), &self.get(b)?.1.content()))
    }
}

impl Mark {
    fn of(document: &Document, sketches: Option<&Sketches>) -> (Self, Option<Sketch>) {
        let content = document.content();
        let mark = Self { key: key(&normalise(&content)), exact: key(&content) };
        (mark, sketches.map(|sketches| sketches.of(&content)))
    }
}

/// The key of a text.
pub(super) fn key(text: &str) -> Key {
    let digest = Sha256::digest(text);
    digest.iter().take(16).fold(0, |key, &byte| key << 8 | Key::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(texts: &[&str]) -> Documents {
        let folder = std::env::temp_dir();
        let mut documents = Documents::new(folder, Some(NearDuplicates::default())).expect("opened");
        let rows: Vec<_> = texts.iter().map(|text| (format!("id {text}"), Document::new(*text))).collect();
        documents.add(&rows).expect("added");
        documents
    }

    #[test]
    fn a_positive_is_the_document_with_its_text_or_outside_of_the_corpus() {
        let mut documents = documents(&["头痛怎么办？", "发烧", "发烧"]);
        assert_eq!(documents.positive("", &"发烧".into()).expect("found"), (1, true));
        assert_eq!(documents.positive("x", &"头痛怎么办".into()).expect("near enough"), (3, true));
        assert_eq!(documents.positive("y", &"咳嗽".into()).expect("new"), (4, false));
        assert_eq!(documents.positive("z", &"咳嗽".into()).expect("known"), (4, false));
        assert_eq!((documents.corpus(), documents.len()), (3, 5));
        assert_eq!(documents.get(4).expect("read"), ("y".to_owned(), "咳嗽".into()));
        let error = documents.add(&[]).expect_err("late");
        assert_eq!(error.to_string(), "documents are added before positives");
    }

    #[test]
    fn titles_and_long_texts_are_kept_and_empty_ones_refused() {
        let mut documents = documents(&[]);
        let long = "药".repeat(100_000);
        let titled = Document::with_title("标题", long.clone());
        documents.add(&[("7".into(), titled.clone())]).expect("added");
        assert_eq!(documents.get(0).expect("read"), ("7".into(), titled));
        let error = documents.add(&[("8".into(), " ".into())]).expect_err("empty");
        assert_eq!(error.to_string(), "document \"8\" is empty");
    }

    #[test]
    fn documents_are_visited_in_groups() {
        let documents = documents(&["a", "b", "c", "d"]);
        let mut seen = Vec::new();
        let mut each = |group: &[Document]| {
            seen.push(group.iter().map(|document| document.text().to_owned()).collect::<String>());
            Ok(())
        };
        documents.visit((0, 4), 3, &mut each).expect("read");
        documents.visit((2, 3), 3, &mut each).expect("read");
        assert_eq!(seen, ["abc", "d", "c"]);
    }
}
