//! What every request passes through: id, key, room, deadline, headers, metrics and the shape of errors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use care_core::Role;
use tracing::Instrument;

use super::app::App;
use super::auth;
use crate::blocking::PLACE;
use crate::failure::{Failure, Kind, Shape};
use crate::service::Cost;

/// Carries the id of a request, which the client may choose.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken from a client.
const LONGEST_ID: usize = 128;
/// Routes that need no key: they tell nothing of the model.
const OPEN: [&str; 5] = ["/", "/docs", "/openapi.json", "/health", "/ping"];
/// Routes that are answered whatever the load.
const LIGHT: [&str; 4] = ["/health", "/ping", "/metrics", "/info"];

pub(super) async fn gate(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let id = request_id(&app, &request);
    let span = tracing::info_span!("request", id = %id.to_str().unwrap_or_default(), %method, %path);
    let response = admit(&app, request, next).instrument(span.clone()).await;
    let _entered = span.enter();
    let mut response = finish(&app, response, &path, begun);
    tracing::info!(status = response.status().as_u16(), seconds = begun.elapsed().as_secs_f64(), "answered");
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The client's id if it is one, else a new one.
fn request_id(app: &App, request: &Request) -> HeaderValue {
    let is_id = |id: &&HeaderValue| {
        (1..=LONGEST_ID).contains(&id.len()) && id.as_bytes().iter().all(|byte| byte.is_ascii_graphic())
    };
    request
        .headers()
        .get(REQUEST_ID)
        .filter(is_id)
        .cloned()
        .unwrap_or_else(|| HeaderValue::from_str(&app.next_id()).unwrap_or(HeaderValue::from_static("0")))
}

/// Answers a request with a valid key, if there is room, in time.
async fn admit(app: &App, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_open = OPEN.contains(&path) && matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_open && let Err(failure) = auth::check(request.headers(), &app.options.api_keys) {
        return failure.into_response();
    }
    let place = match LIGHT.contains(&path) || is_open {
        true => None,
        false => match app.free.clone().try_acquire_owned() {
            Ok(place) => Some(Arc::new(place)),
            Err(_) => {
                let message = format!("{} requests are being answered already", app.options.max_concurrent_requests);
                return Failure::new(Kind::Overloaded, message).retry_after(Duration::from_secs(1)).into_response();
            }
        },
    };
    let deadline = app.options.deadline;
    tokio::time::timeout(deadline, PLACE.scope(place, next.run(request))).await.unwrap_or_else(|_| {
        let message = format!("not answered within {} s; send fewer texts at once", deadline.as_secs_f64());
        Failure::new(Kind::Unavailable, message).retry_after(Duration::from_secs(1)).into_response()
    })
}

/// Gives a failure its body, an answer its headers, and both their metrics.
fn finish(app: &App, mut response: Response, path: &str, begun: Instant) -> Response {
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        let label = format!("err=\"{}\"", failure.kind.name().to_lowercase());
        // Refused before it is known whether it has one text.
        app.metrics.count("te_request_count", "method=\"refused\"");
        app.metrics.count("te_request_failure", &label);
        return refuse(&failure, Shape::of(path));
    }
    if response.status().is_client_error() {
        // Of the router itself, e.g. a path that is not UTF-8.
        let problem = response.status().canonical_reason().unwrap_or("refused").to_lowercase();
        return refuse(&Failure::new(Kind::Invalid, problem), Shape::of(path));
    }
    if let Some(cost) = response.extensions_mut().remove::<Cost>() {
        record(app, &cost, begun.elapsed());
        headers(app, &cost, begun.elapsed(), &mut response);
    }
    response
}

fn refuse(failure: &Failure, shape: Shape) -> Response {
    if failure.kind == Kind::Backend {
        tracing::error!(problem = failure.message, "failed");
    } else {
        tracing::debug!(problem = failure.message, "refused");
    }
    let body = shape.body(failure).to_string();
    let json = [(CONTENT_TYPE, "application/json")];
    let mut response = (shape.status(failure.kind), json, body).into_response();
    if let Some(seconds) = failure.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if failure.kind == Kind::Unauthorized {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// # Reference
/// The metrics of text-embeddings-inference.
fn record(app: &App, cost: &Cost, total: Duration) {
    let metrics = &app.metrics;
    let method = if cost.texts == 1 { "method=\"single\"" } else { "method=\"batch\"" };
    metrics.count("te_request_count", method);
    metrics.count("te_request_success", method);
    metrics.add("te_embed_count", "", cost.texts);
    metrics.add("te_embed_success", "", cost.texts);
    for (request, embed, time) in [
        ("te_request_duration", "te_embed_duration", total),
        ("te_request_tokenization_duration", "te_embed_tokenization_duration", cost.tokenization),
        ("te_request_queue_duration", "te_embed_queue_duration", cost.queue),
        ("te_request_inference_duration", "te_embed_inference_duration", cost.inference),
    ] {
        metrics.time(request, "", time);
        metrics.time(embed, "", time);
    }
    metrics.size("te_request_input_length", "", cost.tokens);
}

/// # Reference
/// The headers of text-embeddings-inference, in milliseconds; `x-model-role` and `x-model-fingerprint` are this server's.
fn headers(app: &App, cost: &Cost, total: Duration, response: &mut Response) {
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    };
    let milliseconds = |time: Duration| time.as_millis().to_string();
    if !cost.models.is_empty() {
        let (roles, fingerprints): (Vec<&str>, Vec<&str>) =
            cost.models.iter().map(|(role, fingerprint)| (*role, fingerprint.as_str())).unzip();
        set("x-model-role", &roles.join(", "));
        set("x-model-fingerprint", &fingerprints.join(", "));
    }
    if let Ok(service) = app.service() {
        set("x-compute-type", &service.about(Role::Document).device);
    }
    set("x-compute-time", &milliseconds(cost.tokenization + cost.queue + cost.inference));
    set("x-compute-characters", &cost.characters.to_string());
    set("x-compute-tokens", &cost.tokens.to_string());
    set("x-total-time", &milliseconds(total));
    set("x-tokenization-time", &milliseconds(cost.tokenization));
    set("x-queue-time", &milliseconds(cost.queue));
    set("x-inference-time", &milliseconds(cost.inference));
}
