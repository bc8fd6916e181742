//! OpenAI's routes: `/v1/embeddings` and `/v1/models`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use care_core::Role;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::app::App;
use super::body::{PathRole, RoleBody, json};
use super::inputs::{Inputs, TruncateField, truncate};
use crate::failure::{Failure, Kind};
use crate::role::role_of_model;
use crate::service::{Input, Service};
use crate::vector::base64;

/// The body of OpenAI's request, but for the words of a role, and `truncate` as NVIDIA NIM has it.
#[derive(Deserialize)]
pub(super) struct EmbeddingsRequest {
    input: Inputs,
    #[serde(default)]
    encoding_format: EncodingFormat,
    dimensions: Option<usize>,
    truncate: Option<TruncateField>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum EncodingFormat {
    #[default]
    Float,
    Base64,
}

#[derive(Serialize)]
struct EmbeddingsAnswer<'a> {
    object: &'a str,
    data: Vec<Row>,
    model: String,
    usage: Usage,
    /// As in OpenAI's chat completions: what computed.
    system_fingerprint: &'a str,
}

#[derive(Serialize)]
struct Row {
    object: &'static str,
    embedding: Encoded,
    index: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Encoded {
    Float(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

pub(super) async fn embeddings(
    State(app): State<Arc<App>>,
    RoleBody(role, request): RoleBody<EmbeddingsRequest>,
) -> Result<Response, Failure> {
    let service = app.service()?;
    service.check_dim("dimensions", request.dimensions)?;
    let texts = request.input.texts("input", service).map_err(of_another_tokenizer)?;
    let embedded = service.embed(role, Input::Texts(texts), truncate(request.truncate, None)).await?;
    let rows = service.with_dim("dimensions", role, embedded.rows, request.dimensions)?;
    let encode = |(index, row): (usize, Vec<f32>)| {
        let embedding = match request.encoding_format {
            EncodingFormat::Float => Encoded::Float(row),
            EncodingFormat::Base64 => Encoded::Base64(base64(&row)),
        };
        Row { object: "embedding", embedding, index }
    };
    let answer = EmbeddingsAnswer {
        object: "list",
        data: rows.into_iter().enumerate().map(encode).collect(),
        model: format!("{}/{}", service.pair.name, role.as_str()),
        usage: Usage { prompt_tokens: embedded.cost.tokens, total_tokens: embedded.cost.tokens },
        system_fingerprint: &service.about(role).fingerprint,
    };
    json(&answer, Some(embedded.cost))
}

/// Clients of this route send ids of OpenAI's vocabularies, which mean other texts here.
fn of_another_tokenizer(failure: Failure) -> Failure {
    if !failure.message.contains("has token ids") {
        return failure;
    }
    let message = "`input` has token ids. Ids of clients of this route are of OpenAI's tokenizers and mean other texts \
                   here; send texts (LangChain: check_embedding_ctx_length=False). Ids of this model's own tokenizer: /embed";
    Failure { message: message.into(), ..failure }
}

fn model_object(app: &App, service: &Service, role: Role) -> Value {
    let about = service.about(role);
    json!({
        "id": format!("{}/{}", service.pair.name, role.as_str()),
        "object": "model",
        "created": app.started,
        "owned_by": "care",
        "role": role.as_str(),
        "fingerprint": about.fingerprint,
        "dimensions": about.dim,
        "max_model_len": about.max_length,
    })
}

pub(super) async fn models(State(app): State<Arc<App>>, PathRole(path): PathRole) -> Result<Response, Failure> {
    let service = app.service()?;
    let roles = [Role::Query, Role::Document].into_iter().filter(|role| path.is_none_or(|path| path == *role));
    let models: Vec<Value> = roles.map(|role| model_object(&app, service, role)).collect();
    json(&json!({ "object": "list", "data": models }), None)
}

pub(super) async fn model(
    State(app): State<Arc<App>>,
    PathRole(path): PathRole,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let service = app.service()?;
    let role = role_of_model(&id, &service.pair.name)?.or(path);
    let name = &service.pair.name;
    let unclear = || Failure::new(Kind::UnknownModel, format!("served are `{name}/query` and `{name}/document`"));
    json(&model_object(&app, service, role.ok_or_else(unclear)?), None)
}
