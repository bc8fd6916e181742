//! A server of a pair without a model, for trying clients: `cargo run -p care-serve --example fake_server -- PORT [DIR]`.
//!
//! `DIR` is the folder of an index; it is made if it does not exist. Keys are read from `CARE_API_KEYS`, a default role
//! from `CARE_DEFAULT_ROLE`.

#[path = "../tests/fake/mod.rs"]
mod fake;

use std::error::Error;
use std::path::Path;

use care_core::Role;
use care_core::index::{DiskIndexOptions, IndexWriter};
use care_serve::{Collection, ServeOptions, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_env_filter("care_serve=info").with_writer(std::io::stderr).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let port = arguments.first().map_or(Ok(8080), |port| port.parse::<u16>())?;
    let pair = fake::pair();
    let collection = match arguments.get(1) {
        None => None,
        Some(folder) => {
            if !Path::new(folder).join("index.json").exists() {
                IndexWriter::create(folder, &pair.document_tower(), fake::DIM, &DiskIndexOptions::default())?;
            }
            Some(Collection::open(folder)?)
        }
    };
    let mut options = ServeOptions::default();
    options.dimensions = vec![32];
    options.api_keys = std::env::var("CARE_API_KEYS").iter().flat_map(|keys| keys.split(',')).map(Into::into).collect();
    options.default_role = match std::env::var("CARE_DEFAULT_ROLE").as_deref() {
        Ok("query") => Some(Role::Query),
        Ok("document") => Some(Role::Document),
        _ => None,
    };
    let server = Server::new(options)?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    server.loader().ready(pair, collection)?;
    server.run(listener, async { drop(tokio::signal::ctrl_c().await) }).await;
    Ok(())
}
