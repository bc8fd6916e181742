//! The Arrow schema in a Parquet file, by which readers of Arrow know that a list has a fixed size.
//!
//! Parquet itself has no lists of a fixed size. Writers of Arrow store their schema under a key of the file's metadata, as
//! a FlatBuffer. Three columns do not warrant the Arrow crates, so it is built here, by the slots of `Schema.fbs` and
//! `Message.fbs`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, TableFinishedWIPOffset, Vector, WIPOffset};
use parquet::file::metadata::KeyValue;

use crate::dtype::Dtype;

/// The key of Arrow's writers.
const KEY: &str = "ARROW:schema";

/// The number of a table's field in its vtable.
const fn slot(field: u16) -> u16 {
    4 + 2 * field
}

/// `Type` of `Schema.fbs`.
const INT: u8 = 2;
const FLOATING_POINT: u8 = 3;
const UTF8: u8 = 5;
const FIXED_SIZE_LIST: u8 = 16;

/// `Precision` of `Schema.fbs`.
const HALF: i16 = 0;
const SINGLE: i16 = 1;

/// `MetadataVersion` and `MessageHeader` of `Message.fbs`.
const VERSION_5: i16 = 4;
const SCHEMA: u8 = 1;

type Table = WIPOffset<TableFinishedWIPOffset>;

/// A type: its number and its table.
type Kind = (u8, Table);

/// The schema of a table of vectors.
pub(super) fn key_value(dtype: Dtype, dim: usize) -> KeyValue {
    let mut builder = FlatBufferBuilder::new();
    let utf8 = (UTF8, table(&mut builder, |_| {}));
    let id = field(&mut builder, "id", utf8, None);
    let kind = match dtype {
        Dtype::F32 => floating(&mut builder, SINGLE),
        Dtype::F16 => floating(&mut builder, HALF),
        Dtype::Int8 => int8(&mut builder),
    };
    let element = field(&mut builder, "element", kind, None);
    let list = table(&mut builder, |builder| builder.push_slot_always(slot(0), dim as i32));
    let embedding = field(&mut builder, "embedding", (FIXED_SIZE_LIST, list), Some(element));
    let mut fields = vec![id, embedding];
    if dtype == Dtype::Int8 {
        let single = floating(&mut builder, SINGLE);
        fields.push(field(&mut builder, "scale", single, None));
    }
    KeyValue::new(KEY.to_owned(), message(builder, &fields))
}

/// The schema as a message, with the length in front, in Base64.
fn message(mut builder: FlatBufferBuilder<'_>, fields: &[Table]) -> String {
    let fields = builder.create_vector(fields);
    let schema = table(&mut builder, |builder| builder.push_slot_always(slot(1), fields));
    let message = table(&mut builder, |builder| {
        builder.push_slot_always(slot(0), VERSION_5);
        builder.push_slot_always(slot(1), SCHEMA);
        builder.push_slot_always(slot(2), schema);
    });
    builder.finish(message, None);
    let bytes = builder.finished_data();
    let length = (bytes.len() as u32).to_le_bytes();
    BASE64_STANDARD.encode([&[0xff; 4][..], &length, bytes].concat())
}

/// A table with the fields that `fill` sets.
fn table<'a>(builder: &mut FlatBufferBuilder<'a>, fill: impl FnOnce(&mut FlatBufferBuilder<'a>)) -> Table {
    let start = builder.start_table();
    fill(builder);
    builder.end_table(start)
}

/// A column that has no nulls.
fn field(builder: &mut FlatBufferBuilder<'_>, name: &str, kind: Kind, child: Option<Table>) -> Table {
    let name = builder.create_string(name);
    let children: WIPOffset<Vector<'_, ForwardsUOffset<TableFinishedWIPOffset>>> =
        builder.create_vector(&child.into_iter().collect::<Vec<_>>());
    table(builder, |builder| {
        builder.push_slot_always(slot(0), name);
        builder.push_slot_always(slot(2), kind.0);
        builder.push_slot_always(slot(3), kind.1);
        builder.push_slot_always(slot(5), children);
    })
}

fn floating(builder: &mut FlatBufferBuilder<'_>, precision: i16) -> Kind {
    (FLOATING_POINT, table(builder, |builder| builder.push_slot_always(slot(0), precision)))
}

fn int8(builder: &mut FlatBufferBuilder<'_>) -> Kind {
    let table = table(builder, |builder| {
        builder.push_slot_always(slot(0), 8i32);
        builder.push_slot_always(slot(1), true);
    });
    (INT, table)
}
