//! Lists in the body of a request, of which no more is kept than a request may have.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

use crate::failure::Failure;
use crate::service::Service;

thread_local! {
    /// Items that are kept. It is no argument, since `Deserialize` takes none.
    static MOST: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Runs `read`, in which each [`List`] keeps the first `most` items.
pub(super) fn keeping<T>(most: usize, read: impl FnOnce() -> T) -> T {
    let before = MOST.replace(most);
    let done = read();
    MOST.set(before);
    done
}

/// The first items of a list, as many as are allowed, and how many it has.
#[derive(Debug, PartialEq)]
pub(super) struct List<T> {
    items: Vec<T>,
    len: usize,
}

impl<T> List<T> {
    /// A list of one item.
    pub(super) fn of_one(item: T) -> Self {
        Self { items: vec![item], len: 1 }
    }

    /// All items, if they are as many as a request may have.
    pub(super) fn all(self, field: &str, service: &Service) -> Result<Vec<T>, Failure> {
        service.check_batch(field, self.len)?;
        Ok(self.items)
    }

    /// The list of a first item, if it was read already, and all that follow.
    pub(super) fn read<'de, A: SeqAccess<'de>>(first: Option<T>, mut rest: A) -> Result<Self, A::Error>
    where
        T: Deserialize<'de>,
    {
        let (most, mut items) = (MOST.get(), Vec::from_iter(first));
        while items.len() < most {
            match rest.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(Self { len: items.len(), items }),
            }
        }
        let mut len = items.len();
        while rest.next_element::<IgnoredAny>()?.is_some() {
            len += 1;
        }
        Ok(Self { items, len })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<List<T>, A::Error> {
                List::read(None, items)
            }
        }

        deserializer.deserialize_seq(Items(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_the_limit_is_counted_and_not_kept() {
        let read = |most, json| keeping(most, || serde_json::from_str::<List<String>>(json).expect("a list"));
        let list = |items: &[&str], len| List { items: items.iter().map(|item| (*item).to_owned()).collect(), len };
        assert_eq!(read(2, r#"["a", "b", "c", 4, {}]"#), list(&["a", "b"], 5));
        assert_eq!(read(2, r#"["a", "b"]"#), list(&["a", "b"], 2));
        assert_eq!(read(2, "[]"), list(&[], 0));
        let refused = keeping(3, || serde_json::from_str::<List<String>>(r#"["a", 4]"#)).expect_err("a number");
        assert_eq!(refused.to_string(), "invalid type: integer `4`, expected a string at line 1 column 7");
    }
}
