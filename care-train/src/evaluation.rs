//! Evaluation during training.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::module::Module;
use care_core::{Document, Embedder, Embeddings, Error, ErrorKind, Query, Result, Text};
use care_encoders::layers::Prepack;
use care_encoders::{AnyEncoder, DEFAULT_TOKEN_BUDGET, DocumentTower, Network, QueryTower};
use cmedteb::{Protocol, Task, evaluate, is_undefined, load, splits};

use crate::stage::StageKind;
use crate::towers::Towers;

/// The splits that may choose weights without being named, in order of preference.
const SPLITS: [&str; 2] = ["dev", "validation"];

/// The tasks that are evaluated.
pub(crate) struct DevSet {
    tasks: Vec<Task>,
    split: String,
}

/// The scores of the towers on the dev set.
pub(crate) struct DevScores {
    /// The main score of each task that has one.
    pub(crate) scores: BTreeMap<String, f64>,
    /// For every other task, why its score is undefined.
    pub(crate) undefined: BTreeMap<String, String>,
}

impl DevSet {
    /// Reads a split of a task folder; by default `dev`, else `validation`.
    ///
    /// # Errors
    /// As [`cmedteb::load`], and if `split` is `None` and the folder has neither split.
    pub(crate) fn load(folder: &Path, split: Option<&str>) -> Result<Self> {
        let split = match split {
            Some(split) => split.to_owned(),
            None => default_split(folder)?,
        };
        Ok(Self { tasks: load(folder, Some(&split))?, split })
    }

    /// The split that is evaluated.
    pub(crate) fn split(&self) -> &str {
        &self.split
    }

    /// What a score is, e.g. `ndcg@10`, or `mean of map@10, ndcg@10` if there are several tasks.
    pub(crate) fn measure(&self) -> String {
        let names: BTreeSet<String> = self.tasks.iter().map(main_measure).collect();
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        if self.tasks.len() == 1 { names } else { format!("mean of {names}") }
    }

    /// The main score of each task.
    ///
    /// # Errors
    /// Returns an error if a text cannot be encoded or a vector is not finite.
    pub(crate) fn scores(&self, towers: &Towers) -> Result<DevScores> {
        let (mut scores, mut undefined) = (BTreeMap::new(), BTreeMap::new());
        // Packed once for all tasks.
        let towers = towers.snapshot();
        for task in &self.tasks {
            let name = task.name().to_owned();
            match evaluate(task, &towers, &Protocol::default().with_depth(100), &mut |_| {}) {
                Err(error) if is_undefined(&error) => undefined.insert(name, error.to_string()).map_or((), drop),
                outcome => scores.insert(name, outcome?.main_score()).map_or((), drop),
            }
        }
        Ok(DevScores { scores, undefined })
    }
}

impl DevScores {
    /// The mean of the scores, unless one is undefined.
    pub(crate) fn mean(&self) -> Option<f64> {
        let mean = || self.scores.values().sum::<f64>() / self.scores.len() as f64;
        self.undefined.is_empty().then(mean)
    }
}

fn default_split(folder: &Path) -> Result<String> {
    let found = splits(folder)?;
    SPLITS.iter().find(|split| found.iter().any(|found| found == *split)).map(|split| (*split).to_owned()).ok_or_else(
        || {
            let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
            let message = format!(
                "{}: the dev set needs the split {}, found: {found}; to choose the weights by another split, name it: \
                 `split` in [evaluation]",
                folder.display(),
                SPLITS.join(" or ")
            );
            Error::new(ErrorKind::Config, message)
        },
    )
}

/// The name of a task's main score.
fn main_measure(task: &Task) -> String {
    match task {
        Task::Retrieval(task) => task.main_score().to_string(),
        Task::Reranking(task) => task.main_score().to_string(),
        Task::Sts(_) => "cosine_spearman".to_owned(),
    }
}

/// The towers in their state at one point of a stage, without graphs or dropout, for inference only.
pub(crate) struct Snapshot<'a> {
    pub(crate) query: QueryTower<AnyEncoder>,
    /// Not used if the store has the vectors.
    pub(crate) document: DocumentTower<AnyEncoder>,
    towers: &'a Towers,
}

impl Towers {
    /// The towers as they are now, with packed weights and merged LoRA adapters.
    pub(crate) fn snapshot(&self) -> Snapshot<'_> {
        let settled = |network: &Network<AnyEncoder>, trained: bool| match trained {
            true => network.valid().prepacked(Prepack::F32),
            false => network.clone(),
        };
        let [query_trained, document_trained] = self.trained;
        let document = self.document.clone().map_network(|network| settled(&network, document_trained));
        let query = self.query.clone().map_network(|network| match self.kind {
            StageKind::Symmetric => document.network().clone(),
            _ => settled(&network, query_trained),
        });
        Snapshot { query, document, towers: self }
    }
}

impl Embedder for Snapshot<'_> {
    fn embedding_dim(&self) -> usize {
        self.document.embedding_dim()
    }

    fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
        match self.towers.kind {
            // This stage does not use the query tower.
            StageKind::SymmetricDocument => {
                let texts: Vec<Document> = queries.iter().map(|query| Document::new(query.content())).collect();
                self.embed_documents(&texts)
            }
            _ => self.query.embed(queries, DEFAULT_TOKEN_BUDGET),
        }
    }

    fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
        match &self.towers.teacher {
            Some(store) => {
                let encode = &mut |missing: &[&str]| self.towers.encode_alone(missing);
                self.towers.known_vectors(store, &self.document.prepare(documents), encode)
            }
            None => self.document.embed(documents, DEFAULT_TOKEN_BUDGET),
        }
    }
}
