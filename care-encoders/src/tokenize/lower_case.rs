//! Lower case before everything else a tokenizer does, for `do_lower_case` of sentence-transformers.

use tokenizers::normalizers::{Lowercase, NormalizerWrapper, Sequence};

/// A normalizer that turns texts into lower case first; `None` if this one does anyway.
pub(super) fn with_lower_case(normalizer: Option<&NormalizerWrapper>) -> Option<NormalizerWrapper> {
    let lowers = |normalizer: &NormalizerWrapper| match normalizer {
        NormalizerWrapper::BertNormalizer(bert) => bert.lowercase,
        NormalizerWrapper::Lowercase(_) => true,
        _ => false,
    };
    let steps: Vec<NormalizerWrapper> = match normalizer {
        Some(NormalizerWrapper::Sequence(sequence)) => sequence.as_ref().to_vec(),
        other => other.cloned().into_iter().collect(),
    };
    if steps.iter().any(lowers) {
        return None;
    }
    let first = NormalizerWrapper::Lowercase(Lowercase);
    Some(NormalizerWrapper::Sequence(Sequence::new([vec![first], steps].concat())))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn lower_case_comes_first_unless_it_is_there() {
        let read = |json: &Value| serde_json::from_value::<NormalizerWrapper>(json.clone()).expect("a normalizer");
        let bert = |lowercase| {
            json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                   "lowercase": lowercase})
        };
        let (lower, nfc) = (json!({"type": "Lowercase"}), json!({"type": "NFC"}));
        let sequence = |steps: &[&Value]| json!({"type": "Sequence", "normalizers": steps});
        for normalizer in [bert(true), lower.clone(), sequence(&[&nfc, &lower]), sequence(&[&bert(true)])] {
            assert!(with_lower_case(Some(&read(&normalizer))).is_none(), "{normalizer}");
        }
        for (normalizer, expected) in [
            (bert(false), sequence(&[&lower, &bert(false)])),
            (sequence(&[&nfc, &bert(false)]), sequence(&[&lower, &nfc, &bert(false)])),
        ] {
            let changed = with_lower_case(Some(&read(&normalizer))).expect("changed");
            assert_eq!(serde_json::to_value(changed).expect("json"), expected);
        }
        let alone = with_lower_case(None).expect("changed");
        assert_eq!(serde_json::to_value(alone).expect("json"), sequence(&[&lower]));
    }
}
