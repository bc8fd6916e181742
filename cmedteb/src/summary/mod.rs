//! Results of several models side by side, as Markdown, LaTeX, CSV or as a self-contained HTML page.

mod csv;
mod html;
mod latex;
mod markdown;
#[cfg(not(feature = "plots"))]
#[path = "no_plots.rs"]
mod pictures;
#[cfg(feature = "plots")]
#[path = "plots.rs"]
mod pictures;
mod published;
mod settings;
mod tables;

pub use tables::Summary;
