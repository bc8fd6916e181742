//! The examples are in the folder above; this crate compiles the code of the README as a test.
#![doc = include_str!("../../README.md")]
