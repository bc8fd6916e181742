//! Several models' results side by side, for people: Markdown, and a page that needs no network.

mod html;
mod markdown;
#[cfg(not(feature = "plots"))]
#[path = "no_plots.rs"]
mod pictures;
#[cfg(feature = "plots")]
#[path = "plots.rs"]
mod pictures;
mod tables;

pub use tables::Summary;
