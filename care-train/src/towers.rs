//! Both towers in training, and how they encode the texts of a batch.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Tensor, TensorData};
use care_core::store::EmbeddingStore;
use care_core::{Embeddings, Instruction, Result, Role, Text};
use care_data::rows::RowType;
use care_encoders::tokenize::{TokenLists, Tokenizer};
use care_encoders::{AnyEncoder, DEFAULT_TOKEN_BUDGET, DocumentTower, Network, QueryTower};

use crate::batcher::TrainBatch;
use crate::collective::{Collective, bytes_of, garbled, values_of};
use crate::command::Command;
use crate::config::{CheckedStage, TrainMode};
use crate::loss::{Alignment, LossInput};
use crate::pass::{Kept, Pass, constant, device, frozen_vectors, select};
use crate::stage::StageKind;

/// The towers of a stage in progress.
pub(crate) struct Towers {
    pub(crate) query: QueryTower<AnyEncoder>,
    pub(crate) document: DocumentTower<AnyEncoder>,
    /// Whether the stage trains the query tower and the document tower; a frozen network is packed.
    pub(crate) trained: [bool; 2],
    /// Kind of the stage, which decides what each tower encodes.
    pub(crate) kind: StageKind,
    /// Cached vectors of the frozen document tower.
    pub(crate) teacher: Option<Mutex<EmbeddingStore>>,
    /// Whether the first process has that cache, and this is another.
    pub(crate) teacher_elsewhere: bool,
    /// The processes that train these towers together.
    pub(crate) group: Arc<dyn Collective>,
}

/// A batch with its texts as the towers read them, before encoding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReadBatch {
    pub(crate) batch: TrainBatch,
    /// What the tower of the queries reads: the queries; in an alignment each text of the batch once.
    queries: TokenLists,
    /// What the document tower reads: the documents; in an alignment the same texts as the query tower.
    documents: Documents,
    /// In an alignment the text of each query and of each document.
    rows: Vec<i64>,
}

/// Documents in the form that is wanted.
#[derive(Debug, Clone, PartialEq)]
enum Documents {
    /// The token ids of each, to be encoded.
    Ids(TokenLists),
    /// Prepared texts, to be looked up in the teacher's store.
    Texts(Vec<String>),
}

/// A batch after encoding, before the losses.
pub(crate) struct Encoded {
    pub(crate) input: LossInput,
    /// The passes through trained networks, each with the role that its weights belong to.
    pub(crate) passes: Vec<(Role, Pass)>,
    /// Number of encoded tokens.
    pub(crate) tokens: usize,
}

impl Towers {
    /// Prepares and tokenizes the texts of a batch as its stage requires. Needs neither weights nor a device.
    ///
    /// # Errors
    /// Returns an error if a text cannot be tokenized.
    pub(crate) fn read(&self, stage: &CheckedStage, batch: TrainBatch) -> Result<ReadBatch> {
        if stage.kind == StageKind::QueryAlignment {
            return self.read_alignment(stage, batch);
        }
        let prompts: Vec<Option<&String>> = batch.prompts.iter().map(Option::as_ref).collect();
        let queries = self.prepare_queries(stage, &prompts, &batch.queries);
        let documents = self.prepare_documents(stage, batch.row_type, &prompts, &batch.documents);
        let (queries, documents) = (self.query_side().0.encode(&queries)?, self.wanted(documents)?);
        Ok(ReadBatch { batch, queries, documents, rows: Vec::new() })
    }

    /// The texts of stage 1, each once.
    fn read_alignment(&self, stage: &CheckedStage, batch: TrainBatch) -> Result<ReadBatch> {
        let mut texts: Vec<String> = Vec::new();
        let mut known: HashMap<&str, i64> = HashMap::new();
        let mut rows: Vec<i64> = Vec::new();
        for text in batch.queries.iter().chain(&batch.documents) {
            rows.push(*known.entry(text).or_insert_with(|| {
                texts.push(text.clone());
                texts.len() as i64 - 1
            }));
        }
        let queries = self.query.tokenizer().encode(&prepare(self.query.instruction(), &texts))?;
        let documents = self.wanted(self.prepare_for_teacher(stage, &texts))?;
        Ok(ReadBatch { batch, queries, documents, rows })
    }

    fn wanted(&self, documents: Vec<String>) -> Result<Documents> {
        Ok(match self.teacher.is_some() || self.teacher_elsewhere {
            true => Documents::Texts(documents),
            false => Documents::Ids(self.document.tokenizer().encode(&documents)?),
        })
    }

    /// Encodes a batch as its stage requires.
    ///
    /// # Errors
    /// Returns an error if a cached vector cannot be read, or another process is lost.
    pub(crate) fn encode(&self, stage: &CheckedStage, read: &ReadBatch, seed: u64) -> Result<Encoded> {
        let batch = &read.batch;
        let mut encoded = match stage.kind {
            StageKind::QueryAlignment => self.align(stage, read, seed),
            _ => self.contrast(stage, read, seed),
        }?;
        let (group, queries) = (encoded.input.group_size(), batch.queries.len());
        encoded.input.in_batch_negatives = batch.row_type.has_in_batch_negatives();
        // Where both sides are read alike, a query's own text is its best document.
        let read_alike = stage.kind == StageKind::QueryAlignment || batch.row_type.instructs_documents();
        encoded.input.known_answers = batch.known_answers(read_alike).map(|mask| {
            let mask = TensorData::new(mask, [queries, batch.documents.len()]);
            Tensor::from_data(mask, &encoded.input.queries.device())
        });
        encoded.input.teacher_scores = batch.scores.as_ref().map(|scores| {
            Tensor::from_data(TensorData::new(scores.clone(), [queries, group]), &encoded.input.queries.device())
        });
        Ok(encoded)
    }

    /// Stage 1: the student's and the teacher's vectors of the same texts.
    ///
    /// # Reference
    /// CARE stage 1: InfoNCE of student queries against teacher documents, and MSE over queries and
    /// documents alike. DIFFERENCE: a text that is in the batch twice, as a query and as its own positive, is
    /// encoded once and counted twice; with dropout the published code would draw two masks.
    fn align(&self, stage: &CheckedStage, read: &ReadBatch, seed: u64) -> Result<Encoded> {
        let (tokenizer, network) = (self.query.tokenizer(), self.query.network());
        let student = Pass::new(tokenizer, network, &read.queries, kept(stage), seed, &*self.group)?;
        let (teacher, taught) = self.teacher_vectors(&read.documents)?;
        let vectors = student.vectors();
        let rows = &read.rows;
        let (queries, documents) = rows.split_at(read.batch.queries.len());
        let input = LossInput {
            alignment: Some(Alignment { student: select(&vectors, rows), teacher: select(&teacher, rows) }),
            ..LossInput::new(select(&vectors, queries), select(&teacher, documents))
        };
        let tokens = student.tokens() + taught;
        Ok(Encoded { input, passes: vec![(Role::Query, student)], tokens })
    }

    /// Queries against positives and hard negatives.
    fn contrast(&self, stage: &CheckedStage, read: &ReadBatch, seed: u64) -> Result<Encoded> {
        let (tokenizer, network, role) = self.query_side();
        let ReadBatch { queries, documents, .. } = read;
        let (mut passes, mut tokens) = (Vec::new(), 0);
        let frozen = stage.mode(role) == TrainMode::Frozen;
        let query_vectors = if frozen {
            let (vectors, encoded) = frozen_vectors(tokenizer, network, queries, &*self.group)?;
            tokens += encoded;
            vectors
        } else {
            let pass = Pass::new(tokenizer, network, queries, kept(stage), seed, &*self.group)?;
            let vectors = pass.vectors();
            tokens += pass.tokens();
            passes.push((role, pass));
            vectors
        };
        let document_vectors = match documents {
            Documents::Ids(ids) if stage.mode(Role::Document) != TrainMode::Frozen => {
                // Each chunk adds its number to the seed, so the seeds of the two passes must lie far apart.
                let (tokenizer, network) = (self.document.tokenizer(), self.document.network());
                let pass = Pass::new(tokenizer, network, ids, kept(stage), seed ^ (1 << 63), &*self.group)?;
                let vectors = pass.vectors();
                tokens += pass.tokens();
                passes.push((Role::Document, pass));
                vectors
            }
            _ => {
                let (vectors, taught) = self.teacher_vectors(documents)?;
                tokens += taught;
                vectors
            }
        };
        Ok(Encoded { input: LossInput::new(query_vectors, document_vectors), passes, tokens })
    }

    /// What encodes queries, and the role that its weights belong to: the document tower, its network, or the query tower.
    pub(crate) fn query_side(&self) -> (&Tokenizer, &Network<AnyEncoder>, Role) {
        let (query, document) = (&self.query, &self.document);
        match self.kind {
            StageKind::SymmetricDocument => (document.tokenizer(), document.network(), Role::Document),
            StageKind::Symmetric => (query.tokenizer(), document.network(), Role::Document),
            _ => (query.tokenizer(), query.network(), Role::Query),
        }
    }

    /// Applies the instruction with which the teacher of an alignment reads texts.
    pub(crate) fn prepare_for_teacher(&self, stage: &CheckedStage, texts: &[String]) -> Vec<String> {
        prepare(stage.teacher_instruction().unwrap_or(self.document.instruction()), texts)
    }

    /// Applies the instruction of the tower that reads the stage's queries, or the template to those with a prompt.
    pub(crate) fn prepare_queries(
        &self,
        stage: &CheckedStage,
        prompts: &[Option<&String>],
        texts: &[String],
    ) -> Vec<String> {
        let template = stage.prompt_template.as_deref();
        match stage.kind {
            StageKind::SymmetricDocument => prompted(self.document.instruction(), template, prompts, texts),
            _ => prompted(self.query.instruction(), template, prompts, texts),
        }
    }

    /// Applies the instruction to documents: their own, or that of the query if the row type requires it. Each of
    /// `prompts` belongs to an equal share of the documents.
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
        self.prepare_queries(stage, &prompts, documents)
    }

    /// Vectors of the frozen document tower, without a graph, and the number of tokens encoded for them.
    fn teacher_vectors(&self, documents: &Documents) -> Result<(Tensor<2>, usize)> {
        let network = self.document.network();
        let encode = |ids: &[Vec<u32>]| frozen_vectors(self.document.tokenizer(), network, ids, &*self.group);
        let known = match (documents, &self.teacher) {
            (Documents::Ids(ids), _) => return encode(ids),
            (Documents::Texts(texts), Some(store)) => {
                let known = self.known_vectors(store, texts, &mut |missing| self.encode_alone(missing))?;
                self.group.broadcast(0, self.bytes_of(&known))?;
                known
            }
            (Documents::Texts(texts), None) if self.teacher_elsewhere => {
                self.vectors_of(0, &self.group.broadcast(0, Vec::new())?, texts.len())?
            }
            (Documents::Texts(texts), None) => return encode(&self.document.tokenizer().encode(texts)?),
        };
        Ok((constant(&known, &device(network)), 0))
    }

    /// The vectors of prepared documents, each encoded by one of the processes. The others are told of it, and call
    /// [`Towers::encode_share`].
    pub(crate) fn encode_together(&self, prepared: &[&str]) -> Result<Embeddings> {
        let (group, dim) = (&*self.group, self.document.embedding_dim());
        if group.world() == 1 {
            return self.encode_alone(prepared);
        }
        let texts = prepared.iter().map(|text| (*text).to_owned()).collect();
        Command::Encode(texts).give(group)?;
        let mut vectors = Embeddings::zeros(prepared.len(), dim);
        for rank in 0..group.world() {
            let share = share(prepared.len(), rank, group.world());
            let own: Vec<&str> = share.clone().map(|text| prepared[text]).collect();
            let of_share = match rank {
                0 => self.encode_alone(&own)?,
                _ => self.vectors_of(rank, &group.receive(rank)?, own.len())?,
            };
            share.zip(0..).for_each(|(text, row)| vectors.set(text, &of_share.row(row).to_vec()));
        }
        Ok(vectors)
    }

    /// Encodes this process' share of prepared documents for the first process.
    ///
    /// # Errors
    /// Returns an error if a text cannot be encoded, or another process is lost.
    pub(crate) fn encode_share(&self, prepared: &[String]) -> Result<()> {
        let own: Vec<&str> =
            share(prepared.len(), self.group.rank(), self.group.world()).map(|text| prepared[text].as_str()).collect();
        self.group.send(0, &self.bytes_of(&self.encode_alone(&own)?))
    }

    /// The vectors of prepared documents, encoded by this process.
    pub(crate) fn encode_alone(&self, prepared: &[&str]) -> Result<Embeddings> {
        match prepared.is_empty() {
            true => Ok(Embeddings::zeros(0, self.document.embedding_dim())),
            false => self.document.embed_prepared(prepared, DEFAULT_TOKEN_BUDGET, &mut |_| {}),
        }
    }

    fn bytes_of(&self, vectors: &Embeddings) -> Vec<u8> {
        match self.group.world() {
            1 => Vec::new(),
            _ => bytes_of(&vectors.as_array().iter().copied().collect::<Vec<f32>>()),
        }
    }

    /// The vectors that another process has sent.
    fn vectors_of(&self, from: usize, bytes: &[u8], count: usize) -> Result<Embeddings> {
        let (values, dim) = (values_of(bytes), self.document.embedding_dim());
        match values.len() == count * dim {
            true => Embeddings::from_rows(dim, values.chunks_exact(dim)),
            false => Err(garbled(from, format!("{} values for {count} vectors of {dim}", values.len()))),
        }
    }

    /// Whether the teacher's vectors of all these prepared texts are in its store.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub(crate) fn teacher_has(&self, prepared: &[String]) -> Result<bool> {
        let Some(store) = &self.teacher else { return Ok(false) };
        let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(store.missing(prepared)?.is_empty())
    }

    /// The files of the teacher's store that were found to be unusable since the last call.
    pub(crate) fn take_refused(&self) -> Vec<PathBuf> {
        let store = self.teacher.as_ref().map(|store| store.lock().unwrap_or_else(PoisonError::into_inner));
        store.map(|mut store| store.take_refused()).unwrap_or_default()
    }

    /// Vectors of prepared documents from a store, to which missing ones are added once encoded.
    pub(crate) fn known_vectors(
        &self,
        store: &Mutex<EmbeddingStore>,
        prepared: &[String],
        encode: &mut dyn FnMut(&[&str]) -> Result<Embeddings>,
    ) -> Result<Embeddings> {
        let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
        store.fill(prepared, encode)?;
        store.get(prepared)
    }
}

/// Which of so many texts, sorted by length, a process encodes.
fn share(texts: usize, rank: usize, world: usize) -> impl Iterator<Item = usize> + Clone {
    (rank..texts).step_by(world)
}

/// What a stage keeps of its forward passes.
fn kept(stage: &CheckedStage) -> Kept {
    Kept { grad_cache: stage.grad_cache, layers: stage.gradient_checkpointing }
}

/// Applies an instruction to texts.
fn prepare<T: Text>(instruction: &Instruction<T>, texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| instruction.apply(&T::from(text.clone()))).collect()
}

/// Applies the template to texts with a prompt, if there is a template, and the instruction to all others.
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

/// Inserts prompt and text into a template; braces within them are left alone.
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
