//! What a handler takes from a request, and what it gives back.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use care_core::Role;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::app::App;
use super::list::keeping;
use crate::failure::{Failure, Kind};
use crate::role::RoleWords;
use crate::service::Cost;

/// The role that the prefix of the path states.
#[derive(Debug, Clone, Copy)]
pub(super) struct PathRole(pub(super) Option<Role>);

impl<S: Sync> FromRequestParts<S> for PathRole {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        Ok(parts.extensions.get::<Self>().copied().unwrap_or(Self(None)))
    }
}

/// A body of JSON, within the limits of length and time.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        Ok(Self(parse(&read(request, app).await?, app)?))
    }
}

/// A [`JsonBody`] of texts, and their role.
pub(super) struct RoleBody<T>(pub(super) Role, pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for RoleBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        let path = request.extensions().get::<PathRole>().and_then(|role| role.0);
        let text = read(request, app).await?;
        let (body, words) = (parse(&text, app)?, parse::<RoleWords>(&text, app)?);
        let service = app.service()?;
        let role = RoleWords { path, ..words }.role(&service.pair.name, service.options.default_role)?;
        Ok(Self(role, body))
    }
}

async fn read(request: Request, app: &App) -> Result<String, Failure> {
    let limit = app.options.max_body;
    let too_large = || Failure::new(Kind::TooLarge, format!("the body has more than {limit} bytes"));
    let length = request.headers().get(axum::http::header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let read = tokio::time::timeout(app.options.read_timeout, to_bytes(request.into_body(), limit)).await;
    let read = read.map_err(|_| {
        let time = app.options.read_timeout.as_secs_f64();
        Failure::new(Kind::Slow, format!("the body was not received within {time} s"))
    })?;
    let bytes = read.map_err(|e| match is_length_limit(&e) {
        true => too_large(),
        false => Failure::new(Kind::Invalid, format!("the body cannot be read: {e}")),
    })?;
    String::from_utf8(bytes.into()).map_err(|e| {
        let from = e.utf8_error().valid_up_to();
        Failure::new(Kind::Invalid, format!("the body is not UTF-8 from byte {from} on"))
    })
}

fn parse<T: DeserializeOwned>(text: &str, app: &App) -> Result<T, Failure> {
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = keeping(app.options.max_client_batch, || serde_path_to_error::deserialize(&mut json));
    let parsed = parsed.map_err(|e| {
        let (path, problem) = (e.path().to_string(), e.into_inner());
        match path.as_str() {
            "." => Failure::new(Kind::Invalid, format!("the body: {problem}")),
            field => Failure::field(field, format!("`{field}`: {problem}")),
        }
    })?;
    json.end().map_err(|e| Failure::new(Kind::Invalid, format!("the body: {e}")))?;
    Ok(parsed)
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("length limit exceeded") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An answer as JSON. Its cost is stated in headers and metrics.
pub(super) fn json<T: Serialize>(value: &T, cost: Option<Cost>) -> Result<Response, Failure> {
    let body = serde_json::to_vec(value).map_err(|e| Failure::new(Kind::Backend, e))?;
    let mut response = ([(CONTENT_TYPE, "application/json")], Body::from(body)).into_response();
    if let Some(cost) = cost {
        response.extensions_mut().insert(cost);
    }
    Ok(response)
}

impl IntoResponse for Failure {
    /// An empty response that bears the failure: the gate knows in whose shape it is told.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(self);
        response
    }
}
