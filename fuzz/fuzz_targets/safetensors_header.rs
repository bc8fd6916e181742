//! The header of a `model.safetensors`: an input is what stands before the weights of the tiny BERT.

#![no_main]

use std::fs;
use std::sync::LazyLock;

use care_encoders::{Device, EncoderOptions, load_encoder};
use care_fuzz::{Folder, allow_guarded_panics, fixture};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::of_fixture("bert"));

/// The weights of the fixture, without its header.
static WEIGHTS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut file = fs::read(fixture("bert").join("model.safetensors")).expect("the fixture's weights");
    let (length, _) = file.split_first_chunk().expect("the length of a header");
    file.split_off(8 + u64::from_le_bytes(*length) as usize)
});

fuzz_target!(init: allow_guarded_panics(), |header: &[u8]| {
    let device = Device::Cpu.open().expect("the feature cpu");
    // With the length that fits, so that longer and shorter headers are read as such, and with the first 8 bytes as length.
    let length = (header.len() as u64).to_le_bytes();
    for start in [&length[..], &[]] {
        FOLDER.write("model.safetensors", &[start, header, &WEIGHTS].concat());
        let _ = load_encoder(FOLDER.path(), &EncoderOptions::default(), &device);
    }
});
