//! Filters of an index, as JSON and as text. The JSON form of what is accepted is the same filter.

#![no_main]

use care_core::index::Filter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(Ok(filter)) = std::str::from_utf8(input).map(str::parse::<Filter>) else { return };
    // It may be nested too deeply to be read again.
    if let Ok(again) = filter.to_string().parse::<Filter>() {
        assert_eq!(again, filter);
    }
});
