//! Results of several models side by side, as Markdown or as a self-contained HTML page.

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
