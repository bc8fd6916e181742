//! A fingerprint of a data set's content, which shows whether two reports are on the same data.

/// 64-bit FNV-1a over fields. Unlike std's hashers, it is stable across platforms and releases.
///
/// # Reference
/// <http://www.isthe.com/chongo/tech/comp/fnv/>
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds a field; its end is part of the fingerprint.
    pub(crate) fn add(&mut self, field: &str) {
        // 0xff does not occur in UTF-8.
        for byte in field.bytes().chain([0xff]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) fn finish(self) -> String {
        format!("fnv1a-{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[&str]) -> String {
        let mut fingerprint = Fingerprint::new();
        fields.iter().for_each(|field| fingerprint.add(field));
        fingerprint.finish()
    }

    #[test]
    fn the_content_and_the_borders_of_fields_count() {
        assert_eq!(of(&[]), "fnv1a-cbf29ce484222325");
        assert_eq!(of(&["头痛", "发热"]), of(&["头痛", "发热"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
    }
}
