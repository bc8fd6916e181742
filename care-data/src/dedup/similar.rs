//! Near-duplicates among the rows that are left.

use care_core::Result;

use super::field::TextField;
use super::found::{Duplicate, Found};
use super::options::Method;
use crate::near::{Forms, NearDuplicates, NearIndex};

/// Notes all rows that are near-duplicates of a kept one.
pub(super) fn find_near(found: &mut Found, field: &TextField, near: NearDuplicates) -> Result<()> {
    let (mut forms, mut rows) = (Forms::default(), Vec::new());
    found.rows.for_each_text(field, &|row| found.left(row), &mut |row, text| {
        forms.push(&text.form);
        rows.push(row as u32);
        Ok(())
    })?;
    NearIndex::new(near, forms).grow(&found.order_of(&rows), &mut |at, matches| {
        let best = matches.iter().reduce(|best, next| if next.similarity > best.similarity { next } else { best });
        let duplicate = best.map(|best| Duplicate {
            of: rows[best.text],
            similarity: best.similarity as f32,
            method: Method::Near,
        });
        found.note(rows[at], duplicate)
    });
    Ok(())
}
