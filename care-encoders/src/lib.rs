//! care-encoders
