//! JSON objects that are refused if a name is duplicated.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Values by the names of tensors.
pub(super) struct UniqueNames<V>(pub(super) HashMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueNames<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Names<V> {
            type Value = UniqueNames<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map by tensor names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut map = HashMap::new();
                while let Some((tensor, value)) = entries.next_entry::<String, V>()? {
                    if map.contains_key(&tensor) {
                        return Err(A::Error::custom(format!("tensor `{tensor}` is duplicated")));
                    }
                    map.insert(tensor, value);
                }
                Ok(UniqueNames(map))
            }
        }
        deserializer.deserialize_map(Names(PhantomData))
    }
}
