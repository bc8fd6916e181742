//! `Pair`: a query tower and a document tower.

use std::path::PathBuf;

use care_core::{Embedder, Embeddings, Error, Result, Role, Text};
use care_encoders::{
    AnyEncoder, AsymmetricEncoder, DEFAULT_TOKEN_BUDGET, Device, EncoderOptions, Tower, tower_fingerprint,
};
use ndarray::{Array2, s};
use numpy::PyArray2;
use pyo3::prelude::*;

use crate::error::raise;
use crate::locate::{locate, parsed, precision, supported};
use crate::texts;
use crate::work::detached;

/// Texts that are embedded together, and their bytes, as in `care embed`.
const GROUP_TEXTS: usize = 4096;
const GROUP_BYTES: usize = 4 << 20;

/// A query tower and a document tower whose vectors are comparable.
#[pyclass(frozen, module = "care_retrieval")]
pub(crate) struct Pair {
    pair: AsymmetricEncoder,
}

#[pymethods]
impl Pair {
    /// Loads a pair, or one encoder for both roles: a folder in any supported layout, ORG/NAME or ORG/NAME@REVISION on the
    /// hub, or "mini", the pretrained pair for Chinese medical text in this package. Keywords that are set override what
    /// the folder says.
    #[staticmethod]
    #[pyo3(signature = (
        model, *, document_model=None, precision=None, query_precision=None, document_precision=None,
        query_instruction=None, document_instruction=None, pooling=None, dim=None, normalize=None, max_length=None,
        query_max_length=None, document_max_length=None, batch_tokens=DEFAULT_TOKEN_BUDGET, device="cpu"
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn open(
        py: Python<'_>,
        model: PathBuf,
        document_model: Option<PathBuf>,
        precision: Option<&str>,
        query_precision: Option<&str>,
        document_precision: Option<&str>,
        query_instruction: Option<&str>,
        document_instruction: Option<&str>,
        pooling: Option<&str>,
        dim: Option<usize>,
        normalize: Option<bool>,
        max_length: Option<usize>,
        query_max_length: Option<usize>,
        document_max_length: Option<usize>,
        batch_tokens: usize,
        device: &str,
    ) -> PyResult<Self> {
        let towers = [
            (query_precision.or(precision), query_instruction, query_max_length.or(max_length)),
            (document_precision.or(precision), document_instruction, document_max_length.or(max_length)),
        ];
        let pair = detached(py, |interrupt| {
            let device: Device = device.parse()?;
            let mut options = [EncoderOptions::default(), EncoderOptions::default()];
            let mut precisions = [None, None];
            for (at, (precision, instruction, max_length)) in towers.into_iter().enumerate() {
                precisions[at] = parsed(precision)?;
                options[at].precision = self::precision(device, precisions[at]);
                options[at].instruction = instruction.map(str::to_owned);
                options[at].max_length = max_length;
                options[at].pooling = parsed(pooling)?;
                options[at].dim = dim;
                options[at].normalize = normalize;
            }
            let (opened, [query, document]) = (supported(device, &precisions)?, options);
            let folder = locate(&model, interrupt)?;
            match document_model {
                None => AsymmetricEncoder::open(folder, &query, &document, &opened),
                Some(other) => {
                    AsymmetricEncoder::open_two(folder, locate(&other, interrupt)?, &query, &document, &opened)
                }
            }?
            .with_token_budget(batch_tokens)
        })?;
        Ok(Self { pair })
    }

    /// Dimensions of a vector.
    #[getter]
    fn dimensions(&self) -> usize {
        self.pair.embedding_dim()
    }

    /// The vectors of queries, float32 [n, dimensions], in their order.
    fn embed_queries<'py>(&self, py: Python<'py>, queries: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let queries = texts::queries(queries)?;
        matrix(py, |interrupt| embed(self.pair.query(), &queries, self.pair.token_budget(), interrupt))
    }

    /// The vectors of documents, float32 [n, dimensions], in their order. A document is a str, a tuple of title and text, or
    /// a mapping with `text` and, if there is one, `title`.
    fn embed_documents<'py>(
        &self,
        py: Python<'py>,
        documents: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let documents = texts::documents(documents)?;
        matrix(py, |interrupt| embed(self.pair.document(), &documents, self.pair.token_budget(), interrupt))
    }

    /// Identifies everything in a tower that determines its vectors but the instruction: "query" or "document".
    fn fingerprint(&self, py: Python<'_>, role: &str) -> PyResult<String> {
        let role = parsed_role(role).map_err(raise)?;
        detached(py, |_| match role {
            Role::Query => tower_fingerprint(self.pair.query()),
            Role::Document => tower_fingerprint(self.pair.document()),
        })
    }

    /// What decides a tower's vectors, and where each setting comes from, in one line: "query" or "document".
    fn summary(&self, role: &str) -> PyResult<String> {
        Ok(match parsed_role(role).map_err(raise)? {
            Role::Query => self.pair.query().summary().to_string(),
            Role::Document => self.pair.document().summary().to_string(),
        })
    }
}

/// The vectors that `work` computes, which numpy takes over without a copy.
fn matrix<'py>(
    py: Python<'py>,
    work: impl FnOnce(&mut dyn FnMut()) -> Result<Embeddings> + Send,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    Ok(PyArray2::from_owned_array(py, Array2::from(detached(py, work)?)))
}

/// Embeds texts in groups, so that neither the memory of their tokens nor the time until a signal is seen grows with them.
fn embed<T: Text>(
    tower: &Tower<T, AnyEncoder>,
    texts: &[T],
    token_budget: usize,
    interrupt: &mut dyn FnMut(),
) -> Result<Embeddings> {
    let mut embed = |texts: &[T]| tower.embed_with_progress(texts, token_budget, &mut |_| interrupt());
    let first = group(texts);
    if first == texts.len() {
        return embed(texts);
    }
    let (mut vectors, mut done) = (Array2::zeros((texts.len(), tower.embedding_dim())), 0);
    while done < texts.len() {
        let end = done + group(&texts[done..]);
        let after = |e: Error| match done {
            0 => e,
            _ => Error::new(e.kind(), format!("after the first {done} texts: {e}")).with_source(e),
        };
        let embedded = embed(&texts[done..end]).map_err(after)?;
        vectors.slice_mut(s![done..end, ..]).assign(embedded.as_array());
        done = end;
    }
    Ok(vectors.into())
}

/// The number of texts that are embedded together: enough to sort them by length.
fn group<T: Text>(texts: &[T]) -> usize {
    let mut bytes = 0;
    let fits = |text: &&T| {
        let (title, body) = text.parts();
        bytes += title.len() + body.len();
        bytes <= GROUP_BYTES
    };
    texts.iter().take(GROUP_TEXTS).take_while(fits).count().max(1).min(texts.len())
}

fn parsed_role(name: &str) -> Result<Role> {
    [Role::Query, Role::Document]
        .into_iter()
        .find(|role| role.as_str() == name)
        .ok_or_else(|| Error::setting("role", format!("{name:?}"), "query, document"))
}
