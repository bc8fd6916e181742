//! Reads the pickles in which PyTorch stores the tensors of a model. Nothing is executed.
//!
//! A pickle is a program for a stack machine, and may call any Python function that it names. This machine knows the
//! few functions and classes that rebuild tensors and dictionaries, computes what they would, and refuses every other
//! name.
//!
//! # Reference
//! Python's `pickletools`; `torch/serialization.py` and `torch/_utils.py` of PyTorch 2.15.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::rc::Rc;

use safetensors::Dtype;

/// Largest pickle in bytes; one of a thousand tensors has 0.1 MB.
const MAX_BYTES: u64 = 64 << 20;
/// Most objects that a pickle may make.
const MAX_OBJECTS: usize = 4_000_000;
/// Longest name of a function or class in bytes.
const MAX_NAME: usize = 200;
/// Most axes of a tensor.
const MAX_AXES: usize = 16;

/// A tensor of a pickle: a view of a storage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PickledTensor {
    pub(super) storage: Rc<PickledStorage>,
    /// Position of the first value in the storage, in values.
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    /// Values from one index to the next along each axis.
    pub(super) strides: Vec<usize>,
}

/// A storage that a pickle names: values of one dtype elsewhere in the file.
#[derive(Debug, PartialEq)]
pub(super) struct PickledStorage {
    pub(super) key: String,
    pub(super) dtype: Dtype,
    /// Number of values.
    pub(super) values: u64,
    /// Where this storage begins in the one that the file names by `key`, in values.
    pub(super) first: u64,
}

/// What a pickle contains, as far as weights need it.
#[derive(Debug)]
pub(super) enum Content {
    /// A dictionary with its entries that have a text as key; `None` for what is no tensor.
    Dictionary(Vec<(String, Option<PickledTensor>)>),
    /// A list of texts.
    Texts(Vec<String>),
    /// A whole number, or the bytes of one that is too large.
    Number(i64),
    LargeNumber(Vec<u8>),
    Other,
}

/// A value on the machine's stack. Containers are indices of `objects`, so that nesting needs no recursion.
#[derive(Debug, Clone)]
enum Value {
    None,
    Number(i64),
    LargeNumber(Rc<[u8]>),
    Text(Rc<str>),
    Tuple(usize),
    List(usize),
    Dictionary(usize),
    Function(Function),
    Storage(Rc<PickledStorage>),
    Tensor(usize),
    /// A value that no tensor depends on.
    Other,
}

#[derive(Debug)]
enum Object {
    Items(Vec<Value>),
    Entries(Vec<(Value, Value)>),
    Tensor(PickledTensor),
}

/// The functions and classes that may be named.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    StorageOf(Dtype),
}

impl Function {
    fn named(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Self::RebuildParameter,
            ("torch", "FloatStorage") => Self::StorageOf(Dtype::F32),
            ("torch", "HalfStorage") => Self::StorageOf(Dtype::F16),
            ("torch", "BFloat16Storage") => Self::StorageOf(Dtype::BF16),
            ("torch", "DoubleStorage") => Self::StorageOf(Dtype::F64),
            ("torch", "LongStorage") => Self::StorageOf(Dtype::I64),
            ("torch", "IntStorage") => Self::StorageOf(Dtype::I32),
            ("torch", "ShortStorage") => Self::StorageOf(Dtype::I16),
            ("torch", "CharStorage") => Self::StorageOf(Dtype::I8),
            ("torch", "ByteStorage") => Self::StorageOf(Dtype::U8),
            ("torch", "BoolStorage") => Self::StorageOf(Dtype::BOOL),
            _ => return None,
        })
    }
}

type Result<T> = std::result::Result<T, String>;

/// Reads one pickle; the reader is left behind its end.
///
/// # Errors
/// If it is damaged or too large, or names a function or class that weights do not need; the message says which.
pub(super) fn read_pickle(reader: impl Read) -> Result<(Content, BTreeMap<String, Rc<PickledStorage>>)> {
    let mut machine = Machine {
        reader: reader.take(MAX_BYTES),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        objects: Vec::new(),
        storages: BTreeMap::new(),
    };
    let top = machine.run()?;
    Ok((machine.content(top), machine.storages))
}

struct Machine<R> {
    reader: std::io::Take<R>,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    objects: Vec<Object>,
    /// The storages by key, without views of them.
    storages: BTreeMap<String, Rc<PickledStorage>>,
}

impl<R: Read> Machine<R> {
    fn run(&mut self) -> Result<Value> {
        loop {
            if self.stack.len() + self.memo.len() + self.objects.len() > MAX_OBJECTS {
                return Err(format!("more than {MAX_OBJECTS} objects"));
            }
            let [code] = self.bytes()?;
            match code {
                // PROTO, FRAME
                0x80 => _ = self.bytes::<1>()?,
                0x95 => _ = self.bytes::<8>()?,
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => _ = self.pop()?,
                b'1' => _ = self.popped_to_mark()?,
                b'2' => self.push(self.stack.last().cloned().ok_or_else(underflow)?),
                b'N' => self.push(Value::None),
                // NEWTRUE, NEWFALSE, BINFLOAT
                0x88 | 0x89 => self.push(Value::Other),
                b'G' => {
                    self.bytes::<8>()?;
                    self.push(Value::Other);
                }
                b'K' => {
                    let [number] = self.bytes()?;
                    self.push(Value::Number(number.into()));
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.bytes()?);
                    self.push(Value::Number(number.into()));
                }
                b'J' => {
                    let number = i32::from_le_bytes(self.bytes()?);
                    self.push(Value::Number(number.into()));
                }
                // LONG1
                0x8a => {
                    let [length] = self.bytes()?;
                    let bytes = self.some(length.into())?;
                    self.push(long(bytes));
                }
                // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8, and the strings of Python 2
                b'X' | b'T' => {
                    let length = u32::from_le_bytes(self.bytes()?);
                    self.push_text(length.into())?;
                }
                0x8c | b'U' => {
                    let [length] = self.bytes()?;
                    self.push_text(length.into())?;
                }
                0x8d => {
                    let length = u64::from_le_bytes(self.bytes()?);
                    self.push_text(length)?;
                }
                // BINBYTES, SHORT_BINBYTES
                b'B' => {
                    let length = u32::from_le_bytes(self.bytes()?);
                    self.some(length.into())?;
                    self.push(Value::Other);
                }
                b'C' => {
                    let [length] = self.bytes()?;
                    self.some(length.into())?;
                    self.push(Value::Other);
                }
                b')' => self.push_items(Vec::new(), Value::Tuple),
                0x85..=0x87 => {
                    let count = usize::from(code - 0x84);
                    let first = self.stack.len().checked_sub(count).ok_or_else(underflow)?;
                    let items = self.stack.split_off(first);
                    self.push_items(items, Value::Tuple);
                }
                b't' => {
                    let items = self.popped_to_mark()?;
                    self.push_items(items, Value::Tuple);
                }
                b']' => self.push_items(Vec::new(), Value::List),
                b'l' => {
                    let items = self.popped_to_mark()?;
                    self.push_items(items, Value::List);
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.popped_to_mark()?;
                    self.append(items)?;
                }
                b'}' => self.push_entries(Vec::new()),
                b'd' => {
                    let entries = pairs(self.popped_to_mark()?)?;
                    self.push_entries(entries);
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.insert(vec![(key, value)])?;
                }
                b'u' => {
                    let entries = pairs(self.popped_to_mark()?)?;
                    self.insert(entries)?;
                }
                // BINPUT, LONG_BINPUT, MEMOIZE
                b'q' => {
                    let [index] = self.bytes()?;
                    self.memoize(index.into())?;
                }
                b'r' => {
                    let index = u32::from_le_bytes(self.bytes()?);
                    self.memoize(index.into())?;
                }
                0x94 => self.memoize(self.memo.len() as u64)?,
                b'h' => {
                    let [index] = self.bytes()?;
                    self.recall(index.into())?;
                }
                b'j' => {
                    let index = u32::from_le_bytes(self.bytes()?);
                    self.recall(index.into())?;
                }
                // GLOBAL, STACK_GLOBAL
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push_function(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Value::Text(module), Value::Text(name)) = (module, name) else {
                        return Err("a function whose name is no text".into());
                    };
                    self.push_function(&module, &name)?;
                }
                // REDUCE, BUILD, BINPERSID
                b'R' => {
                    let (arguments, function) = (self.pop()?, self.pop()?);
                    self.call(&function, &arguments)?;
                }
                b'b' => {
                    self.pop()?;
                    // The state of an `OrderedDict` is the metadata of a state dict, which weights do not need.
                    if !matches!(self.stack.last(), Some(Value::Dictionary(_))) {
                        return Err("the state of an object that is no dictionary".into());
                    }
                }
                b'Q' => {
                    let name = self.pop()?;
                    let storage = self.storage(&name).ok_or("a storage that is described in an unknown way")?;
                    self.push(Value::Storage(storage));
                }
                other => return Err(format!("the instruction 0x{other:02x}, which weights do not need")),
            }
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|_| self.cut_off())?;
        Ok(bytes)
    }

    /// Reads `count` bytes, which are not trusted to exist.
    fn some(&mut self, count: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(count).read_to_end(&mut bytes);
        if read.is_ok_and(|read| read as u64 == count) { Ok(bytes) } else { Err(self.cut_off()) }
    }

    fn cut_off(&self) -> String {
        match self.reader.limit() {
            0 => format!("more than {MAX_BYTES} bytes"),
            _ => "it is cut off".to_owned(),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        loop {
            match self.bytes()? {
                [b'\n'] => return String::from_utf8(line).map_err(|_| "a name that is not UTF-8".into()),
                [byte] if line.len() < MAX_NAME => line.push(byte),
                _ => return Err(format!("a name of more than {MAX_NAME} bytes")),
            }
        }
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack.pop().ok_or_else(underflow)
    }

    fn popped_to_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len()).ok_or_else(underflow)?;
        Ok(self.stack.split_off(mark))
    }

    fn push_text(&mut self, length: u64) -> Result<()> {
        let text = String::from_utf8(self.some(length)?).map_err(|_| "a text that is not UTF-8")?;
        self.push(Value::Text(text.into()));
        Ok(())
    }

    fn push_items(&mut self, items: Vec<Value>, container: fn(usize) -> Value) {
        self.push(container(self.objects.len()));
        self.objects.push(Object::Items(items));
    }

    fn push_entries(&mut self, entries: Vec<(Value, Value)>) {
        self.push(Value::Dictionary(self.objects.len()));
        self.objects.push(Object::Entries(entries));
    }

    fn push_function(&mut self, module: &str, name: &str) -> Result<()> {
        let function = Function::named(module, name).ok_or_else(|| {
            let end = |text: &str| text[..text.floor_char_boundary(MAX_NAME)].to_owned();
            format!(
                "the name `{}.{}`: it is none of those that weights need, and nothing is executed",
                end(module),
                end(name)
            )
        })?;
        self.push(Value::Function(function));
        Ok(())
    }

    fn append(&mut self, items: Vec<Value>) -> Result<()> {
        match self.stack.last() {
            Some(&Value::List(list)) => {
                if let Object::Items(all) = &mut self.objects[list] {
                    all.extend(items);
                }
                Ok(())
            }
            _ => Err("items of what is no list".into()),
        }
    }

    fn insert(&mut self, entries: Vec<(Value, Value)>) -> Result<()> {
        match self.stack.last() {
            Some(&Value::Dictionary(dictionary)) => {
                if let Object::Entries(all) = &mut self.objects[dictionary] {
                    all.extend(entries);
                }
                Ok(())
            }
            _ => Err("entries of what is no dictionary".into()),
        }
    }

    fn memoize(&mut self, index: u64) -> Result<()> {
        let value = self.stack.last().cloned().ok_or_else(underflow)?;
        self.memo.insert(index, value);
        Ok(())
    }

    fn recall(&mut self, index: u64) -> Result<()> {
        let value = self.memo.get(&index).cloned().ok_or("a reference to nothing")?;
        self.push(value);
        Ok(())
    }

    /// The items of a tuple or list.
    fn items(&self, value: &Value) -> Option<&[Value]> {
        match value {
            Value::Tuple(index) | Value::List(index) => match &self.objects[*index] {
                Object::Items(items) => Some(items),
                _ => None,
            },
            _ => None,
        }
    }

    fn call(&mut self, function: &Value, arguments: &Value) -> Result<()> {
        let Value::Function(function) = function else { return Err("a call of what is no function".into()) };
        let wrong = || format!("wrong arguments of {function:?}");
        let arguments = self.items(arguments).ok_or_else(wrong)?.to_vec();
        match (function, arguments.as_slice()) {
            (Function::OrderedDict, []) => self.push_entries(Vec::new()),
            (Function::OrderedDict, [items]) => {
                let items = self.items(items).ok_or_else(wrong)?;
                let pair = |item: &Value| match self.items(item) {
                    Some([key, value]) => Ok((key.clone(), value.clone())),
                    _ => Err(wrong()),
                };
                let entries = items.iter().map(pair).collect::<Result<_>>()?;
                self.push_entries(entries);
            }
            (Function::RebuildTensor, [storage, offset, shape, strides, ..]) => {
                let tensor = self.tensor(storage, offset, shape, strides)?;
                self.push(Value::Tensor(self.objects.len()));
                self.objects.push(Object::Tensor(tensor));
            }
            (Function::RebuildParameter, [tensor @ Value::Tensor(_), ..]) => self.push(tensor.clone()),
            _ => return Err(wrong()),
        }
        Ok(())
    }

    /// A tensor, which must lie within its storage.
    fn tensor(&self, storage: &Value, offset: &Value, shape: &Value, strides: &Value) -> Result<PickledTensor> {
        let sizes = |value: &Value| -> Option<Vec<usize>> {
            let items = self.items(value).filter(|items| items.len() <= MAX_AXES)?;
            items.iter().map(|item| usize::try_from(number(item)?).ok()).collect()
        };
        let parts = || {
            let Value::Storage(storage) = storage else { return None };
            let offset = u64::try_from(number(offset)?).ok()?;
            Some((storage.clone(), offset, sizes(shape)?, sizes(strides)?))
        };
        let (storage, offset, shape, strides) = parts().ok_or("a tensor that is described in an unknown way")?;
        let last = || {
            shape.iter().zip(&strides).try_fold(offset, |last, (size, stride)| {
                last.checked_add((size.checked_sub(1)? as u64).checked_mul(*stride as u64)?)
            })
        };
        let empty = shape.contains(&0);
        let within = empty || last().is_some_and(|last| last < storage.values);
        let countable = shape.iter().try_fold(1_usize, |all, size| all.checked_mul(*size)).is_some();
        if shape.len() != strides.len() || !within || !countable {
            let values = storage.values;
            return Err(format!(
                "a tensor of shape {shape:?} with strides {strides:?} from value {offset} on, in a storage of {values}"
            ));
        }
        Ok(PickledTensor { storage, offset: if empty { 0 } else { offset }, shape, strides })
    }

    /// The storage that a persistent id names: `("storage", class, key, device, values)`, followed in the older format
    /// by `None` or `(key, first, values)` of a part of it.
    fn storage(&mut self, id: &Value) -> Option<Rc<PickledStorage>> {
        let [kind, class, key, _, values, view @ ..] = self.items(id)? else { return None };
        let (Value::Text(kind), Value::Function(Function::StorageOf(dtype)), Value::Text(key)) = (kind, class, key)
        else {
            return None;
        };
        let values = u64::try_from(number(values)?).ok().filter(|_| &**kind == "storage")?;
        let whole = PickledStorage { key: key.to_string(), dtype: *dtype, values, first: 0 };
        let part = match view {
            [] | [Value::None] => None,
            [view] => {
                let [_, first, count] = self.items(view)? else { return None };
                let (first, count) = (u64::try_from(number(first)?).ok()?, u64::try_from(number(count)?).ok()?);
                first.checked_add(count).filter(|end| *end <= values)?;
                Some((first, count))
            }
            _ => return None,
        };
        let dtype = whole.dtype;
        let known = self.storages.entry(whole.key.clone()).or_insert_with(|| Rc::new(whole)).clone();
        if known.dtype != dtype || known.values != values {
            return None;
        }
        Some(match part {
            None => known,
            Some((first, values)) => Rc::new(PickledStorage { key: known.key.clone(), dtype, values, first }),
        })
    }

    fn content(&self, top: Value) -> Content {
        match top {
            Value::Number(number) => Content::Number(number),
            Value::LargeNumber(bytes) => Content::LargeNumber(bytes.to_vec()),
            Value::Dictionary(index) => {
                let Object::Entries(entries) = &self.objects[index] else { return Content::Other };
                let entry = |(key, value): &(Value, Value)| {
                    let Value::Text(key) = key else { return None };
                    let tensor = match value {
                        Value::Tensor(index) => match &self.objects[*index] {
                            Object::Tensor(tensor) => Some(tensor.clone()),
                            _ => None,
                        },
                        _ => None,
                    };
                    Some((key.to_string(), tensor))
                };
                Content::Dictionary(entries.iter().filter_map(entry).collect())
            }
            Value::List(_) | Value::Tuple(_) => {
                let text = |item: &Value| match item {
                    Value::Text(text) => Some(text.to_string()),
                    _ => None,
                };
                let texts = self.items(&top).unwrap_or_default().iter().map(text).collect::<Option<_>>();
                texts.map_or(Content::Other, Content::Texts)
            }
            _ => Content::Other,
        }
    }
}

fn underflow() -> String {
    "it takes what is not there".to_owned()
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

fn pairs(values: Vec<Value>) -> Result<Vec<(Value, Value)>> {
    let (pairs, rest) = values.as_chunks::<2>();
    match rest {
        [] => Ok(pairs.iter().map(|[key, value]| (key.clone(), value.clone())).collect()),
        _ => Err("a key without a value".into()),
    }
}

/// A whole number in little-endian two's complement.
fn long(bytes: Vec<u8>) -> Value {
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    match wide.get_mut(..bytes.len()) {
        Some(low) => {
            low.copy_from_slice(&bytes);
            Value::Number(i64::from_le_bytes(wide))
        }
        None => Value::LargeNumber(bytes.into()),
    }
}
