//! Settings that are given beside a file, by the path of their key.

use care_core::{Error, ErrorKind, Result};
use toml::{Table, Value};

/// A value for one key, which replaces that of the file.
pub(super) struct Override {
    /// As it was given, e.g. `stage.0.learning_rate=1e-4`.
    written: String,
    /// The names of the tables and the positions in lists that lead to the value, e.g. `["stage", "0", "learning_rate"]`.
    path: Vec<String>,
    value: Value,
}

/// Reads overrides of the form `KEY=VALUE`.
///
/// # Errors
/// Returns an error if one is not of this form, or a key is given twice.
pub(super) fn read(settings: &[impl AsRef<str>]) -> Result<Vec<Override>> {
    let overrides: Vec<Override> = settings.iter().map(|one| Override::new(one.as_ref())).collect::<Result<_>>()?;
    let twice = overrides.iter().enumerate().find(|(at, one)| overrides[..*at].iter().any(|o| o.path == one.path));
    match twice {
        Some((_, one)) => Err(one.refuse("the key is given twice")),
        None => Ok(overrides),
    }
}

impl Override {
    fn new(written: &str) -> Result<Self> {
        let refuse = |problem: String| Error::new(ErrorKind::Config, format!("the setting `{written}`: {problem}"));
        let Some((key, value)) = written.split_once('=') else {
            return Err(refuse("no `=`; write KEY=VALUE, e.g. stage.0.learning_rate=1e-4".into()));
        };
        let path: Vec<String> = key.trim().split('.').map(|part| part.trim().to_owned()).collect();
        if path.iter().any(String::is_empty) {
            return Err(refuse(format!("`{key}` is no key, e.g. stage.0.learning_rate")));
        }
        // What is no TOML value is a text, so that a shell needs no second pair of quotes.
        let value = value.trim();
        let parsed: Option<Value> = toml::from_str(&format!("value = {value}")).ok().and_then(|mut table: Table| {
            let value = table.remove("value")?;
            table.is_empty().then_some(value)
        });
        match parsed {
            Some(parsed) => Ok(Self { written: written.to_owned(), path, value: parsed }),
            None if value.is_empty() => Err(refuse("no value; an empty text is \"\"".into())),
            None if value.starts_with(['"', '\'', '[', '{']) => Err(refuse(format!("{value} is no TOML value"))),
            None => Ok(Self { written: written.to_owned(), path, value: Value::String(value.to_owned()) }),
        }
    }

    /// An error about this setting.
    pub(super) fn refuse(&self, problem: &str) -> Error {
        Error::new(ErrorKind::Config, format!("the setting `{}`: {problem}", self.written))
    }

    /// Whether what is at this path, or what holds it, was set by this.
    pub(super) fn concerns(&self, path: &[String]) -> bool {
        let shared = self.path.len().min(path.len());
        !path.is_empty() && self.path[..shared] == path[..shared]
    }

    /// Puts the value into a configuration. Tables are created where there are none; entries of lists must exist.
    ///
    /// # Errors
    /// Returns an error if the path leads through a value that is no table, or to an entry that a list does not have.
    pub(super) fn apply(&self, table: &mut Table) -> Result<()> {
        let (last, parents) = self.path.split_last().unwrap_or((&self.written, &[]));
        let mut at = Place::Table(table);
        for (depth, name) in parents.iter().enumerate() {
            let next = match at {
                Place::Table(table) => match parents.get(depth + 1).unwrap_or(last).parse::<usize>() {
                    // A position in a list that is not there.
                    Ok(_) if !table.contains_key(name) => return Err(self.not_a_list(depth)),
                    _ => table.entry(name.clone()).or_insert_with(|| Value::Table(Table::new())),
                },
                Place::List(list) => self.entry(list, depth, name)?,
            };
            at = match next {
                Value::Table(table) => Place::Table(table),
                Value::Array(list) => Place::List(list),
                _ => return Err(self.refuse(&format!("`{}` is a value without fields", self.up_to(depth)))),
            };
        }
        match at {
            Place::Table(table) => drop(table.insert(last.clone(), self.value.clone())),
            Place::List(list) => *self.entry(list, parents.len(), last)? = self.value.clone(),
        }
        Ok(())
    }

    /// The entry of a list at the position that a part of the path names.
    fn entry<'a>(&self, list: &'a mut [Value], depth: usize, name: &str) -> Result<&'a mut Value> {
        let (of, length) = (self.up_to(depth - 1), list.len());
        let place = name.parse::<usize>().ok().filter(|place| *place < length);
        match place {
            Some(place) => Ok(&mut list[place]),
            None if length == 0 => Err(self.refuse(&format!("`{of}` is an empty list; set it as a whole"))),
            None => {
                let entries = match length - 1 {
                    0 => format!("whose only entry is {of}.0"),
                    last => format!("whose entries are {of}.0 to {of}.{last}"),
                };
                Err(self.refuse(&format!("`{of}` is a list, {entries}")))
            }
        }
    }

    fn not_a_list(&self, depth: usize) -> Error {
        let of = self.up_to(depth);
        self.refuse(&format!("the file has no list `{of}`; set `{of}` as a whole"))
    }

    /// The path including the part at this depth.
    fn up_to(&self, depth: usize) -> String {
        self.path[..=depth].join(".")
    }
}

/// What a part of a path leads to.
enum Place<'a> {
    Table(&'a mut Table),
    List(&'a mut Vec<Value>),
}
