//! The shape of every route's answers and errors, without a socket.
#![allow(clippy::unwrap_used)]

mod client;
mod fake;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use care_core::{Document, Query, Reranker, Role, Text};
use care_serve::{ServeOptions, Server};
use client::{get, post, send};
use fake::{DIM, FakeTower, MAX_LENGTH, pair, pair_with};
use serde_json::{Value, json};

fn routes(options: ServeOptions) -> Router {
    let server = Server::new(options).unwrap();
    server.loader().ready(pair(), None).unwrap();
    server.router()
}

fn defaults() -> Router {
    routes(ServeOptions::default())
}

fn vector(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The vector of `/embed`.
async fn expected(router: &Router, role: &str, text: &str) -> Vec<f32> {
    let reply = post(router, &format!("/{role}/embed"), &json!({ "inputs": text })).await;
    vector(&reply.json()[0])
}

#[tokio::test]
async fn openai_embeddings() {
    let router = defaults();
    let query = expected(&router, "query", "头痛").await;
    let body = json!({ "model": "fake/query", "input": "头痛", "user": "u", "unknown": 1 });
    let reply = post(&router, "/v1/embeddings", &body).await;
    assert_eq!(reply.status, 200);
    let answer = reply.json();
    assert_eq!(answer["object"], "list");
    assert_eq!(answer["data"][0]["object"], "embedding");
    assert_eq!(answer["data"][0]["index"], 0);
    assert_eq!(vector(&answer["data"][0]["embedding"]), query);
    assert_eq!(answer["model"], "fake/query");
    assert_eq!(answer["usage"], json!({ "prompt_tokens": 4, "total_tokens": 4 }));
    assert_eq!(answer["system_fingerprint"], "query-tower");
    assert_eq!((reply.header("x-model-role"), reply.header("x-model-fingerprint")), ("query", "query-tower"));
    assert_eq!((reply.header("x-compute-characters"), reply.header("x-compute-tokens")), ("2", "4"));

    let body = json!({ "model": "fake", "input": ["头痛", "发热"], "encoding_format": "base64" });
    let reply = post(&router, "/document/v1/embeddings", &body).await.json();
    assert_eq!(reply["data"].as_array().unwrap().len(), 2);
    let encoded = reply["data"][0]["embedding"].as_str().unwrap();
    assert_eq!(encoded.len(), (4 * DIM).div_ceil(3) * 4);
    // The alias of the same route, and the names.
    assert_eq!(post(&router, "/embeddings", &json!({ "model": "fake/query", "input": "头" })).await.status, 200);
    let models = get(&router, "/v1/models").await.json();
    assert_eq!(models["object"], "list");
    assert_eq!((&models["data"][0]["id"], &models["data"][1]["id"]), (&json!("fake/query"), &json!("fake/document")));
    assert_eq!(get(&router, "/query/v1/models").await.json()["data"].as_array().unwrap().len(), 1);
    assert_eq!(get(&router, "/v1/models/fake/document").await.json()["fingerprint"], "document-tower");
    assert_eq!(get(&router, "/v1/models/other").await.json()["error"]["code"], "model_not_found");
    assert_eq!(get(&router, "/v1/models/fake").await.status, 404);
}

#[tokio::test]
async fn roles_in_every_word() {
    let router = defaults();
    for (path, field, word, role) in [
        ("/v1/embeddings", "model", "fake/query", "query"),
        ("/v1/embeddings", "input_type", "passage", "document"),
        ("/v1/embeddings", "task", "retrieval.query", "query"),
        ("/v1/embeddings", "prompt_name", "document", "document"),
        ("/embed", "prompt_name", "query", "query"),
        ("/embed", "model", "fake/document", "document"),
        ("/tokenize", "prompt_name", "query", "query"),
        ("/v2/embed", "input_type", "search_document", "document"),
        ("/v2/embed", "task", "retrieval.query", "query"),
        ("/query/v2/embed", "input_type", "search_query", "query"),
    ] {
        let mut body = json!({ "input": "头", "inputs": "头", "texts": ["头"] });
        if path.ends_with("/v2/embed") {
            body.as_object_mut().unwrap().remove("inputs");
        }
        body[field] = json!(word);
        let reply = post(&router, path, &body).await;
        assert_eq!((reply.status.as_u16(), reply.header("x-model-role")), (200, role), "{path} {field}");
    }
    let silent = post(&router, "/embed", &json!({ "inputs": "头" })).await;
    assert_eq!((silent.status.as_u16(), silent.json()["error_type"].as_str().unwrap()), (422, "Validation"));
    let contradiction = json!({ "input": "头", "model": "fake/query", "input_type": "passage" });
    let reply = post(&router, "/v1/embeddings", &contradiction).await;
    assert_eq!(reply.status, 400);
    assert_eq!(
        reply.json()["error"],
        json!({
            "message": "model says that the texts are of the role query, input_type says document",
            "type": "invalid_request_error", "param": "input_type", "code": null,
        })
    );
    let mut options = ServeOptions::default();
    options.default_role = Some(Role::Document);
    let reply = post(&routes(options), "/v1/embeddings", &json!({ "input": "头" })).await;
    assert_eq!(reply.header("x-model-role"), "document");
}

#[tokio::test]
async fn tei_embed_similarity_rerank_tokenize() {
    let router = defaults();
    let (query, document) = (expected(&router, "query", "头痛").await, expected(&router, "document", "发热头痛").await);
    let body = json!({ "inputs": ["头痛", "发热"], "prompt_name": "query", "truncate": true, "normalize": true });
    let answer = post(&router, "/embed", &body).await.json();
    assert_eq!(vector(&answer[0]), query);
    assert_eq!(answer.as_array().unwrap().len(), 2);
    // The ids of the tower's own tokenizer, and the route at the root.
    let tokens = post(&router, "/query/tokenize", &json!({ "inputs": "头痛" })).await.json();
    assert_eq!(tokens[0][0], json!({ "id": 1, "text": "[CLS]", "special": true }));
    assert_eq!(tokens[0][1]["text"], "头");
    let ids: Vec<u64> = tokens[0].as_array().unwrap().iter().map(|token| token["id"].as_u64().unwrap()).collect();
    let of_ids = post(&router, "/", &json!({ "inputs": [ids], "prompt_name": "query" })).await.json();
    assert_eq!(vector(&of_ids[0]), query);
    let bare = post(&router, "/query/tokenize", &json!({ "inputs": ["头痛"], "add_special_tokens": false })).await;
    assert_eq!(bare.json()[0].as_array().unwrap().len(), 2);

    let dot: f32 = query.iter().zip(&document).map(|(a, b)| a * b).sum();
    let body = json!({ "inputs": { "source_sentence": "头痛", "sentences": ["发热头痛", "咳嗽"] } });
    let scores = vector(&post(&router, "/similarity", &body).await.json());
    assert_eq!((scores.len(), scores[0]), (2, dot));

    let body = json!({ "query": "头痛", "texts": ["咳嗽", "发热头痛"], "return_text": true });
    let reply = post(&router, "/rerank", &body).await;
    let best = reply.json()[0].clone();
    assert_eq!(
        (&best["index"], &best["text"], vector(&json!([best["score"]]))[0]),
        (&json!(1), &json!("发热头痛"), dot)
    );
    assert_eq!(reply.header("x-model-role"), "query, document");
    assert_eq!(reply.header("x-model-fingerprint"), "query-tower, document-tower");
    assert!(reply.json()[1]["score"].as_f64().unwrap() < f64::from(dot));
    let body = json!({ "query": "头痛", "texts": ["咳嗽"], "raw_scores": true });
    assert_eq!(post(&router, "/rerank", &body).await.json()[0].as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn a_reranker_takes_the_place_of_similarity() {
    /// The length of the document.
    struct Longest;
    impl Reranker for Longest {
        fn fingerprint(&self) -> care_core::Result<Option<String>> {
            Ok(Some("longest".to_owned()))
        }

        fn score(&self, pairs: &[(&Query, &Document)]) -> care_core::Result<Vec<f32>> {
            Ok(pairs.iter().map(|(_, document)| document.content().chars().count() as f32).collect())
        }
    }
    let server = Server::new(ServeOptions::default()).unwrap();
    let mut pair = pair();
    pair.reranker = Some(Arc::new(Longest));
    server.loader().ready(pair, None).unwrap();
    let router = server.router();
    let body = json!({ "query": "头痛", "texts": ["头痛", "头痛头痛头痛"] });
    let reply = post(&router, "/rerank", &body).await;
    assert_eq!(reply.json()[0], json!({ "index": 1, "score": 6.0 }));
    assert_eq!((reply.header("x-model-role"), reply.header("x-model-fingerprint")), ("reranker", "longest"));
    for (field, value) in [("raw_scores", json!(true)), ("truncate", json!(false))] {
        let mut body = body.clone();
        body[field] = value;
        assert_eq!(post(&router, "/rerank", &body).await.status, 422, "{field}");
    }
}

#[tokio::test]
async fn cohere_embed() {
    let mut options = ServeOptions::default();
    options.dimensions = vec![32];
    let router = routes(options);
    let kinds = ["float", "int8", "uint8", "binary", "ubinary", "base64"];
    let body =
        json!({ "model": "fake", "input_type": "search_query", "texts": ["头痛", "热"], "embedding_types": kinds });
    let answer = post(&router, "/v2/embed", &body).await.json();
    assert_eq!(answer["response_type"], "embeddings_by_type");
    assert_eq!(answer["texts"], json!(["头痛", "热"]));
    assert_eq!(answer["meta"]["api_version"]["version"], "2");
    assert_eq!(answer["meta"]["fingerprint"], "query-tower");
    for kind in kinds {
        assert_eq!(answer["embeddings"][kind].as_array().unwrap().len(), 2, "{kind}");
    }
    assert_eq!(answer["embeddings"]["ubinary"][0].as_array().unwrap().len(), DIM / 8);
    let body = json!({
        "input_type": "search_query", "inputs": [{ "content": [{ "type": "text", "text": "头痛" }] }], "output_dimension": 32,
    });
    let answer = post(&router, "/v2/embed", &body).await.json();
    let short = vector(&answer["embeddings"]["float"][0]);
    assert_eq!(short.len(), 32);
    assert!((short.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-5);
    for (field, value, problem) in [
        ("embedding_types", json!(["int4"]), "`embedding_types[0]`: unknown variant `int4`"),
        ("output_dimension", json!(33), "`output_dimension` is 33, offered: 32, 64"),
        ("images", json!(["data:"]), "`images` is not supported"),
        ("inputs", json!([]), "`texts` and `inputs` are both set"),
        ("input_type", json!("clustering"), "`input_type` is \"clustering\", allowed: for the query tower query,"),
        ("truncate", json!("MIDDLE"), "`truncate`: allowed: true, false, \"NONE\", \"START\" or \"END\""),
    ] {
        let mut body = json!({ "input_type": "search_query", "texts": ["头"] });
        body[field] = value;
        let reply = post(&router, "/v2/embed", &body).await;
        assert_eq!(reply.status, 400, "{field}");
        let answer = reply.json();
        assert!(answer["message"].as_str().unwrap().starts_with(problem), "{answer}");
    }
}

#[tokio::test]
async fn vectors_that_differ_in_length() {
    let server = Server::new(ServeOptions::default()).unwrap();
    let tower = |name| FakeTower::new(name, false, |_| {});
    server.loader().ready(pair_with(tower("q"), tower("d")), None).unwrap();
    let router = server.router();
    let length = |reply: client::Reply| vector(&reply.json()[0]).iter().map(|value| value * value).sum::<f32>();
    assert!(length(post(&router, "/query/embed", &json!({ "inputs": "头痛" })).await) > 1.5);
    let unit = post(&router, "/query/embed", &json!({ "inputs": "头痛", "normalize": true })).await;
    assert!((length(unit) - 1.0).abs() < 1e-5);
    let body = json!({ "texts": ["头"], "input_type": "query", "embedding_types": ["int8"] });
    assert_eq!(post(&router, "/v2/embed", &body).await.status, 400);
    let reply = post(&defaults(), "/query/embed", &json!({ "inputs": "头痛", "normalize": false })).await;
    assert_eq!(reply.status, 422);
}

#[tokio::test]
async fn long_texts_are_cut_where_the_request_says_or_refused() {
    let router = defaults();
    let kept = MAX_LENGTH - fake::ENDS.len();
    let long = ["头".repeat(kept), "痛".repeat(10)].concat();
    let first = expected(&router, "query", &"头".repeat(kept)).await;
    assert_eq!(expected(&router, "query", &long).await, first);
    let last = expected(&router, "query", &long.chars().skip(10).collect::<String>()).await;
    for (path, texts, field, value) in [
        ("/query/embed", "inputs", "truncation_direction", json!("Left")),
        ("/query/v1/embeddings", "input", "truncate", json!("START")),
    ] {
        let mut body = json!({});
        body[texts] = json!(long);
        body[field] = value;
        let answer = post(&router, path, &body).await.json();
        let row = if texts == "input" { &answer["data"][0]["embedding"] } else { &answer[0] };
        assert_eq!(vector(row), last, "{path}");
    }
    for (path, body, problem) in [
        ("/query/embed", json!({ "inputs": ["头", long], "truncate": false }), "/error"),
        ("/query/v2/embed", json!({ "texts": ["头", long], "truncate": "NONE" }), "/message"),
        ("/query/v1/embeddings", json!({ "input": ["头", long], "truncate": "NONE" }), "/error/message"),
    ] {
        let reply = post(&router, path, &body).await;
        assert_eq!(reply.status, 413, "{path}");
        let message = "text 1 has more than 128 tokens, and is not to be truncated";
        assert_eq!(reply.json().pointer(problem).unwrap(), message);
    }
}

#[tokio::test]
async fn bad_input_is_refused_in_the_shape_of_its_api() {
    let router = defaults();
    let ids: Vec<u32> = vec![3; MAX_LENGTH + 1];
    let many: Vec<String> = (0..10_000).map(|at| at.to_string()).collect();
    for (path, body, status, message) in [
        ("/v1/embeddings", json!({ "model": "fake/query" }), 400, "the body: missing field `input`"),
        (
            "/v1/embeddings",
            json!({ "model": "fake/query", "input": null }),
            400,
            "`input`: invalid type: null, expected a string, or",
        ),
        (
            "/v1/embeddings",
            json!({ "model": "fake/query", "input": {} }),
            400,
            "`input`: invalid type: map, expected a string, or a list",
        ),
        (
            "/v1/embeddings",
            json!({ "model": "fake/query", "input": ["a", 3] }),
            400,
            "`input[1]`: invalid type: integer `3`, expected a string",
        ),
        ("/v1/embeddings", json!({ "model": "fake/query", "input": [] }), 400, "`input` is empty"),
        ("/v1/embeddings", json!({ "model": "fake/query", "input": "" }), 400, "`input[0]` is empty"),
        ("/v1/embeddings", json!({ "model": "fake/query", "input": [[1, 2]] }), 400, "`input` has token ids. Ids of"),
        (
            "/v1/embeddings",
            json!({ "model": "fake/query", "input": many }),
            413,
            "`input` has 10000 texts, allowed: 2048",
        ),
        ("/v1/embeddings", json!({ "model": "x/query", "input": "a" }), 404, "the model `x/query` is not served;"),
        ("/v1/embeddings", json!({ "model": 3, "input": "a" }), 400, "`model`: invalid type: integer `3`"),
        ("/v1/embeddings", json!({ "model": "fake/query", "input": "a", "dimensions": 7 }), 400, "`dimensions` is 7,"),
        ("/v1/embeddings", json!({ "model": "fake/query", "input": "a", "dimensions": -1 }), 400, "`dimensions`: inv"),
        (
            "/v1/embeddings",
            json!({ "input": "a", "encoding_format": "hex" }),
            400,
            "`encoding_format`: unknown variant",
        ),
        ("/v1/nothing", json!({}), 404, "there is no /v1/nothing; see /docs"),
        ("/v1/models", json!({}), 405, "/v1/models takes another method; see /docs"),
        ("/query/embed", json!({ "inputs": [] }), 400, "`inputs` is empty"),
        ("/query/embed", json!({ "inputs": [[30_000]] }), 422, "text 0 has the token id 30000, allowed: below 30000"),
        ("/query/embed", json!({ "inputs": ids }), 413, "text 0 has 129 token ids, allowed: 128"),
        ("/query/embed", json!({ "inputs": [[]] }), 400, "`inputs[0]` is empty"),
        ("/query/tokenize", json!({ "inputs": [1, 2] }), 422, "`inputs` has token ids, allowed: texts"),
        ("/query/embed", json!({ "inputs": "a", "dimensions": 0 }), 422, "`dimensions` is 0, offered: 64"),
        ("/rerank", json!({ "query": "", "texts": ["a"] }), 400, "`query[0]` is empty"),
        ("/rerank", json!({ "query": "a", "texts": [] }), 400, "`texts` is empty"),
        ("/similarity", json!({ "inputs": { "source_sentence": "a" } }), 422, "`inputs`: missing field `sentences`"),
        ("/v2/embed", json!({ "input_type": "query" }), 400, "`texts` is missing"),
        ("/v2/embed", json!({ "input_type": "query", "texts": [] }), 400, "`texts` is empty"),
        (
            "/v2/embed",
            json!({ "input_type": "query", "texts": ["a"], "embedding_types": [] }),
            400,
            "`embedding_types` is empty",
        ),
        ("/v2/embed", json!({ "input_type": "query", "texts": ["a"], "images": [] }), 400, "`images` is not supported"),
        ("/v2/embed", json!({ "input_type": "query", "texts": many }), 413, "`texts` has 10000 texts, allowed: 2048"),
        ("/rerank", json!({ "query": "a", "texts": many }), 413, "`texts` has 10000 texts, allowed: 2048"),
        (
            "/similarity",
            json!({ "inputs": { "source_sentence": "a", "sentences": many } }),
            413,
            "`inputs.sentences` has 10000 texts, allowed: 2048",
        ),
        ("/query/tokenize", json!({ "inputs": many }), 413, "`inputs` has 10000 texts, allowed: 2048"),
        ("/search", json!({ "query": "a" }), 404, "the server has no index; start it with one"),
        ("/documents", json!({ "documents": [] }), 404, "the server has no index; start it with one"),
    ] {
        let reply = post(&router, path, &body).await;
        let answer = reply.json();
        let told = answer.pointer("/error/message").or(answer.get("message")).or(answer.get("error")).unwrap();
        assert!(told.as_str().unwrap().starts_with(message), "{path} {told}");
        assert_eq!(reply.status.as_u16(), status, "{path} {told}");
        let is_openai = path.starts_with("/v1");
        assert_eq!(answer["error"].is_object(), is_openai, "{path}");
        assert_eq!(answer["error_type"].is_string(), !is_openai && !path.starts_with("/v2"), "{path}");
        assert!(!reply.header("x-request-id").is_empty());
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_or_too_long() {
    let mut options = ServeOptions::default();
    options.max_body = 100;
    let router = routes(options);
    let post = |body: Vec<u8>| Request::post("/query/embed").body(Body::from(body)).unwrap();
    for (body, status, message) in [
        (b"{\"inputs\": \"\xff\"}".to_vec(), 422, "the body is not UTF-8 from byte 12 on"),
        (b"{\"inputs\": ".to_vec(), 422, "`inputs`: EOF while parsing a value"),
        (b"{\"inputs\": \"a\"} {".to_vec(), 422, "the body: trailing characters"),
        (b"".to_vec(), 422, "the body: EOF while parsing a value"),
        (b"[]".to_vec(), 422, "the body: invalid length 0"),
        (vec![b' '; 101], 413, "the body has more than 100 bytes"),
    ] {
        let reply = send(&router, post(body)).await;
        let answer = reply.json();
        assert!(answer["error"].as_str().unwrap().starts_with(message), "{answer}");
        assert_eq!(reply.status.as_u16(), status, "{answer}");
    }
    let path = Request::get("/v1/models/%ff").body(Body::empty()).unwrap();
    assert_eq!(send(&router, path).await.json()["error"]["type"], "invalid_request_error");
}

#[tokio::test]
async fn keys_are_asked_for_where_something_is_told() {
    let mut options = ServeOptions::default();
    options.api_keys = vec!["first-key".into(), "second-key".into()];
    let router = routes(options);
    let ask = |path: &str, header: Option<&str>| {
        let request = Request::post(path).body(Body::from("{\"inputs\":\"a\",\"input\":\"a\"}")).unwrap();
        let (mut head, body) = request.into_parts();
        if let Some(header) = header {
            head.headers.insert("authorization", header.parse().unwrap());
        }
        Request::from_parts(head, body)
    };
    for header in [None, Some("Bearer wrong-key"), Some("first-key"), Some("Basic first-key"), Some("Bearer ")] {
        let reply = send(&router, ask("/query/v1/embeddings", header)).await;
        assert_eq!(reply.status, 401, "{header:?}");
        assert_eq!(reply.json()["error"]["code"], "invalid_api_key");
        assert_eq!(reply.header("www-authenticate"), "Bearer");
        assert!(!reply.text().contains("first-key"));
    }
    for header in ["Bearer first-key", "bearer second-key"] {
        assert_eq!(send(&router, ask("/query/embed", Some(header))).await.status, 200);
    }
    for (path, status) in [
        ("/health", 200),
        ("/", 200),
        ("/docs", 200),
        ("/openapi.json", 200),
        ("/info", 401),
        ("/metrics", 401),
        ("/documents", 401),
    ] {
        assert_eq!(get(&router, path).await.status.as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn a_server_is_ready_once_its_pair_is_loaded() {
    let server = Server::new(ServeOptions::default()).unwrap();
    let router = server.router();
    for reply in [get(&router, "/health").await, post(&router, "/query/embed", &json!({ "inputs": "a" })).await] {
        assert_eq!(reply.status, 503);
        assert_eq!(reply.json(), json!({ "error": "the model is being loaded", "error_type": "Unhealthy" }));
        assert_eq!(reply.header("retry-after"), "5");
    }
    server.loader().ready(pair(), None).unwrap();
    assert_eq!(get(&router, "/health").await.json(), json!({ "status": "ok" }));
    assert_eq!(get(&router, "/ping").await.status, 200);
}

#[tokio::test]
async fn info_metrics_and_request_ids() {
    let router = defaults();
    let info = get(&router, "/info").await.json();
    for field in [
        "model_id",
        "model_sha",
        "model_dtype",
        "served_model_name",
        "model_type",
        "max_concurrent_requests",
        "max_input_length",
        "max_batch_tokens",
        "max_batch_requests",
        "max_client_batch_size",
        "auto_truncate",
        "tokenization_workers",
        "version",
        "sha",
    ] {
        assert!(info.get(field).is_some(), "{field}");
    }
    assert_eq!(info["towers"]["query"]["fingerprint"], "query-tower");
    assert_eq!(info["max_batch_tokens"], 1024);
    let of_towers = ["query", "document"].map(|role| info["towers"][role]["max_batch_tokens"].clone());
    assert_eq!(of_towers, [4096, 1024]);
    post(&router, "/query/embed", &json!({ "inputs": "头痛" })).await;
    post(&router, "/query/embed", &json!({ "inputs": ["头痛", "热"] })).await;
    post(&router, "/embed", &json!({ "inputs": "头痛" })).await;
    let reply = get(&router, "/metrics").await;
    assert!(reply.header("content-type").starts_with("text/plain; version=0.0.4"));
    let text = reply.text();
    for line in [
        "te_request_count{method=\"single\"} 1",
        "te_request_count{method=\"batch\"} 1",
        "te_request_success{method=\"batch\"} 1",
        "te_request_failure{err=\"validation\"} 1",
        "te_embed_count 3",
        "te_request_duration_count 2",
        "te_request_tokenization_duration_count 2",
        "te_request_queue_duration_count 2",
        "te_request_inference_duration_count 2",
        "te_request_input_length_sum 11",
        "te_batch_next_size_count{role=\"query\"} 2",
        "te_batch_next_tokens_sum{role=\"query\"} 11",
        "te_queue_size{role=\"query\"} 0",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
    }
    let with_id = |id: &str| Request::get("/health").header("x-request-id", id).body(Body::empty()).unwrap();
    assert_eq!(send(&router, with_id("a-1")).await.header("x-request-id"), "a-1");
    assert_ne!(send(&router, with_id("a b")).await.header("x-request-id"), "a b");
    assert_ne!(send(&router, with_id(&"a".repeat(200))).await.header("x-request-id").len(), 200);
}

#[tokio::test]
async fn pages_load_nothing_from_elsewhere_and_openapi_lists_every_route() {
    let router = defaults();
    for path in ["/", "/docs"] {
        let page = get(&router, path).await;
        assert!(page.header("content-type").starts_with("text/html"));
        assert!(page.header("content-security-policy").contains("default-src 'none'"));
        assert!(!page.text().contains("http://") && !page.text().contains("https://"), "{path}");
    }
    let openapi = get(&router, "/openapi.json").await.json();
    assert!(openapi["openapi"].as_str().unwrap().starts_with("3."));
    for (path, methods) in openapi["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "fake/query");
        for method in methods.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let method = method.to_uppercase();
            let request = Request::builder().method(method.as_str()).uri(&path).body(Body::empty()).unwrap();
            let reply = send(&router, request).await;
            assert_ne!(reply.status, 405, "{method} {path}");
            assert!(!reply.text().contains("there is no "), "{method} {path}");
        }
    }
    for path in [
        "/v1/embeddings",
        "/v1/models",
        "/embed",
        "/rerank",
        "/similarity",
        "/tokenize",
        "/v2/embed",
        "/search",
        "/documents",
        "/info",
        "/health",
        "/metrics",
    ] {
        assert!(openapi["paths"].get(path).is_some(), "{path}");
    }
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let refused = |change: fn(&mut ServeOptions)| {
        let mut options = ServeOptions::default();
        change(&mut options);
        let server = match Server::new(options) {
            Ok(server) => server,
            Err(error) => return error.to_string(),
        };
        server.loader().ready(pair(), None).unwrap_err().to_string()
    };
    assert_eq!(refused(|options| options.max_body = 0), "`max_body` is 0, allowed: at least 1");
    assert_eq!(refused(|options| options.deadline = std::time::Duration::ZERO), "`deadline` is 0 s, allowed: above 0");
    let key = refused(|options| options.api_keys = vec!["good".into(), "two words".into()]);
    assert_eq!(key, "`api_keys` is unusable at 1, allowed: visible ASCII without blanks");
    assert_eq!(refused(|options| options.dimensions = vec![65]), "`dimensions` is 65, allowed: 1 to 64");
}
