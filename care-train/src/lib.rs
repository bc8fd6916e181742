//! care-train
