//! Many texts in one block of memory.

use std::ops::Range;

/// Texts in the form in which they are compared, one behind the other in a single buffer: their bytes and 8 more per text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forms {
    text: String,
    /// Where each form ends.
    ends: Vec<usize>,
}

impl Forms {
    /// Appends a form.
    pub fn push(&mut self, form: &str) {
        self.text.push_str(form);
        self.ends.push(self.text.len());
    }

    /// Number of forms.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of all forms.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// One form.
    ///
    /// # Panics
    /// Panics if `at >= len`.
    pub fn get(&self, at: usize) -> &str {
        let Range { start, end } = at.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[at];
        &self.text[start..end]
    }
}

impl<S: AsRef<str>> FromIterator<S> for Forms {
    fn from_iter<I: IntoIterator<Item = S>>(forms: I) -> Self {
        let mut all = Self::default();
        forms.into_iter().for_each(|form| all.push(form.as_ref()));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_found_where_it_was_put() {
        let forms: Forms = ["咳嗽", "", "头痛", ""].into_iter().collect();
        assert_eq!((0..forms.len()).map(|at| forms.get(at)).collect::<Vec<_>>(), ["咳嗽", "", "头痛", ""]);
        assert_eq!((forms.bytes(), forms.is_empty(), Forms::default().len()), (12, false, 0));
    }
}
