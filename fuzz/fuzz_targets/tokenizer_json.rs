//! `tokenizer.json`, and texts through what is accepted.

#![no_main]

use care_encoders::tokenize::Tokenizer;
use care_fuzz::allow_guarded_panics;
use libfuzzer_sys::fuzz_target;

const TEXTS: [&str; 4] = ["", "头痛怎么办?", "Ｆever\u{301} [MASK] \u{200b}\n a", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"];

fuzz_target!(init: allow_guarded_panics(), |json: &str| {
    if let Ok(tokenizer) = Tokenizer::from_json(json, 0, 16) {
        let _ = tokenizer.terminal_token();
        let _ = tokenizer.to_json();
        if let Ok(ids) = tokenizer.encode(&TEXTS) {
            assert!(ids.iter().all(|ids| ids.len() <= 16), "a text of more than `max_length` tokens");
        }
    }
});
