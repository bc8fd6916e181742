//! cmedteb
