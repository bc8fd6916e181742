//! `/health`, `/info` and `/metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use care_core::Role;
use serde_json::{Value, json};

use super::app::App;
use super::body::json;
use crate::failure::Failure;
use crate::service::{Service, TOKENIZERS};

/// 200 once the weights are loaded and while requests are accepted, else 503.
pub(super) async fn health(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    app.service()?;
    json(&json!({ "status": "ok" }), None)
}

/// # Reference
/// `/info` of text-embeddings-inference; what it states of one model is here that of the document tower, and `towers` has
/// both.
pub(super) async fn info(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let service = app.service()?;
    let (about, options) = (service.about(Role::Document), &service.options);
    let answer = json!({
        "model_id": service.pair.name,
        "model_sha": about.fingerprint,
        "model_dtype": about.dtype,
        "served_model_name": service.pair.name,
        "model_type": { "embedding": { "pooling": about.pooling } },
        "max_concurrent_requests": options.max_concurrent_requests,
        "max_input_length": about.max_length,
        "max_batch_tokens": options.document_batch_tokens,
        "max_batch_requests": null,
        "max_client_batch_size": options.max_client_batch,
        "auto_truncate": true,
        "tokenization_workers": TOKENIZERS,
        "version": env!("CARGO_PKG_VERSION"),
        "sha": null,
        "docker_label": null,
        "towers": { "query": tower(service, Role::Query), "document": tower(service, Role::Document) },
        "dimensions": options.dimensions,
        "default_role": options.default_role,
        "has_reranker": service.pair.reranker.is_some(),
        "has_index": service.collection.is_some(),
    });
    json(&answer, None)
}

fn tower(service: &Service, role: Role) -> Value {
    let about = service.about(role);
    let max_batch_tokens = match role {
        Role::Query => service.options.max_batch_tokens,
        Role::Document => service.options.document_batch_tokens,
    };
    json!({
        "model": format!("{}/{}", service.pair.name, role.as_str()),
        "fingerprint": about.fingerprint,
        "architecture": about.architecture,
        "pooling": about.pooling,
        "dtype": about.dtype,
        "device": about.device,
        "dimensions": about.dim,
        "unit_length": about.unit_length,
        "max_input_length": about.max_length,
        "max_batch_tokens": max_batch_tokens,
        "instruction": about.instruction,
    })
}

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    // As it is now, whoever changed it: a change is made although its request was given up.
    if let Some(collection) = app.service().ok().and_then(|service| service.collection.as_ref()) {
        app.metrics.set("care_documents", "", collection.index().len() as f64);
    }
    let version = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, version)], app.metrics.render()).into_response()
}
