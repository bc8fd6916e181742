//! Both towers in training, and how the texts of a batch go through them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use burn::tensor::{Tensor, TensorData};
use care_core::{DocumentTower, EmbeddingStore, Embeddings, Instruction, QueryTower, Result, Role, Text};
use care_encoders::{AnyEncoder, DEFAULT_TOKEN_BUDGET};

use crate::batcher::TrainBatch;
use crate::config::{CheckedStage, TrainMode};
use crate::dataset::RowType;
use crate::loss::{Alignment, LossInput};
use crate::pass::{Pass, PassMode, device, select};
use crate::stage::StageKind;

/// The towers of a stage under way.
pub(crate) struct Towers {
    pub(crate) query: QueryTower<AnyEncoder>,
    pub(crate) document: DocumentTower<AnyEncoder>,
    /// Which of them read what.
    pub(crate) kind: StageKind,
    /// Vectors of the frozen document tower that are already known.
    pub(crate) teacher: Option<Mutex<EmbeddingStore>>,
}

/// What a batch comes to, up to the losses.
pub(crate) struct Encoded<'a> {
    pub(crate) input: LossInput,
    /// The passes through networks that learn, each with the role it is trained under.
    pub(crate) passes: Vec<(Role, Pass<'a>)>,
    /// Tokens that were read.
    pub(crate) tokens: usize,
}

impl Towers {
    /// Encodes a batch as its stage wants it.
    ///
    /// # Errors
    /// When a text cannot be tokenized, or a vector cannot be read.
    pub(crate) fn encode(&self, stage: &CheckedStage, batch: &TrainBatch, seed: u64) -> Result<Encoded<'_>> {
        let mut encoded = match stage.kind {
            StageKind::QueryAlignment => self.align(stage, batch, seed),
            _ => self.contrast(stage, batch, seed),
        }?;
        let (group, queries) = (encoded.input.group_size(), batch.queries.len());
        encoded.input.in_batch_negatives = batch.row_type.has_in_batch_negatives();
        encoded.input.teacher_scores = batch.scores.as_ref().map(|scores| {
            Tensor::from_data(TensorData::new(scores.clone(), [queries, group]), &encoded.input.queries.device())
        });
        Ok(encoded)
    }

    /// Stage 1: the student's and the teacher's vectors of the same texts.
    ///
    /// # Reference
    /// CARE stage 1: InfoNCE of student queries against teacher documents, and MSE over queries and
    /// documents alike. DIFFERENCE: a text that stands in the batch twice, as a query and as its own
    /// positive, is encoded once and counted twice; under dropout the published code would draw two masks.
    fn align(&self, stage: &CheckedStage, batch: &TrainBatch, seed: u64) -> Result<Encoded<'_>> {
        let mut texts: Vec<String> = Vec::new();
        let mut known: HashMap<&str, i64> = HashMap::new();
        let mut rows: Vec<i64> = Vec::new();
        for text in batch.queries.iter().chain(&batch.documents) {
            rows.push(*known.entry(text).or_insert_with(|| {
                texts.push(text.clone());
                texts.len() as i64 - 1
            }));
        }
        let prepared = prepare(self.query.instruction(), &texts);
        let student = Pass::new(self.query.tokenizer(), self.query.network(), &prepared, mode(stage), seed)?;
        let (teacher, read) = self.teacher_vectors(&prepare(self.document.instruction(), &texts))?;
        let vectors = student.vectors();
        let (queries, documents) = rows.split_at(batch.queries.len());
        let input = LossInput {
            alignment: Some(Alignment { student: select(&vectors, &rows), teacher: select(&teacher, &rows) }),
            ..LossInput::new(select(&vectors, queries), select(&teacher, documents))
        };
        let tokens = student.tokens() + read;
        Ok(Encoded { input, passes: vec![(Role::Query, student)], tokens })
    }

    /// Queries against positives and hard negatives.
    fn contrast(&self, stage: &CheckedStage, batch: &TrainBatch, seed: u64) -> Result<Encoded<'_>> {
        let template = stage.prompt_template.as_deref();
        let prompts: Vec<Option<&String>> = batch.prompts.iter().map(Option::as_ref).collect();
        // The document tower alone, both roles through its network, or each through its own.
        let (query, document) = (&self.query, &self.document);
        let (queries, tokenizer, network, role) = match stage.kind {
            StageKind::SymmetricDocument => {
                let texts = prompted(document.instruction(), template, &prompts, &batch.queries);
                (texts, document.tokenizer(), document.network(), Role::Document)
            }
            kind => {
                let texts = prompted(query.instruction(), template, &prompts, &batch.queries);
                match kind {
                    StageKind::Symmetric => (texts, query.tokenizer(), document.network(), Role::Document),
                    _ => (texts, query.tokenizer(), query.network(), Role::Query),
                }
            }
        };
        let documents = self.prepare_documents(stage, batch.row_type, &prompts, &batch.documents);
        let (mut passes, mut tokens) = (Vec::new(), 0);
        let frozen = stage.mode(role) == TrainMode::Frozen;
        let pass_mode = if frozen { PassMode::Frozen } else { mode(stage) };
        let pass = Pass::new(tokenizer, network, &queries, pass_mode, seed)?;
        let query_vectors = pass.vectors();
        tokens += pass.tokens();
        if !frozen {
            passes.push((role, pass));
        }
        let document_vectors = match stage.mode(Role::Document) {
            TrainMode::Frozen => {
                let (vectors, read) = self.teacher_vectors(&documents)?;
                tokens += read;
                vectors
            }
            _ => {
                // Seeds of the two passes lie far apart.
                let (tokenizer, network) = (self.document.tokenizer(), self.document.network());
                let pass = Pass::new(tokenizer, network, &documents, mode(stage), seed ^ (1 << 63))?;
                let vectors = pass.vectors();
                tokens += pass.tokens();
                passes.push((Role::Document, pass));
                vectors
            }
        };
        Ok(Encoded { input: LossInput::new(query_vectors, document_vectors), passes, tokens })
    }

    /// Documents with their instruction, or with the query's where the type of the rows has it so. Of `prompts`,
    /// each is that of as many documents.
    pub(crate) fn prepare_documents(
        &self,
        stage: &CheckedStage,
        row_type: RowType,
        prompts: &[Option<&String>],
        documents: &[String],
    ) -> Vec<String> {
        if !row_type.instructs_documents() {
            return prepare(self.document.instruction(), documents);
        }
        let group = documents.len() / prompts.len();
        let prompts: Vec<Option<&String>> =
            prompts.iter().flat_map(|prompt| std::iter::repeat_n(*prompt, group)).collect();
        prompted(self.query.instruction(), stage.prompt_template.as_deref(), &prompts, documents)
    }

    /// Vectors of the frozen document tower, without a graph, and the tokens that had to be read for them.
    fn teacher_vectors(&self, prepared: &[String]) -> Result<(Tensor<2>, usize)> {
        let Some(store) = &self.teacher else {
            let (tokenizer, network) = (self.document.tokenizer(), self.document.network());
            let pass = Pass::new(tokenizer, network, prepared, PassMode::Frozen, 0)?;
            return Ok((pass.vectors(), pass.tokens()));
        };
        let vectors = self.known_vectors(store, prepared)?;
        let shape = [vectors.len(), vectors.dim()];
        let data = TensorData::new(vectors.as_array().iter().copied().collect::<Vec<f32>>(), shape);
        let plain = device(self.document.network());
        Ok((Tensor::from_inner(Tensor::from_data(data, &plain)), 0))
    }

    /// Vectors of prepared documents from a store, where they are put if they are not there yet.
    pub(crate) fn known_vectors(&self, store: &Mutex<EmbeddingStore>, prepared: &[String]) -> Result<Embeddings> {
        let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
        self.document.embed_stored(prepared, &mut store, DEFAULT_TOKEN_BUDGET)
    }
}

/// How a network that learns is gone through.
fn mode(stage: &CheckedStage) -> PassMode {
    stage.grad_cache.map_or(PassMode::Graph, PassMode::Cached)
}

/// Texts as a tower of this instruction reads them.
pub(crate) fn prepare<T: Text>(instruction: &Instruction<T>, texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| instruction.apply(&T::from(text.clone()))).collect()
}

/// Texts with their own prompts where there is a template and a prompt, else with the instruction.
fn prompted<T: Text>(
    instruction: &Instruction<T>,
    template: Option<&str>,
    prompts: &[Option<&String>],
    texts: &[String],
) -> Vec<String> {
    let one = |(text, prompt): (&String, &Option<&String>)| match (template, prompt) {
        (Some(template), Some(prompt)) => fill_template(template, prompt, text),
        _ => instruction.apply(&T::from(text.clone())),
    };
    texts.iter().zip(prompts).map(one).collect()
}

/// Puts prompt and text into their places, whatever braces they hold themselves.
fn fill_template(template: &str, prompt: &str, text: &str) -> String {
    let fill = |part: &str| part.replace("{text}", text);
    match template.split_once("{prompt}") {
        Some((before, after)) => format!("{}{prompt}{}", fill(before), fill(after)),
        None => fill(template),
    }
}

#[cfg(test)]
mod tests {
    use care_core::Query;

    use super::*;

    #[test]
    fn a_prompt_and_a_text_go_to_their_places() {
        let instruction = Instruction::<Query>::new("query: ").expect("good");
        let texts = ["头痛{prompt}".to_owned(), "发烧".to_owned()];
        let prompt = "Find {text}".to_owned();
        let prompts = [Some(&prompt), None];
        let template = Some("Instruct: {prompt}\nQuery:{text}");
        let expected = ["Instruct: Find {text}\nQuery:头痛{prompt}", "query: 发烧"];
        assert_eq!(prompted(&instruction, template, &prompts, &texts), expected);
        assert_eq!(prompted(&instruction, None, &prompts, &texts), ["query: 头痛{prompt}", "query: 发烧"]);
        assert_eq!(fill_template("{text} ({prompt})", "p", "t"), "t (p)");
    }
}
