//! `/documents`: what is in the index, and changes to it.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use care_core::index::Record;
use care_core::{Embeddings, Role};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::app::App;
use super::body::{JsonBody, json};
use super::list::List;
use crate::blocking::blocking;
use crate::collection::Collection;
use crate::failure::{Failure, Kind};
use crate::service::Service;
use crate::words::{TITLE, document_of};

/// The index of a server.
///
/// # Errors
/// If it was started without one.
pub(super) fn collection(service: &Service) -> Result<&Collection, Failure> {
    let without = || Failure::new(Kind::NotFound, "the server has no index; start it with one");
    service.collection.as_ref().ok_or_else(without)
}

/// Runs a change or a read of the index on a thread that may block.
async fn run<T: Send + 'static>(
    service: Arc<Service>,
    run: impl FnOnce(&Collection) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    blocking(move || run(collection(&service)?)).await
}

pub(super) async fn info(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let service = app.service()?.clone();
    let fingerprint = service.about(Role::Document).fingerprint.clone();
    let answer = run(service, move |collection| {
        let (index, has_texts) = (collection.index(), collection.has_texts());
        let fields = index.fields()?;
        let fields =
            fields.iter().map(|field| json!({ "name": field.name, "terms": field.terms, "numbers": field.numbers }));
        Ok(json!({
            "documents": index.len(),
            "removed": index.removed(),
            "bytes": index.bytes(),
            "dimensions": index.dim(),
            "has_texts": has_texts,
            "fields": fields.collect::<Vec<_>>(),
            "document_fingerprint": fingerprint,
        }))
    });
    json(&answer.await?, None)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddRequest {
    documents: List<NewDocument>,
}

/// A document that is added. A number is an id too.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDocument {
    #[serde(alias = "_id")]
    id: Id,
    text: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    metadata: Map<String, Value>,
}

#[derive(Deserialize, Clone)]
#[serde(untagged, expecting = "allowed: a string or a whole number")]
enum Id {
    String(String),
    Number(i64),
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        match id {
            Id::String(id) => id,
            Id::Number(id) => id.to_string(),
        }
    }
}

impl NewDocument {
    fn record(self) -> Result<Record, Failure> {
        let mut record = Record::new(self.id).with_text(self.text);
        record.metadata = self.metadata;
        if !self.title.is_empty() {
            if record.metadata.contains_key(TITLE) {
                let message = format!("the document {:?} has a title and a field `title` of its metadata", record.id);
                return Err(Failure::field("documents", message));
            }
            record.metadata.insert(TITLE.to_owned(), self.title.into());
        }
        match (record.id.is_empty(), document_of(&record)) {
            (true, _) => Err(Failure::field("documents", "the id of a document is empty")),
            (_, document) if document.title().is_empty() && document.text().trim().is_empty() => {
                Err(Failure::field("documents", format!("the text of the document {:?} is empty", record.id)))
            }
            _ => {
                record.check()?;
                Ok(record)
            }
        }
    }
}

/// Embeds documents and adds them, in place of those with the same ids. They are synced to disk when the answer is sent.
pub(super) async fn add(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<AddRequest>,
) -> Result<Response, Failure> {
    let service = app.service()?.clone();
    collection(&service)?;
    let documents = request.documents.all("documents", &service)?;
    let records = documents.into_iter().map(NewDocument::record).collect::<Result<Vec<_>, _>>()?;
    let mut ids = HashSet::new();
    if let Some(record) = records.iter().find(|record| !ids.insert(&record.id)) {
        return Err(Failure::field("documents", format!("the id {:?} occurs twice", record.id)));
    }
    let embedded = service.embed_documents(records.iter().map(document_of).collect()).await?;
    let (dim, fingerprint) = (service.about(Role::Document).dim, service.about(Role::Document).fingerprint.clone());
    let rows = embedded.rows;
    let (changes, documents) = run(service, move |collection| {
        let changes = collection.add(&records, &Embeddings::from_rows(dim, rows)?)?;
        Ok((changes, collection.index().len()))
    })
    .await?;
    let (added, replaced) = (changes.added, changes.replaced);
    let answer = json!({
        "added": added, "replaced": replaced, "documents": documents, "document_fingerprint": fingerprint,
    });
    json(&answer, Some(embedded.cost))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoveRequest {
    ids: List<Id>,
}

/// Removes documents. They are gone from disk when the answer is sent.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<RemoveRequest>,
) -> Result<Response, Failure> {
    let ids = request.ids.all("ids", app.service()?)?;
    let removed = remove_ids(&app, ids.into_iter().map(String::from).collect()).await?;
    json(&removed, None)
}

pub(super) async fn remove_one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, Failure> {
    let answer = remove_ids(&app, vec![id.clone()]).await?;
    match answer["removed"].as_u64() {
        Some(0) => Err(unknown(&id)),
        _ => json(&answer, None),
    }
}

async fn remove_ids(app: &App, ids: Vec<String>) -> Result<Value, Failure> {
    let service = app.service()?.clone();
    let fingerprint = service.about(Role::Document).fingerprint.clone();
    let (removed, documents) =
        run(service, move |collection| Ok((collection.remove(&ids)?, collection.index().len()))).await?;
    Ok(json!({ "removed": removed, "documents": documents, "document_fingerprint": fingerprint }))
}

pub(super) async fn get(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, Failure> {
    let found = run(app.service()?.clone(), move |collection| {
        let index = collection.index();
        let row = index.find(&id)?.ok_or_else(|| unknown(&id))?;
        Ok(index.record(row)?)
    });
    json(&found.await?, None)
}

fn unknown(id: &str) -> Failure {
    Failure::new(Kind::NotFound, format!("the index has no document {id:?}"))
}
