//! What a loss is computed from.

use burn::tensor::{Int, Tensor, TensorData};
use care_core::{TruncationOrder, l2_normalize};

/// The vectors of one step, as inference would return them.
#[derive(Debug, Clone)]
pub struct LossInput {
    /// `[b, dim]`, one row a query.
    pub queries: Tensor<2>,
    /// `[b * group_size, dim]`: row `i * group_size` is the positive of query `i`, the rows after it are
    /// its hard negatives.
    pub documents: Tensor<2>,
    /// In `query-alignment`, the same texts through both towers.
    pub alignment: Option<Alignment>,
    /// `[b, group_size]`: how well a teacher finds that each document of a group answers the query.
    pub teacher_scores: Option<Tensor<2>>,
    /// Whether the documents of other queries are negatives.
    pub in_batch_negatives: bool,
}

/// The vectors that two towers give the same texts, row by row.
#[derive(Debug, Clone)]
pub struct Alignment {
    /// `[n, dim]` of the tower that learns.
    pub student: Tensor<2>,
    /// `[n, dim]` of the tower that is learnt from; it has no gradient.
    pub teacher: Tensor<2>,
}

impl LossInput {
    /// Queries, and their groups of documents, with in-batch negatives and nothing else.
    ///
    /// # Panics
    /// When the number of documents is not a multiple of the number of queries.
    pub fn new(queries: Tensor<2>, documents: Tensor<2>) -> Self {
        let ([batch, _], [rows, _]) = (queries.dims(), documents.dims());
        assert!(rows.is_multiple_of(batch), "{rows} documents cannot be shared out among {batch} queries");
        Self { queries, documents, alignment: None, teacher_scores: None, in_batch_negatives: true }
    }

    /// The alignment.
    ///
    /// # Panics
    /// When there is none.
    pub(super) fn aligned(&self) -> &Alignment {
        let Some(pair) = &self.alignment else { panic!("this loss compares two towers on the same texts") };
        pair
    }

    /// 1 positive and so many hard negatives, less 1.
    pub fn group_size(&self) -> usize {
        self.documents.dims()[0] / self.queries.dims()[0]
    }

    /// Dot products of each query with its own group.
    ///
    /// # Shapes
    /// `[b, group_size]`; column 0 is the positive.
    pub fn group_similarities(&self) -> Tensor<2> {
        let [batch, dim] = self.queries.dims();
        let documents = self.documents.clone().reshape([batch, self.group_size(), dim]);
        documents.matmul(self.queries.clone().unsqueeze_dim::<3>(2)).squeeze_dim(2)
    }

    /// Dot products of each query with its candidates, and the column of its positive.
    ///
    /// # Shapes
    /// `[b, candidates]` and `[b, 1]`. Candidates are all documents of the batch, or with
    /// `in_batch_negatives` off the query's own group.
    pub fn candidates(&self) -> (Tensor<2>, Tensor<2, Int>) {
        let [batch, _] = self.queries.dims();
        let (similarities, stride) = match self.in_batch_negatives {
            true => (self.queries.clone().matmul(self.documents.clone().transpose()), self.group_size()),
            false => (self.group_similarities(), 0),
        };
        let targets: Vec<i64> = (0..batch).map(|query| (query * stride) as i64).collect();
        let targets = Tensor::from_data(TensorData::new(targets, [batch, 1]), &similarities.device());
        (similarities, targets)
    }

    /// The same step with the first `dim` components of every vector, normalised again if the order says so.
    ///
    /// # Panics
    /// When vectors have fewer.
    #[must_use]
    pub fn cut(&self, dim: usize, order: TruncationOrder) -> Self {
        let cut = |vectors: &Tensor<2>| {
            let first = vectors.clone().narrow(1, 0, dim);
            match order {
                TruncationOrder::TruncateThenNormalize => l2_normalize(first),
                TruncationOrder::NormalizeThenTruncate => first,
            }
        };
        let alignment =
            self.alignment.as_ref().map(|pair| Alignment { student: cut(&pair.student), teacher: cut(&pair.teacher) });
        Self { queries: cut(&self.queries), documents: cut(&self.documents), alignment, ..self.clone() }
    }
}
