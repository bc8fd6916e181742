//! The routes, and what every request passes through.

mod app;
mod auth;
mod body;
mod cohere;
mod documents;
mod gate;
mod inputs;
mod list;
mod openai;
mod pages;
mod search;
mod status;
mod tei;

use std::sync::Arc;

use axum::http::Uri;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum::{Extension, Router};
use care_core::Role;

pub(crate) use app::App;

use crate::failure::{Failure, Kind};
use body::PathRole;

/// All routes.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let of = |role| embedding().layer(Extension(PathRole(Some(role))));
    embedding()
        .nest("/query", of(Role::Query))
        .nest("/document", of(Role::Document))
        .route("/rerank", post(tei::rerank))
        .route("/search", post(search::search))
        .route("/documents", get(documents::info).post(documents::add).delete(documents::remove))
        .route("/documents/{*id}", get(documents::get).delete(documents::remove_one))
        .route("/info", get(status::info))
        .route("/health", get(status::health))
        .route("/ping", get(status::health))
        .route("/metrics", get(status::metrics))
        .route("/", get(pages::search).post(tei::embed))
        .route("/docs", get(pages::docs))
        .route("/openapi.json", get(pages::openapi))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(app.clone(), gate::gate))
        .with_state(app.clone())
}

/// Routes whose texts have one role, at the root and under the prefix of each role.
fn embedding() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/embeddings", post(openai::embeddings))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*id}", get(openai::model))
        .route("/embed", post(tei::embed))
        .route("/similarity", post(tei::similarity))
        .route("/tokenize", post(tei::tokenize))
        .route("/v2/embed", post(cohere::embed))
}

async fn not_found(uri: Uri) -> Failure {
    Failure::new(Kind::NotFound, format!("there is no {}; see /docs", uri.path()))
}

async fn method_not_allowed(uri: Uri) -> Failure {
    Failure::new(Kind::Method, format!("{} takes another method; see /docs", uri.path()))
}
