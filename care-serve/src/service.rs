//! A pair behind its two lanes: texts in, vectors out, within limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use care_core::{Document, Query, Role, Text};
use tokio::sync::Semaphore;

use crate::blocking::blocking;
use crate::collection::Collection;
use crate::failure::{Failure, Kind};
use crate::lane::{Lane, LaneLimits};
use crate::metrics::Metrics;
use crate::options::ServeOptions;
use crate::tower::{About, Pair, ServedTower, Side, Tokens};
use crate::vector::{normalised, truncated};

/// Requests whose texts are tokenized at once, per tower; a request is tokenized on all cores.
pub(crate) const TOKENIZERS: usize = 2;

/// What becomes of a text that is longer than its tower allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truncate {
    /// It is cut, as the tower was trained or on this side.
    Cut(Option<Side>),
    /// It is refused.
    Refuse,
}

/// What a request wants embedded.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    Texts(Vec<String>),
    /// Token ids of the tower's own tokenizer.
    Ids(Vec<Vec<u32>>),
}

/// Vectors, and what they cost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Embedded {
    pub(crate) rows: Vec<Vec<f32>>,
    pub(crate) cost: Cost,
}

/// What a request cost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cost {
    /// What computed, each by its role, or `reranker`, and its fingerprint.
    pub(crate) models: Vec<(&'static str, String)>,
    pub(crate) texts: usize,
    pub(crate) characters: usize,
    pub(crate) tokens: usize,
    pub(crate) tokenization: Duration,
    pub(crate) queue: Duration,
    pub(crate) inference: Duration,
}

/// One tower and its lane.
struct Half<T: Text> {
    tower: Arc<dyn ServedTower<T>>,
    lane: Lane<T>,
    tokenizers: Arc<Semaphore>,
}

/// A served pair.
pub(crate) struct Service {
    pub(crate) pair: Pair,
    pub(crate) options: ServeOptions,
    pub(crate) collection: Option<Collection>,
    /// That of the reranker, if it has one.
    pub(crate) reranker: Option<String>,
    query: Half<Query>,
    document: Half<Document>,
}

impl<T: Text> Half<T> {
    async fn tokenize(&self, texts: Vec<T>, truncate: Truncate) -> Result<Vec<Tokens>, Failure> {
        let closed = |e| Failure::new(Kind::Backend, e);
        let turn = self.tokenizers.clone().acquire_owned().await.map_err(closed)?;
        let (tower, most) = (self.tower.clone(), self.tower.about().max_length);
        let run = move || {
            // Until the texts are tokenized, also if nobody waits for them any more.
            let _turn = turn;
            Ok(match truncate {
                Truncate::Cut(side) => tower.tokenize(&texts, most, side)?,
                // One more, to see that it is too long.
                Truncate::Refuse => tower.tokenize(&texts, most + 1, None)?,
            })
        };
        let tokens = blocking(run).await?;
        match tokens.iter().position(|text| text.ids.len() > most) {
            None => Ok(tokens),
            Some(at) => {
                let message = format!("text {at} has more than {most} tokens, and is not to be truncated");
                Err(Failure::new(Kind::TooLarge, message))
            }
        }
    }

    /// Refuses token ids that the tower does not have.
    fn check_ids(&self, ids: Vec<Vec<u32>>) -> Result<Vec<Tokens>, Failure> {
        let about = self.tower.about();
        for (at, ids) in ids.iter().enumerate() {
            if ids.len() > about.max_length {
                let message = format!("text {at} has {} token ids, allowed: {}", ids.len(), about.max_length);
                return Err(Failure::new(Kind::TooLarge, message));
            }
            if let Some(id) = ids.iter().find(|id| **id as usize >= about.vocab_size) {
                let message = format!("text {at} has the token id {id}, allowed: below {}", about.vocab_size);
                return Err(Failure::new(Kind::Invalid, message));
            }
        }
        Ok(ids.into_iter().map(|ids| Tokens { ids, types: None }).collect())
    }

    async fn embed(&self, tokens: Vec<Tokens>, cost: Cost) -> Result<Embedded, Failure> {
        let (texts, count) = (tokens.len(), tokens.iter().map(|text| text.ids.len()).sum());
        let answer = self.lane.embed(tokens).await?;
        let models = vec![(T::ROLE.as_str(), self.tower.about().fingerprint.clone())];
        let cost = Cost { models, texts, tokens: count, queue: answer.queue, inference: answer.inference, ..cost };
        Ok(Embedded { rows: answer.rows, cost })
    }

    async fn embed_texts(&self, texts: Vec<T>, truncate: Truncate) -> Result<Embedded, Failure> {
        let (begun, characters) = (Instant::now(), texts.iter().map(|text| text.content().chars().count()).sum());
        let tokens = self.tokenize(texts, truncate).await?;
        self.embed(tokens, Cost { characters, tokenization: begun.elapsed(), ..Cost::default() }).await
    }

    async fn embed_input(&self, input: Input, truncate: Truncate) -> Result<Embedded, Failure> {
        match input {
            Input::Texts(texts) => self.embed_texts(texts.into_iter().map(T::from).collect(), truncate).await,
            Input::Ids(ids) => self.embed(self.check_ids(ids)?, Cost::default()).await,
        }
    }
}

impl Service {
    /// Starts the lanes of a pair.
    ///
    /// # Errors
    /// If the towers do not fit together or the index, an offered dimension is out of range, or a thread cannot be
    /// started.
    pub(crate) fn start(
        pair: Pair,
        collection: Option<Collection>,
        options: ServeOptions,
        metrics: &Arc<Metrics>,
    ) -> care_core::Result<Self> {
        let (query, document) = (pair.query.about().dim, pair.document.about().dim);
        if query != document {
            let message = format!("the query tower has {query} dimensions, the document tower {document}");
            return Err(care_core::Error::new(care_core::ErrorKind::Dimension, message));
        }
        if let Some(dim) = options.dimensions.iter().find(|dim| !(1..=query).contains(*dim)) {
            return Err(care_core::Error::setting("dimensions", dim, &format!("1 to {query}")));
        }
        if let Some(collection) = &collection {
            collection.check(&pair)?;
        }
        let waiting = options.max_queue_tokens;
        let limits = |batch| LaneLimits { waiting, batch };
        let lane = Lane::new(pair.query.clone(), limits(options.max_batch_tokens), None, metrics.clone())?;
        let first = Some(lane.traffic());
        let tokenizers = || Arc::new(Semaphore::new(TOKENIZERS));
        let query = Half { tower: pair.query.clone(), lane, tokenizers: tokenizers() };
        let lane = Lane::new(pair.document.clone(), limits(options.document_batch_tokens), first, metrics.clone())?;
        let document = Half { tower: pair.document.clone(), lane, tokenizers: tokenizers() };
        let reranker = pair.reranker.as_ref().map(|reranker| reranker.fingerprint()).transpose()?.flatten();
        Ok(Self { pair, options, collection, reranker, query, document })
    }

    pub(crate) fn about(&self, role: Role) -> &About {
        match role {
            Role::Query => self.query.tower.about(),
            Role::Document => self.document.tower.about(),
        }
    }

    /// Embeds texts of one role.
    pub(crate) async fn embed(&self, role: Role, input: Input, truncate: Truncate) -> Result<Embedded, Failure> {
        match role {
            Role::Query => self.query.embed_input(input, truncate).await,
            Role::Document => self.document.embed_input(input, truncate).await,
        }
    }

    /// Embeds documents, which may have titles.
    pub(crate) async fn embed_documents(&self, documents: Vec<Document>) -> Result<Embedded, Failure> {
        self.document.embed_texts(documents, Truncate::Cut(None)).await
    }

    /// The tokens of texts of one role, each with its text, as the tower reads them.
    pub(crate) async fn tokenize(&self, role: Role, texts: Vec<String>) -> Result<Vec<Vec<Token>>, Failure> {
        let cut = Truncate::Cut(None);
        let tokens = match role {
            Role::Query => self.query.tokenize(texts.into_iter().map(Query::from).collect(), cut).await,
            Role::Document => self.document.tokenize(texts.into_iter().map(Document::from).collect(), cut).await,
        }?;
        let special = &self.about(role).special_tokens;
        let text = |id| match role {
            Role::Query => self.query.tower.token(id),
            Role::Document => self.document.tower.token(id),
        };
        let token = |id| Token { id, text: text(id).unwrap_or_default(), special: special.contains(&id) };
        Ok(tokens.into_iter().map(|text| text.ids.into_iter().map(token).collect()).collect())
    }

    /// The number of texts in a request, if it is allowed.
    pub(crate) fn check_batch(&self, field: &str, texts: usize) -> Result<(), Failure> {
        match (texts, self.options.max_client_batch) {
            (0, _) => Err(Failure::field(field, format!("`{field}` is empty")).of_kind(Kind::Empty)),
            (texts, most) if texts > most => {
                let message = format!("`{field}` has {texts} texts, allowed: {most}");
                Err(Failure::field(field, message).of_kind(Kind::TooLarge))
            }
            _ => Ok(()),
        }
    }

    /// Cuts vectors to a number of dimensions that is offered.
    pub(crate) fn with_dim(
        &self,
        field: &str,
        role: Role,
        rows: Vec<Vec<f32>>,
        dim: Option<usize>,
    ) -> Result<Vec<Vec<f32>>, Failure> {
        let about = self.about(role);
        let Some(dim) = dim.filter(|dim| *dim != about.dim) else { return Ok(rows) };
        self.check_dim(field, Some(dim))?;
        Ok(rows.iter().map(|row| truncated(row, dim, about.unit_length)).collect())
    }

    /// Refuses a number of dimensions that is not offered.
    pub(crate) fn check_dim(&self, field: &str, dim: Option<usize>) -> Result<(), Failure> {
        let full = self.query.tower.about().dim;
        match dim {
            Some(dim) if dim != full && !self.options.dimensions.contains(&dim) => {
                let offered: Vec<String> =
                    self.options.dimensions.iter().chain([&full]).map(ToString::to_string).collect();
                let message = format!("`{field}` is {dim}, offered: {}", offered.join(", "));
                Err(Failure::field(field, message))
            }
            _ => Ok(()),
        }
    }

    /// Applies `normalize` of a request: by default vectors are as the pair compares them.
    pub(crate) fn with_normalize(
        &self,
        role: Role,
        rows: Vec<Vec<f32>>,
        normalize: Option<bool>,
    ) -> Result<Vec<Vec<f32>>, Failure> {
        match normalize {
            Some(false) if self.about(role).unit_length => {
                let message =
                    "`normalize` is false, but this tower's vectors have length 1; allowed: true, or leave it out";
                Err(Failure::field("normalize", message))
            }
            Some(true) if !self.about(role).unit_length => Ok(rows.into_iter().map(normalised).collect()),
            _ => Ok(rows),
        }
    }
}

/// A token of `/tokenize`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Token {
    pub(crate) id: u32,
    pub(crate) text: String,
    pub(crate) special: bool,
}
