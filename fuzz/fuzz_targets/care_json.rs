//! `care.json`, in a saved pair of two tiny BERTs.

#![no_main]

use std::sync::LazyLock;

use care_encoders::{AsymmetricEncoder, Device, EncoderOptions, load_tower};
use care_fuzz::{Folder, allow_guarded_panics, fixture};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let device = Device::Cpu.open().expect("the feature cpu");
    let (folder, options) = (Folder::new(), EncoderOptions::default());
    let query = load_tower(fixture("bert"), &options, &device).expect("the fixture");
    let document = load_tower(fixture("bert"), &options, &device).expect("the fixture");
    let pair = AsymmetricEncoder::new(query, document).expect("towers of one dimension");
    pair.save(folder.path().join("pair")).expect("a saved pair");
    folder
});

fuzz_target!(init: allow_guarded_panics(), |input: &[u8]| {
    FOLDER.write("pair/care.json", input);
    let device = Device::Cpu.open().expect("the feature cpu");
    let _ = AsymmetricEncoder::load(FOLDER.path().join("pair"), &device);
});
