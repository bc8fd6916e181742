//! care-cli
