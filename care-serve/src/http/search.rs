//! `/search`: the documents of the index that answer a question.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use care_core::Role;
use care_core::index::Filter;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::app::App;
use super::body::{JsonBody, json};
use super::documents::collection;
use crate::blocking::blocking;
use crate::collection::{Ask, Found, Mode};
use crate::failure::{Failure, Kind};
use crate::service::{Cost, Embedded, Input, Service, Truncate};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchRequest {
    query: String,
    top_k: Option<usize>,
    filter: Option<Value>,
    mode: Option<Mode>,
}

#[derive(Serialize)]
struct SearchAnswer<'a> {
    mode: Mode,
    hits: Vec<Hit>,
    /// Rows of the index.
    documents: usize,
    milliseconds: Milliseconds,
    query_fingerprint: &'a str,
    document_fingerprint: &'a str,
}

#[derive(Serialize)]
struct Milliseconds {
    embedding: f64,
    search: f64,
    total: f64,
}

#[derive(Serialize)]
struct Hit {
    rank: usize,
    id: String,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector_score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bm25_score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    metadata: Map<String, Value>,
}

/// Number of hits by default.
const TOP_K: usize = 10;
/// Characters of a query, at most: BM25 reads all documents of each of its tokens.
const MAX_QUERY: usize = 4096;

pub(super) async fn search(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<SearchRequest>,
) -> Result<Response, Failure> {
    let begun = Instant::now();
    let service = app.service()?.clone();
    let documents = collection(&service)?.index().len();
    let (ask, cost) = ask(&service, request).await?;
    let (mode, searching) = (ask.mode, Instant::now());
    let found = {
        let service = service.clone();
        blocking(move || Ok(collection(&service)?.search(&ask)?)).await?
    };
    let milliseconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let answer = SearchAnswer {
        mode,
        hits: found.into_iter().zip(1..).map(hit).collect(),
        documents,
        milliseconds: Milliseconds {
            embedding: milliseconds(cost.tokenization + cost.queue + cost.inference),
            search: milliseconds(searching.elapsed()),
            total: milliseconds(begun.elapsed()),
        },
        query_fingerprint: &service.about(Role::Query).fingerprint,
        document_fingerprint: &service.about(Role::Document).fingerprint,
    };
    app.metrics.count("care_search_count", &format!("mode=\"{}\"", mode.name()));
    app.metrics.time("care_search_duration", "", searching.elapsed());
    json(&answer, Some(cost))
}

/// Checks a request, and embeds its query unless only words are searched.
async fn ask(service: &Service, request: SearchRequest) -> Result<(Ask, Cost), Failure> {
    let SearchRequest { query, top_k, filter, mode } = request;
    if query.trim().is_empty() {
        return Err(Failure::field("query", "`query` is empty").of_kind(Kind::Empty));
    }
    let characters = query.chars().count();
    if characters > MAX_QUERY {
        let message = format!("`query` has {characters} characters, allowed: {MAX_QUERY}");
        return Err(Failure::field("query", message).of_kind(Kind::TooLarge));
    }
    let (k, most) = (top_k.unwrap_or(TOP_K), service.options.max_top_k);
    if !(1..=most).contains(&k) {
        return Err(Failure::field("top_k", format!("`top_k` is {k}, allowed: 1 to {most}")));
    }
    let has_texts = collection(service)?.has_texts();
    let mode = mode.unwrap_or(if has_texts { Mode::Hybrid } else { Mode::Vector });
    if mode != Mode::Vector && !has_texts {
        return Err(Failure::field("mode", "the index keeps no texts, which BM25 reads; allowed: vector"));
    }
    let filter = filter.filter(|filter| !filter.is_null()).map(|filter| match filter {
        Value::String(text) => text.parse::<Filter>(),
        json => Filter::from_json(&json),
    });
    let filter = filter.transpose().map_err(|e| Failure::field("filter", e))?;
    let Embedded { mut rows, cost } = match mode {
        Mode::Bm25 => Embedded::default(),
        _ => {
            let input = Input::Texts(vec![query.clone()]);
            service.embed(Role::Query, input, Truncate::Cut(None)).await?
        }
    };
    Ok((Ask { query, vector: rows.pop(), mode, k, filter }, cost))
}

fn hit((found, rank): (Found, usize)) -> Hit {
    let Found { record, score, vector_score, bm25_score } = found;
    Hit { rank, id: record.id, score, vector_score, bm25_score, text: record.text, metadata: record.metadata }
}
