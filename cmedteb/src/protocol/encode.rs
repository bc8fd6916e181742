//! Encoding texts in groups, so that progress can be reported.

use care_core::{Document, Embedder, Embeddings, Error, ErrorKind, Query, Result, Text};

/// Number of texts per group, i.e. between two progress reports.
pub(super) const GROUP: usize = 1024;

/// The progress of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Number of texts encoded, or of pairs scored, so far.
    pub encoded: usize,
    /// Number of texts or pairs in total.
    pub total: usize,
}

/// The encoding of one evaluation's texts.
pub(super) struct Encoding<'a> {
    embedder: &'a dyn Embedder,
    report: &'a mut dyn FnMut(Progress),
    progress: Progress,
}

impl<'a> Encoding<'a> {
    pub(super) fn new(embedder: &'a dyn Embedder, report: &'a mut dyn FnMut(Progress), total: usize) -> Self {
        let progress = Progress { encoded: 0, total };
        report(progress);
        Self { embedder, report, progress }
    }

    pub(super) fn queries(&mut self, queries: &[Query]) -> Result<Embeddings> {
        let embedder = self.embedder;
        self.encode(queries, |group| embedder.embed_queries(group))
    }

    pub(super) fn documents(&mut self, documents: &[Document]) -> Result<Embeddings> {
        let embedder = self.embedder;
        self.encode(documents, |group| embedder.embed_documents(group))
    }

    /// The vectors of at most one group of documents, of which the first has the index `first` in the task.
    pub(super) fn document_group(&mut self, first: usize, documents: &[Document]) -> Result<Embeddings> {
        let embedder = self.embedder;
        self.encode_group(first, documents, |group| embedder.embed_documents(group))
    }

    fn encode<T: Text>(&mut self, texts: &[T], embed: impl Fn(&[T]) -> Result<Embeddings>) -> Result<Embeddings> {
        let mut embeddings = Embeddings::zeros(0, self.embedder.embedding_dim());
        for group in texts.chunks(GROUP) {
            embeddings.append(&self.encode_group(embeddings.len(), group, &embed)?)?;
        }
        Ok(embeddings)
    }

    fn encode_group<T: Text>(
        &mut self,
        first: usize,
        group: &[T],
        embed: impl Fn(&[T]) -> Result<Embeddings>,
    ) -> Result<Embeddings> {
        let dim = self.embedder.embedding_dim();
        let vectors = embed(group).map_err(|e| {
            // Indices in the model's message are relative to the group.
            let (role, last) = (T::ROLE.as_str(), first + group.len() - 1);
            Error::new(e.kind(), format!("{role} {first} to {last} of the task: {e}")).with_source(e)
        })?;
        if (vectors.len(), vectors.dim()) != (group.len(), dim) {
            return Err(Error::new(
                ErrorKind::Dimension,
                format!(
                    "the model returned {} vectors of {} dimensions for {} texts in the role {}, expected {} of {dim}",
                    vectors.len(),
                    vectors.dim(),
                    group.len(),
                    T::ROLE.as_str(),
                    group.len(),
                ),
            ));
        }
        if let Some(row) = vectors.first_not_finite() {
            let message = format!("the vector of {} {} of the task is not finite", T::ROLE.as_str(), first + row);
            return Err(Error::new(ErrorKind::NonFinite, message));
        }
        self.progress.encoded += group.len();
        (self.report)(self.progress);
        Ok(vectors)
    }

    /// Number of dimensions of a vector.
    pub(super) fn dim(&self) -> usize {
        self.embedder.embedding_dim()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims `dim` dimensions and returns one vector of 2 for any queries.
    struct Wrong {
        dim: usize,
    }

    impl Embedder for Wrong {
        fn embedding_dim(&self) -> usize {
            self.dim
        }

        fn embed_queries(&self, _: &[Query]) -> Result<Embeddings> {
            Ok(Embeddings::zeros(1, 2))
        }

        fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
            Ok(Embeddings::zeros(documents.len(), self.dim))
        }
    }

    #[test]
    fn a_model_that_breaks_its_promise_is_named() {
        let message = |dim, texts: &[&str]| {
            let queries: Vec<Query> = texts.iter().copied().map(Query::new).collect();
            let error = Encoding::new(&Wrong { dim }, &mut |_| {}, 0).queries(&queries).expect_err("wrong");
            assert_eq!(error.kind(), ErrorKind::Dimension);
            error.to_string()
        };
        assert_eq!(
            message(2, &["a", "b"]),
            "the model returned 1 vectors of 2 dimensions for 2 texts in the role query, expected 2 of 2"
        );
        assert_eq!(
            message(3, &["a"]),
            "the model returned 1 vectors of 2 dimensions for 1 texts in the role query, expected 1 of 3"
        );
    }

    #[test]
    fn progress_moves_by_groups_from_nothing_to_all() {
        let documents = vec![Document::new("a"); 2 * GROUP + 1];
        let mut seen = Vec::new();
        let mut report = |progress: Progress| seen.push((progress.encoded, progress.total));
        let embeddings =
            Encoding::new(&Wrong { dim: 1 }, &mut report, documents.len()).documents(&documents).expect("as promised");
        assert_eq!(embeddings.len(), documents.len());
        assert_eq!(seen, [(0, 2049), (1024, 2049), (2048, 2049), (2049, 2049)]);
    }
}
