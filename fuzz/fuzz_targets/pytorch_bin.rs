//! A `pytorch_model.bin`, whole: an input is read as the weights of a tiny BERT.

#![no_main]

use std::fs;
use std::sync::LazyLock;

use care_encoders::{Device, EncoderOptions, load_encoder};
use care_fuzz::{Folder, allow_guarded_panics, fixture};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let folder = Folder::new();
    folder.write("config.json", &fs::read(fixture("torch").join("config.json")).expect("the fixture's configuration"));
    folder
});

fuzz_target!(init: allow_guarded_panics(), |file: &[u8]| {
    let device = Device::Cpu.open().expect("the feature cpu");
    FOLDER.write("pytorch_model.bin", file);
    let _ = load_encoder(FOLDER.path(), &EncoderOptions::default(), &device);
});
