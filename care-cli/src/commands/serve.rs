//! `care serve`

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use care_core::files::read_file;
use care_core::{Document, Embeddings, Query, Reranker, Role, Text};
use care_encoders::tokenize::TruncationSide;
use care_encoders::{AnyEncoder, Tower, tower_fingerprint};
use care_serve::{About, Collection, Loader, Pair, ServeOptions, ServedTower, Server, Side, Tokens};
use clap::ValueEnum;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::index::SelectionArgs;
use crate::model::PairArgs;
use crate::reranker::RerankerArgs;
use crate::stderr::note;

/// Serves a pair over HTTP: the routes of OpenAI, text-embeddings-inference and Cohere, and search in an index.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pair: PairArgs,
    #[command(flatten)]
    reranker: RerankerArgs,
    /// Name that clients know the pair by, as NAME/query and NAME/document; by default as given by --model, of a folder
    /// its last part
    #[arg(long)]
    name: Option<String>,
    /// Index that `care index build` made with this pair; searched by /search, changed by /documents
    #[arg(long, value_name = "DIR")]
    index: Option<PathBuf>,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Role of texts of which a request states none; by default such a request is refused
    #[arg(long, value_name = "ROLE")]
    default_role: Option<RoleArg>,
    /// File of keys, one per line, of which each request must bear one (`Authorization: Bearer KEY`); by default requests
    /// need no key
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Address to listen on; 0.0.0.0 for all networks
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 for any that is free
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Numbers of dimensions that a request may ask for beside all, for a pair that was trained to be truncated
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    dimensions: Vec<usize>,
    #[command(flatten)]
    limits: Limits,
    /// Form of the log on stderr. What is logged is set by RUST_LOG, by default `info`
    #[arg(long, value_name = "FORM", default_value = "text")]
    log_format: LogFormat,
}

/// Limits of the server.
#[derive(clap::Args)]
struct Limits {
    /// Requests that are worked on at once; of more, each is answered 429 [default: 512]
    #[arg(long, value_name = "N")]
    max_concurrent_requests: Option<usize>,
    /// Connections at once; more wait [default: 1024]
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
    /// Texts per request [default: 2048]
    #[arg(long, value_name = "N")]
    max_client_batch: Option<usize>,
    /// Bytes per request [default: 4194304]
    #[arg(long, value_name = "BYTES")]
    max_body: Option<usize>,
    /// Tokens per forward pass of documents, padding included; a quarter while there are queries, since one may wait for a
    /// pass. That of queries is --batch-tokens [default: 1024]
    #[arg(long, value_name = "N")]
    document_batch_tokens: Option<usize>,
    /// Tokens that wait in front of each tower; a request for which there is no room is answered 429 [default: 262144]
    #[arg(long, value_name = "N")]
    max_queue_tokens: Option<usize>,
    /// Results per search [default: 1000]
    #[arg(long, value_name = "N")]
    max_top_k: Option<usize>,
    /// Seconds in which a request is answered; 503 after them [default: 60]
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u64>,
    /// Seconds in which a request arrives; 408 after them [default: 15]
    #[arg(long, value_name = "SECONDS")]
    read_timeout: Option<u64>,
    /// Seconds that requests have to end when the server stops [default: 30]
    #[arg(long, value_name = "SECONDS")]
    shutdown_timeout: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArg {
    Query,
    Document,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

pub(crate) fn run(args: Args) -> Result<()> {
    start_log(args.log_format);
    let server = Server::new(args.options()?)?;
    let loader = server.loader();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    block_on(runtime, async {
        let address = (args.host.as_str(), args.port);
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("cannot listen on {}:{}", args.host, args.port))?;
        note!("listening on http://{}, loading the model", listener.local_addr()?);
        let (done, loaded) = tokio::sync::oneshot::channel();
        // Its own thread: loading computes and blocks.
        std::thread::spawn(move || drop(done.send(args.load(&loader))));
        let mut failure = None;
        let stop = async {
            let mut signal = std::pin::pin!(signal());
            let result = tokio::select! {
                result = loaded => result.unwrap_or_else(|_| Err(anyhow!("the model was not loaded"))),
                () = &mut signal => return,
            };
            match result {
                Ok(()) => {
                    note!("ready");
                    signal.await;
                }
                Err(error) => failure = Some(error),
            }
        };
        if !server.run(listener, stop).await {
            note!("warning: some requests were not answered before the server stopped");
        }
        failure.map_or(Ok(()), Err)
    })
}

/// Runs a future to its end, and does not wait for work on threads that may block: nobody does any more, and a search or a change
/// of the index may take longer than `--shutdown-timeout`.
fn block_on<T>(runtime: Runtime, future: impl Future<Output = T>) -> T {
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}

/// Waits for an interrupt, or for the signal by which a service is stopped.
async fn signal() {
    let interrupt = async { drop(tokio::signal::ctrl_c().await) };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}

fn start_log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

impl Args {
    fn options(&self) -> Result<ServeOptions> {
        if self.index.is_none() && self.selection.is_given() {
            bail!("--codes and --approximate say how an index is searched; name it by --index");
        }
        let mut options = ServeOptions::default();
        options.default_role = self.default_role.map(|role| match role {
            RoleArg::Query => Role::Query,
            RoleArg::Document => Role::Document,
        });
        options.api_keys = self.api_key_file.as_deref().map_or(Ok(Vec::new()), read_keys)?;
        options.dimensions.clone_from(&self.dimensions);
        options.max_batch_tokens = self.pair.model.batch_tokens;
        let limits = &self.limits;
        for (option, limit) in [
            (&mut options.max_concurrent_requests, limits.max_concurrent_requests),
            (&mut options.max_connections, limits.max_connections),
            (&mut options.max_client_batch, limits.max_client_batch),
            (&mut options.max_body, limits.max_body),
            (&mut options.document_batch_tokens, limits.document_batch_tokens),
            (&mut options.max_queue_tokens, limits.max_queue_tokens),
            (&mut options.max_top_k, limits.max_top_k),
        ] {
            *option = limit.unwrap_or(*option);
        }
        for (option, limit) in [
            (&mut options.deadline, limits.deadline),
            (&mut options.read_timeout, limits.read_timeout),
            (&mut options.shutdown_timeout, limits.shutdown_timeout),
        ] {
            *option = limit.map_or(*option, Duration::from_secs);
        }
        Ok(options)
    }

    /// Loads towers, reranker and index, and lets the server answer.
    fn load(&self, loader: &Loader) -> Result<()> {
        let open = |folder| Collection::open(folder)?.with_search(self.selection.options(0));
        let collection = self.index.as_ref().map(open).transpose()?;
        let reranker = self.reranker.open(&(&self.pair.model).into())?;
        let (pair, _) = self.pair.open()?;
        let budget = self.pair.model.batch_tokens;
        let device = self.pair.model.device.to_string();
        let query = Served::new(pair.query().clone(), Query::new("{text}"), budget, &device)?;
        let document =
            Served::new(pair.document().clone(), Document::with_title("{title}", "{text}"), budget, &device)?;
        let reranker = reranker.map(|loaded| Arc::new(loaded.reranker) as Arc<dyn Reranker>);
        let pair = Pair { name: self.served_name(), query: Arc::new(query), document: Arc::new(document), reranker };
        Ok(loader.ready(pair, collection)?)
    }

    fn served_name(&self) -> String {
        let model = self.pair.model.name();
        let folder = Path::new(model).exists().then(|| Path::new(model).canonicalize().ok()).flatten();
        let last = folder.and_then(|folder| Some(folder.file_name()?.to_string_lossy().into_owned()));
        self.name.clone().or(last).unwrap_or_else(|| model.to_owned())
    }
}

/// The keys of a file. Empty lines and lines that begin with `#` are none.
fn read_keys(path: &Path) -> Result<Vec<String>> {
    let bytes = read_file(path)?;
    let text = std::str::from_utf8(&bytes).with_context(|| format!("{} is not UTF-8", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<String> = lines.map(str::to_owned).collect();
    if keys.is_empty() {
        bail!("{} has no keys, so no request could be answered", path.display());
    }
    Ok(keys)
}

/// A tower as the server sees it.
struct Served<T: Text> {
    tower: Tower<T, AnyEncoder>,
    about: About,
    token_budget: usize,
}

impl<T: Text> Served<T> {
    /// `placeholder` is a text of placeholders, by which the instruction is told.
    fn new(tower: Tower<T, AnyEncoder>, placeholder: T, token_budget: usize, device: &str) -> Result<Self> {
        let (summary, tokenizer) = (tower.summary(), tower.tokenizer());
        let config = tower.network().encoder().config().to_json();
        let about = About {
            fingerprint: tower_fingerprint(&tower)?,
            instruction: tower.instruction().apply(&placeholder),
            dim: tower.embedding_dim(),
            unit_length: summary.cosine,
            max_length: tokenizer.max_length(),
            vocab_size: tokenizer.vocab_size(),
            special_tokens: tokenizer.special_tokens(),
            dtype: summary.precision.value.as_str().to_owned(),
            pooling: summary.pooling.value.to_string(),
            device: device.to_owned(),
            architecture: config["model_type"].as_str().unwrap_or("unknown").to_owned(),
        };
        Ok(Self { tower, about, token_budget })
    }
}

impl<T: Text> ServedTower<T> for Served<T> {
    fn about(&self) -> &About {
        &self.about
    }

    fn tokenize(&self, texts: &[T], limit: usize, side: Option<Side>) -> care_core::Result<Vec<Tokens>> {
        let mut tokenizer = self.tower.tokenizer().with_max_length(limit)?;
        if let Some(side) = side {
            tokenizer = tokenizer.with_truncation_side(match side {
                Side::Left => TruncationSide::Left,
                Side::Right => TruncationSide::Right,
            });
        }
        let (prepared, instruction) = (self.tower.prepare(texts), self.tower.instruction());
        let pairs: Option<Vec<_>> = prepared.iter().map(|text| instruction.segments(text)).collect();
        let Some(pairs) = pairs.filter(|_| instruction.is_pair()) else {
            let ids = tokenizer.encode(&prepared)?;
            return Ok(ids.into_iter().map(|ids| Tokens { ids, types: None }).collect());
        };
        let (ids, types) = tokenizer.encode_pairs(&pairs)?;
        Ok(ids.into_iter().zip(types).map(|(ids, types)| Tokens { ids, types: Some(types) }).collect())
    }

    fn embed(&self, tokens: &[Tokens]) -> care_core::Result<Embeddings> {
        let ids: Vec<&[u32]> = tokens.iter().map(|text| text.ids.as_slice()).collect();
        // Ids that a client sends have no types: they are one segment.
        let types = |text: &Tokens| text.types.clone().unwrap_or_else(|| vec![0; text.ids.len()]);
        let types =
            tokens.iter().any(|text| text.types.is_some()).then(|| tokens.iter().map(types).collect::<Vec<_>>());
        let (network, pad_id) = (self.tower.network(), self.tower.tokenizer().pad_id());
        network.embed_typed(&ids, types.as_deref(), pad_id, self.token_budget, &mut |_| {})
    }

    fn token(&self, id: u32) -> Option<String> {
        self.tower.tokenizer().id_to_token(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_on_a_thread_does_not_hold_the_end_of_the_server() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("starts");
        let (_never, waits) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        block_on(runtime, async {
            tokio::task::spawn_blocking(move || {
                begin.send(()).expect("the test waits");
                waits.recv()
            });
            begun.await.expect("begins");
        });
    }
}
