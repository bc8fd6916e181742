#![doc = include_str!("../README.md")]

mod blocking;
mod collection;
mod failure;
mod http;
mod lane;
mod metrics;
mod options;
mod role;
mod server;
mod service;
mod tower;
mod vector;
mod words;

pub use collection::Collection;
pub use options::ServeOptions;
pub use server::{Loader, Server};
pub use tower::{About, Pair, ServedTower, Side, Tokens};
