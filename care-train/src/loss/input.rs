//! The input of a loss.

use burn::tensor::{Bool, Int, Tensor, TensorData};
use care_encoders::head::{TruncationOrder, l2_normalize};

/// The vectors of one batch, as inference would return them.
#[derive(Debug, Clone)]
pub struct LossInput {
    /// `[b, dim]`, one row per query.
    pub queries: Tensor<2>,
    /// `[b * group_size, dim]`: row `i * group_size` is the positive of query `i`, followed by its hard negatives.
    pub documents: Tensor<2>,
    /// In `query-alignment`, the vectors of the same texts from both towers.
    pub alignment: Option<Alignment>,
    /// `[b, group_size]`: a teacher's relevance score of each document for its query.
    pub teacher_scores: Option<Tensor<2>>,
    /// Whether the documents of other queries are negatives.
    pub in_batch_negatives: bool,
    /// `[b, b * group_size]`, true where a document is known to answer a query, and so is no negative of it. False for
    /// the positive in the query's own group. `None` if there is no such document.
    pub known_answers: Option<Tensor<2, Bool>>,
}

/// Vectors of the same texts from two towers, row by row.
#[derive(Debug, Clone)]
pub struct Alignment {
    /// `[n, dim]`, from the tower that is trained.
    pub student: Tensor<2>,
    /// `[n, dim]`, from the frozen tower, without gradients.
    pub teacher: Tensor<2>,
}

impl LossInput {
    /// Queries and their groups of documents with in-batch negatives, without alignment or teacher scores.
    ///
    /// # Panics
    /// Panics if the number of documents is not a multiple of the number of queries.
    pub fn new(queries: Tensor<2>, documents: Tensor<2>) -> Self {
        let ([batch, _], [rows, _]) = (queries.dims(), documents.dims());
        assert!(rows.is_multiple_of(batch), "{rows} documents cannot be divided among {batch} queries");
        let (alignment, teacher_scores, known_answers) = (None, None, None);
        Self { queries, documents, alignment, teacher_scores, in_batch_negatives: true, known_answers }
    }

    /// The alignment.
    ///
    /// # Panics
    /// Panics if there is none.
    pub(super) fn aligned(&self) -> &Alignment {
        let Some(pair) = &self.alignment else {
            panic!("this loss needs the vectors of the same texts from both towers")
        };
        pair
    }

    /// Documents per query: 1 positive and `group_size - 1` hard negatives.
    pub fn group_size(&self) -> usize {
        self.documents.dims()[0] / self.queries.dims()[0]
    }

    /// Dot products of each query with the documents of its group, known answers included.
    ///
    /// # Shapes
    /// `[b, group_size]`; column 0 is the positive.
    pub fn group_similarities(&self) -> Tensor<2> {
        let [batch, dim] = self.queries.dims();
        let documents = self.documents.clone().reshape([batch, self.group_size(), dim]);
        documents.matmul(self.queries.clone().unsqueeze_dim::<3>(2)).squeeze_dim(2)
    }

    /// Dot products of each query with its candidates, and the column of its positive. The similarity of a known answer
    /// is negative infinity, so that a softmax leaves it out and its vector has no gradient.
    ///
    /// # Shapes
    /// `[b, candidates]` and `[b, 1]`. Candidates are all documents of the batch or, without `in_batch_negatives`,
    /// those of the query's own group.
    pub fn candidates(&self) -> (Tensor<2>, Tensor<2, Int>) {
        let ([batch, _], group) = (self.queries.dims(), self.group_size());
        let (mut similarities, stride) = match self.in_batch_negatives {
            true => (self.queries.clone().matmul(self.documents.clone().transpose()), group),
            false => (self.group_similarities(), 0),
        };
        if let Some(known) = &self.known_answers {
            let mask = match self.in_batch_negatives {
                true => known.clone(),
                // Query `i` is row `i`, and its group is group `i` of that row.
                false => {
                    let own: Vec<i64> = (0..batch).map(|query| (query * batch + query) as i64).collect();
                    let own = Tensor::from_data(TensorData::new(own, [batch]), &known.device());
                    known.clone().reshape([batch * batch, group]).select(0, own)
                }
            };
            similarities = similarities.mask_fill(mask, f64::NEG_INFINITY);
        }
        let targets: Vec<i64> = (0..batch).map(|query| (query * stride) as i64).collect();
        let targets = Tensor::from_data(TensorData::new(targets, [batch, 1]), &similarities.device());
        (similarities, targets)
    }

    /// The same batch with every vector truncated to its first `dim` dimensions, and normalised again if `order`
    /// requires it.
    ///
    /// # Panics
    /// Panics if vectors have fewer than `dim` dimensions.
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
