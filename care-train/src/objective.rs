//! The loss of one step: which texts go through which tower.

use std::collections::HashMap;

use burn::tensor::{Int, Tensor, TensorData};
use care_core::{DocumentTower, QueryTower, Result, Text, Tower};
use care_encoders::AnyEncoder;

use crate::batcher::TrainBatch;
use crate::config::StageConfig;
use crate::loss::{embedding_mse, info_nce};
use crate::stage::StageKind;

/// The losses of a step before their weights, and their weighted sum.
pub(crate) struct Losses {
    pub(crate) total: Tensor<1>,
    pub(crate) info_nce: Option<Tensor<1>>,
    pub(crate) mse: Option<Tensor<1>>,
    /// Tokens that the towers read.
    pub(crate) tokens: usize,
}

/// Runs the towers over a batch and compares their vectors.
pub(crate) fn losses(
    stage: &StageConfig,
    query: &QueryTower<AnyEncoder>,
    document: &DocumentTower<AnyEncoder>,
    batch: &TrainBatch,
) -> Result<Losses> {
    match stage.kind {
        StageKind::QueryAlignment => alignment(stage, query, document, batch),
        StageKind::JointFinetuning => contrast(stage, encode(query, &batch.queries)?, document, batch),
        StageKind::SymmetricDocument => contrast(stage, encode(document, &batch.queries)?, document, batch),
    }
}

/// Stage 1: the student's and the teacher's vectors of the same texts.
///
/// # Reference
/// CARE stage 1: InfoNCE of student queries against teacher documents, and MSE over queries and
/// documents alike. DIFFERENCE: a text that stands in the batch twice, as a query and as its own
/// positive, is encoded once and counted twice; under dropout the published code would draw two masks.
fn alignment(
    stage: &StageConfig,
    query: &QueryTower<AnyEncoder>,
    document: &DocumentTower<AnyEncoder>,
    batch: &TrainBatch,
) -> Result<Losses> {
    let mut texts: Vec<String> = Vec::new();
    let mut known: HashMap<&str, i64> = HashMap::new();
    let mut rows: Vec<i64> = Vec::new();
    for text in batch.queries.iter().chain(&batch.documents) {
        rows.push(*known.entry(text).or_insert_with(|| {
            texts.push(text.clone());
            texts.len() as i64 - 1
        }));
    }
    let (student, student_tokens) = encode(query, &texts)?;
    let (teacher, teacher_tokens) = encode(document, &texts)?;
    // The frozen tower built no graph; its vectors enter the student's as constants.
    let teacher = Tensor::from_inner(teacher);
    let take = |vectors: &Tensor<2>, rows: &[i64]| {
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows.to_vec(), [rows.len()]), &vectors.device());
        vectors.clone().select(0, rows)
    };
    let (queries, documents) = rows.split_at(batch.queries.len());
    let contrastive = (stage.info_nce_weight > 0.0)
        .then(|| info_nce(take(&student, queries), take(&teacher, documents), stage.temperature));
    let distance = (stage.mse_weight > 0.0).then(|| embedding_mse(take(&student, &rows), take(&teacher, &rows)));
    let weighted = [(&contrastive, stage.info_nce_weight), (&distance, stage.mse_weight)];
    let parts = weighted.into_iter().filter_map(|(loss, weight)| Some(loss.clone()?.mul_scalar(weight)));
    Ok(Losses {
        // A checked stage has a weight above 0.
        total: parts.reduce(|sum, part| sum + part).unwrap_or_else(|| student.sum() * 0.0),
        info_nce: contrastive,
        mse: distance,
        tokens: student_tokens + teacher_tokens,
    })
}

/// Query vectors against the document tower's positives and hard negatives.
fn contrast(
    stage: &StageConfig,
    (queries, query_tokens): (Tensor<2>, usize),
    document: &DocumentTower<AnyEncoder>,
    batch: &TrainBatch,
) -> Result<Losses> {
    let (documents, document_tokens) = encode(document, &batch.documents)?;
    let loss = info_nce(queries, documents, stage.temperature);
    Ok(Losses {
        total: loss.clone().mul_scalar(stage.info_nce_weight),
        info_nce: Some(loss),
        mse: None,
        tokens: query_tokens + document_tokens,
    })
}

/// The vectors of texts as one role reads them, and the number of tokens.
fn encode<T: Text>(tower: &Tower<T, AnyEncoder>, texts: &[String]) -> Result<(Tensor<2>, usize)> {
    let texts: Vec<T> = texts.iter().cloned().map(T::from).collect();
    let batch = tower.batch(&tower.tokenize(&texts)?);
    Ok((tower.network().forward(&batch), batch.token_count()))
}
