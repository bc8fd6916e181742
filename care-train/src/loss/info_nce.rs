//! Contrastive loss over in-batch and hard negatives.

use burn::tensor::{Int, Tensor, TensorData, activation::log_softmax};

/// InfoNCE: cross-entropy of each query's similarities to every document of the batch.
///
/// Row `i` of `queries` belongs to row `i * group_size` of `documents`, where `group_size` is
/// `documents / queries`: a positive followed by its hard negatives. Every other row is a negative.
/// Vectors are compared as they are: the caller normalises them.
///
/// # Shapes
/// `queries [b, dim]`, `documents [b * group_size, dim]` to `[1]`: the mean over queries.
///
/// # Panics
/// When the number of documents is not a multiple of the number of queries.
///
/// # Reference
/// CARE, arXiv 2604.10937, both stages; `contrastive` of the published code.
pub fn info_nce(queries: Tensor<2>, documents: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [batch, _] = queries.dims();
    let [rows, _] = documents.dims();
    assert!(rows.is_multiple_of(batch), "{rows} documents cannot be shared out among {batch} queries");
    let group_size = rows / batch;
    let targets: Vec<i64> = (0..batch).map(|query| (query * group_size) as i64).collect();
    let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, [batch, 1]), &queries.device());
    let logits = queries.matmul(documents.transpose()).div_scalar(temperature);
    log_softmax(logits, 1).gather(1, targets).mean().neg()
}
