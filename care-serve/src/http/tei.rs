//! The routes of text-embeddings-inference: `/embed`, `/similarity`, `/rerank`, `/tokenize`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use care_core::{Document, Query, Role};
use serde::{Deserialize, Serialize};

use super::app::App;
use super::body::{JsonBody, PathRole, RoleBody, json};
use super::inputs::{Direction, Inputs, TruncateField, truncate};
use super::list::List;
use crate::blocking::blocking;
use crate::failure::{Failure, Kind};
use crate::role::RoleWords;
use crate::service::{Cost, Embedded, Input, Service, Token, Truncate};

#[derive(Deserialize)]
pub(super) struct EmbedRequest {
    inputs: Inputs,
    truncate: Option<TruncateField>,
    truncation_direction: Option<Direction>,
    normalize: Option<bool>,
    dimensions: Option<usize>,
}

pub(super) async fn embed(
    State(app): State<Arc<App>>,
    RoleBody(role, request): RoleBody<EmbedRequest>,
) -> Result<Response, Failure> {
    let service = app.service()?;
    service.check_dim("dimensions", request.dimensions)?;
    let input = request.inputs.check("inputs", service)?;
    let cut = truncate(request.truncate, request.truncation_direction);
    let embedded = service.embed(role, input, cut).await?;
    let rows = service.with_dim("dimensions", role, embedded.rows, request.dimensions)?;
    json(&service.with_normalize(role, rows, request.normalize)?, Some(embedded.cost))
}

#[derive(Deserialize)]
pub(super) struct SimilarityRequest {
    inputs: Sentences,
    #[serde(default)]
    parameters: SimilarityParameters,
}

#[derive(Deserialize)]
struct Sentences {
    source_sentence: String,
    sentences: List<String>,
}

#[derive(Deserialize, Default)]
struct SimilarityParameters {
    prompt_name: Option<String>,
    truncate: Option<TruncateField>,
    truncation_direction: Option<Direction>,
}

/// The similarity of one text to others: of a query to documents, unless the request states one role for all.
pub(super) async fn similarity(
    State(app): State<Arc<App>>,
    PathRole(path): PathRole,
    JsonBody(request): JsonBody<SimilarityRequest>,
) -> Result<Response, Failure> {
    let service = app.service()?;
    let SimilarityRequest { inputs: Sentences { source_sentence, sentences }, parameters } = request;
    let words = RoleWords { path, prompt_name: parameters.prompt_name, ..RoleWords::default() };
    let stated = words.stated(&service.pair.name)?;
    check_texts("inputs.source_sentence", std::slice::from_ref(&source_sentence))?;
    let sentences = sentences.all("inputs.sentences", service)?;
    check_texts("inputs.sentences", &sentences)?;
    let cut = truncate(parameters.truncate, parameters.truncation_direction);
    let (first, others) = (stated.unwrap_or(Role::Query), stated.unwrap_or(Role::Document));
    let (scores, cost) = similarities(service, (first, source_sentence), (others, sentences), cut).await?;
    json(&scores, Some(cost))
}

/// The dot products of one text's vector and those of others.
async fn similarities(
    service: &Service,
    first: (Role, String),
    others: (Role, Vec<String>),
    cut: Truncate,
) -> Result<(Vec<f32>, Cost), Failure> {
    let one = service.embed(first.0, Input::Texts(vec![first.1]), cut);
    let (one, others) = tokio::join!(one, service.embed(others.0, Input::Texts(others.1), cut));
    let (Embedded { rows: one, cost: first }, Embedded { rows, cost }) = (one?, others?);
    let scores = rows.iter().map(|row| row.iter().zip(&one[0]).map(|(a, b)| a * b).sum()).collect();
    let cost = Cost {
        models: if first.models == cost.models { cost.models } else { [first.models, cost.models].concat() },
        texts: cost.texts + 1,
        tokens: cost.tokens + first.tokens,
        characters: cost.characters + first.characters,
        tokenization: cost.tokenization.max(first.tokenization),
        queue: cost.queue.max(first.queue),
        inference: cost.inference.max(first.inference),
    };
    Ok((scores, cost))
}

fn check_texts(field: &str, texts: &[String]) -> Result<(), Failure> {
    match texts.iter().position(String::is_empty) {
        Some(at) => Err(Failure::field(field, format!("`{field}[{at}]` is empty")).of_kind(Kind::Empty)),
        None => Ok(()),
    }
}

#[derive(Deserialize)]
pub(super) struct RerankRequest {
    query: String,
    texts: List<String>,
    truncate: Option<TruncateField>,
    truncation_direction: Option<Direction>,
    #[serde(default)]
    raw_scores: bool,
    #[serde(default)]
    return_text: bool,
}

#[derive(Serialize)]
struct Rank {
    index: usize,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// Orders texts by a reranker if the server has one, else by the similarity of their vectors to the query's.
pub(super) async fn rerank(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<RerankRequest>,
) -> Result<Response, Failure> {
    let service = app.service()?;
    let RerankRequest { query, texts, truncate: cut, truncation_direction, raw_scores, return_text } = request;
    check_texts("query", std::slice::from_ref(&query))?;
    let texts = texts.all("texts", service)?;
    check_texts("texts", &texts)?;
    let cut = truncate(cut, truncation_direction);
    let (scores, cost) = match &service.pair.reranker {
        None => similarities(service, (Role::Query, query), (Role::Document, texts.clone()), cut).await?,
        Some(_) if raw_scores => {
            return Err(Failure::field("raw_scores", "`raw_scores` is true, but the reranker's scores are final only"));
        }
        Some(_) if cut != Truncate::Cut(None) => {
            return Err(Failure::field("truncate", "the reranker cuts pairs as it was trained; leave `truncate` out"));
        }
        Some(_) => reranked(&app, service, query, &texts).await?,
    };
    let mut ranks: Vec<Rank> = scores
        .into_iter()
        .zip(texts)
        .enumerate()
        .map(|(index, (score, text))| Rank { index, score, text: return_text.then_some(text) })
        .collect();
    ranks.sort_by(|a, b| b.score.total_cmp(&a.score));
    json(&ranks, Some(cost))
}

async fn reranked(app: &App, service: &Service, query: String, texts: &[String]) -> Result<(Vec<f32>, Cost), Failure> {
    let Some(reranker) = service.pair.reranker.clone() else { return Ok(Default::default()) };
    let begun = Instant::now();
    // One call at a time: each computes on all cores.
    let turn = app.reranking.clone().acquire_owned().await.map_err(|e| Failure::new(Kind::Backend, e))?;
    let queue = begun.elapsed();
    let documents: Vec<Document> = texts.iter().map(Document::new).collect();
    let characters = texts.iter().map(|text| text.chars().count()).sum();
    let run = move || {
        // Until the call ends, also if nobody waits for it any more.
        let _turn = turn;
        Ok(reranker.score_documents(&Query::new(query), &documents)?)
    };
    let scores = blocking(run).await?;
    let models = service.reranker.iter().map(|fingerprint| ("reranker", fingerprint.clone())).collect();
    let inference = begun.elapsed() - queue;
    let cost = Cost { models, texts: texts.len(), characters, queue, inference, ..Cost::default() };
    Ok((scores, cost))
}

#[derive(Deserialize)]
pub(super) struct TokenizeRequest {
    inputs: Inputs,
    #[serde(default = "yes")]
    add_special_tokens: bool,
}

fn yes() -> bool {
    true
}

/// The tokens of texts as their tower reads them, with its instruction.
pub(super) async fn tokenize(
    State(app): State<Arc<App>>,
    RoleBody(role, request): RoleBody<TokenizeRequest>,
) -> Result<Response, Failure> {
    let service = app.service()?;
    let texts = request.inputs.texts("inputs", service)?;
    let begun = Instant::now();
    let mut tokens: Vec<Vec<Token>> = service.tokenize(role, texts).await?;
    if !request.add_special_tokens {
        tokens.iter_mut().for_each(|tokens| tokens.retain(|token| !token.special));
    }
    let cost = Cost {
        models: vec![(role.as_str(), service.about(role).fingerprint.clone())],
        tokens: tokens.iter().map(Vec::len).sum(),
        tokenization: begun.elapsed(),
        ..Cost::default()
    };
    json(&tokens, Some(cost))
}
