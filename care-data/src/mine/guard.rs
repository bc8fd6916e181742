//! What is never a negative of a query.

use care_core::Result;

use super::documents::{Documents, Key};
use super::rules::Reason;

/// The texts that are no negatives of one query.
pub(super) struct Guard<'a> {
    documents: &'a Documents,
    own: Key,
    positives: &'a [u32],
    /// Positives of the same query text in other rows.
    known: &'a [u32],
}

impl<'a> Guard<'a> {
    pub(super) fn new(documents: &'a Documents, own: Key, positives: &'a [u32], known: &'a [u32]) -> Self {
        Self { documents, own, positives, known }
    }

    /// Why a document is never a negative.
    pub(super) fn refuse(&self, document: usize) -> Result<Option<Reason>> {
        let key = self.documents.key(document);
        let has = |positives: &[u32]| positives.iter().any(|&positive| self.documents.key(positive as usize) == key);
        if has(self.positives) {
            return Ok(Some(Reason::Positive));
        }
        if has(self.known) {
            return Ok(Some(Reason::KnownPositive));
        }
        if key == self.own {
            return Ok(Some(Reason::OwnText));
        }
        for &positive in self.positives.iter().chain(self.known) {
            if self.documents.are_near(positive as usize, document)? {
                return Ok(Some(Reason::NearDuplicate));
            }
        }
        Ok(None)
    }
}
