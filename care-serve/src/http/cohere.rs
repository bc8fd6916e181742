//! Cohere's route: `/v2/embed`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::app::App;
use super::body::{RoleBody, json};
use super::inputs::{TruncateField, truncate};
use super::list::List;
use crate::failure::{Failure, Kind};
use crate::service::{Input, Service};
use crate::vector;

/// Cohere's request; of `inputs`, texts only.
#[derive(Deserialize)]
pub(super) struct EmbedRequest {
    texts: Option<List<String>>,
    inputs: Option<List<Content>>,
    images: Option<IgnoredAny>,
    embedding_types: Option<Vec<EmbeddingType>>,
    output_dimension: Option<usize>,
    max_tokens: Option<IgnoredAny>,
    truncate: Option<TruncateField>,
}

#[derive(Deserialize)]
struct Content {
    content: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    Text { text: String },
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum EmbeddingType {
    Float,
    Int8,
    Uint8,
    Binary,
    Ubinary,
    Base64,
}

impl EmbeddingType {
    fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Int8 => "int8",
            Self::Uint8 => "uint8",
            Self::Binary => "binary",
            Self::Ubinary => "ubinary",
            Self::Base64 => "base64",
        }
    }

    fn encode(self, rows: &[Vec<f32>]) -> Value {
        match self {
            Self::Float => json!(rows),
            Self::Int8 => rows.iter().map(|row| vector::int8(row)).collect(),
            Self::Uint8 => rows.iter().map(|row| vector::uint8(row)).collect(),
            Self::Binary => rows.iter().map(|row| vector::binary(row)).collect(),
            Self::Ubinary => rows.iter().map(|row| vector::ubinary(row)).collect(),
            Self::Base64 => rows.iter().map(|row| vector::base64(row)).collect(),
        }
    }
}

pub(super) async fn embed(
    State(app): State<Arc<App>>,
    RoleBody(role, request): RoleBody<EmbedRequest>,
) -> Result<Response, Failure> {
    let service = app.service()?;
    let about = service.about(role);
    let types = request.embedding_types.unwrap_or(vec![EmbeddingType::Float]);
    if types.is_empty() {
        return Err(Failure::field("embedding_types", "`embedding_types` is empty").of_kind(Kind::Empty));
    }
    let directions = |kind: &EmbeddingType| matches!(kind, EmbeddingType::Int8 | EmbeddingType::Uint8);
    if !about.unit_length && types.iter().any(directions) {
        let message = "int8 and uint8 keep directions only, and this tower's vectors differ in length";
        return Err(Failure::field("embedding_types", message));
    }
    service.check_dim("output_dimension", request.output_dimension)?;
    for (field, value) in [("images", &request.images), ("max_tokens", &request.max_tokens)] {
        if value.is_some() {
            return Err(Failure::field(field, format!("`{field}` is not supported")));
        }
    }
    let texts = texts(request.texts, request.inputs, service)?;
    if let Some(at) = texts.iter().position(String::is_empty) {
        return Err(Failure::field("texts", format!("`texts[{at}]` is empty")).of_kind(Kind::Empty));
    }
    let embedded = service.embed(role, Input::Texts(texts.clone()), truncate(request.truncate, None)).await?;
    let rows = service.with_dim("output_dimension", role, embedded.rows, request.output_dimension)?;
    let embeddings: Map<String, Value> =
        types.iter().map(|kind| (kind.name().to_owned(), kind.encode(&rows))).collect();
    let answer = json!({
        "id": format!("{}-{}", role.as_str(), app.next_id()),
        "response_type": "embeddings_by_type",
        "embeddings": embeddings,
        "texts": texts,
        "meta": {
            "api_version": { "version": "2" },
            "billed_units": { "input_tokens": embedded.cost.tokens },
            "model": format!("{}/{}", service.pair.name, role.as_str()),
            "fingerprint": about.fingerprint,
        },
    });
    json(&answer, Some(embedded.cost))
}

/// The texts of a request, which are in one of two fields.
fn texts(
    texts: Option<List<String>>,
    inputs: Option<List<Content>>,
    service: &Service,
) -> Result<Vec<String>, Failure> {
    match (texts, inputs) {
        (Some(texts), None) => texts.all("texts", service),
        (None, Some(inputs)) => {
            let joined = |input: Content| {
                let parts = input.content.into_iter().map(|Part::Text { text }| text);
                parts.collect::<Vec<_>>().join("\n")
            };
            Ok(inputs.all("inputs", service)?.into_iter().map(joined).collect())
        }
        (None, None) => Err(Failure::field("texts", "`texts` is missing")),
        (Some(_), Some(_)) => Err(Failure::field("inputs", "`texts` and `inputs` are both set, allowed: one of them")),
    }
}
