//! `Reranker`: a model that reads a query and a document together.

use std::path::PathBuf;

use care_core::{Query, Reranker as _};
use care_encoders::{CrossEncoder, CrossEncoderOptions, DEFAULT_TOKEN_BUDGET, Device};
use numpy::PyArray1;
use pyo3::prelude::*;

use crate::locate::{locate, parsed, precision, supported};
use crate::texts;
use crate::work::detached;

/// A model that scores how well a document answers a query, reading both together.
#[pyclass(frozen, module = "care_retrieval")]
pub(crate) struct Reranker {
    reranker: CrossEncoder,
}

#[pymethods]
impl Reranker {
    /// Loads a reranker: a folder of a cross-encoder or of Qwen3-Reranker, or ORG/NAME or ORG/NAME@REVISION on the hub.
    #[staticmethod]
    #[pyo3(signature = (
        model, *, precision=None, max_length=None, activation=None, instruction=None, batch_tokens=DEFAULT_TOKEN_BUDGET,
        device="cpu"
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn open(
        py: Python<'_>,
        model: PathBuf,
        precision: Option<&str>,
        max_length: Option<usize>,
        activation: Option<&str>,
        instruction: Option<&str>,
        batch_tokens: usize,
        device: &str,
    ) -> PyResult<Self> {
        let reranker = detached(py, |interrupt| {
            let (device, asked) = (device.parse::<Device>()?, parsed(precision)?);
            let mut options = CrossEncoderOptions::default();
            options.precision = self::precision(device, asked);
            options.max_length = max_length;
            options.activation = parsed(activation)?;
            options.instruction = instruction.map(str::to_owned);
            let opened = supported(device, &[asked])?;
            CrossEncoder::open(locate(&model, interrupt)?, &options, &opened)?.with_token_budget(batch_tokens)
        })?;
        Ok(Self { reranker })
    }

    /// The scores of documents for a query, float32 [n], in their order; a higher score is a better document.
    fn score<'py>(
        &self,
        py: Python<'py>,
        query: &str,
        documents: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let (query, documents) = (Query::new(query), texts::documents(documents)?);
        let scores = detached(py, |interrupt| {
            let pairs: Vec<_> = documents.iter().map(|document| (&query, document)).collect();
            self.reranker.score_with_progress(&pairs, &mut |_| interrupt())
        })?;
        Ok(PyArray1::from_vec(py, scores))
    }

    /// Identifies everything that determines the scores: equal fingerprints mean equal scores.
    fn fingerprint(&self, py: Python<'_>) -> PyResult<Option<String>> {
        detached(py, |_| self.reranker.fingerprint())
    }

    /// What decides the scores, and where each setting comes from, in one line.
    fn summary(&self) -> String {
        self.reranker.summary().to_string()
    }
}
