//! The examples stand beside this folder; here the code of the README is compiled as a test.
#![doc = include_str!("../../README.md")]
