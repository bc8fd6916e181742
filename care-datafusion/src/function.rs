//! The function `care_embed` of SQL.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use care_core::{Document, Embedder, Embeddings, Query, Result, Role};
use care_encoders::{AsymmetricEncoder, Device};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, StringViewArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result as SqlResult, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::tower::Tower;

const NAME: &str = "care_embed";
const USAGE: &str = "care_embed takes (role, text) or ('document', title, text)";

/// The SQL function `care_embed(role, text)`, for documents also `care_embed('document', title, text)`: the vector of a text.
///
/// `role` is the literal `'query'` or `'document'`; `title` and `text` are strings of any Arrow type. A text that is NULL has
/// the vector NULL; a title that is NULL is none. A batch of rows is embedded together. Clones share the towers, so a process
/// opens a model once.
///
/// ```
/// use care_datafusion::CareEmbed;
/// use datafusion::prelude::SessionContext;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let context = SessionContext::new();
/// context.register_udf(CareEmbed::open(care_mini_zh::folder()?)?.into());
/// let rows = context.sql("SELECT care_embed('query', '头痛怎么办') AS vector").await?.collect().await?;
/// assert_eq!(rows[0].num_rows(), 1);
/// # Ok(())
/// # }
/// ```
///
/// # Shapes
/// n strings to a `FixedSizeList` of n vectors with `dim` numbers of `Float32`. The column's metadata has `care.fingerprint` and
/// `care.instruction`, the tower that the vectors are from.
///
/// # Errors
/// A query is refused when it is planned if `role` is another word or no literal, or an argument is no string. It fails if a text
/// cannot be embedded, and in a worker whose tower is not that of the plan.
#[derive(Clone)]
pub struct CareEmbed {
    embedder: Arc<dyn Embedder>,
    query: Tower,
    document: Tower,
    signature: Signature,
}

impl CareEmbed {
    /// Opens a pair, or one encoder for both roles, on the CPU with the settings of its folder, in any layout that
    /// [`AsymmetricEncoder::open`] reads.
    ///
    /// # Errors
    /// As [`AsymmetricEncoder::open`].
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Self::new(AsymmetricEncoder::load(folder, &Device::Cpu.open()?)?)
    }

    /// The function for a pair that is open, or any other embedder.
    ///
    /// # Errors
    /// If a fingerprint cannot be computed.
    pub fn new(embedder: impl Embedder + 'static) -> Result<Self> {
        Ok(Self {
            query: Tower::of(&embedder, Role::Query)?,
            document: Tower::of(&embedder, Role::Document)?,
            embedder: Arc::new(embedder),
            signature: Signature::user_defined(Volatility::Immutable),
        })
    }

    fn tower(&self, role: Role) -> &Tower {
        match role {
            Role::Query => &self.query,
            Role::Document => &self.document,
        }
    }

    fn vector_type(&self) -> DataType {
        DataType::FixedSizeList(element(), self.embedder.embedding_dim() as i32)
    }

    /// A vector for each text, NULL for a NULL; `vectors` has those of the others.
    fn list(&self, texts: &StringViewArray, vectors: &Embeddings) -> SqlResult<FixedSizeListArray> {
        let dim = self.embedder.embedding_dim();
        let mut values: Vec<f32> = Vec::with_capacity(texts.len() * dim);
        let mut vectors = vectors.as_array().rows().into_iter();
        for row in 0..texts.len() {
            match texts.is_valid(row) {
                true => values.extend(vectors.next().into_iter().flatten()),
                false => values.resize(values.len() + dim, 0.0),
            }
        }
        let values = Arc::new(Float32Array::from(values));
        Ok(FixedSizeListArray::try_new(element(), dim as i32, values, texts.nulls().cloned())?)
    }

    /// The vectors of the texts that are not NULL.
    fn embed(&self, role: Role, titles: Option<&StringViewArray>, texts: &StringViewArray) -> Result<Embeddings> {
        let title = |row| titles.filter(|titles| titles.is_valid(row)).map_or("", |titles| titles.value(row));
        let document = |(row, text): (usize, Option<&str>)| Some(Document::with_title(title(row), text?));
        match role {
            Role::Query => self.embedder.embed_queries(&texts.iter().flatten().map(Query::new).collect::<Vec<_>>()),
            Role::Document => {
                self.embedder.embed_documents(&texts.iter().enumerate().filter_map(document).collect::<Vec<_>>())
            }
        }
    }
}

impl ScalarUDFImpl for CareEmbed {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> SqlResult<Vec<DataType>> {
        if !matches!(arguments.len(), 2 | 3) {
            return plan_err!("{USAGE}, not {} arguments", arguments.len());
        }
        arguments.iter().map(string_type).collect()
    }

    fn return_type(&self, _: &[DataType]) -> SqlResult<DataType> {
        internal_err!("the type is that of return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> SqlResult<FieldRef> {
        let role = role(args.scalar_arguments.first().copied().flatten())?;
        if role == Role::Query && args.arg_fields.len() == 3 {
            return plan_err!("{USAGE}: queries have no title");
        }
        let (tower, nullable) = (self.tower(role), args.arg_fields.last().is_none_or(|text| text.is_nullable()));
        let field = Field::new(tower.field_name(), self.vector_type(), nullable);
        Ok(Arc::new(field.with_metadata(tower.metadata())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> SqlResult<ColumnarValue> {
        let (first, strings) = match args.args.split_first() {
            Some((ColumnarValue::Scalar(role), strings)) => (Some(role), strings),
            _ => (None, &[][..]),
        };
        let role = role(first)?;
        if self.tower(role).is_not(args.return_field.name()) {
            return exec_err!("the plan is for another {} tower than this process has opened", role.as_str());
        }
        // A constant is embedded once, not for every row.
        let is_constant = strings.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let (titles, texts) = match strings {
            [texts] => (None, string_array(texts, rows)?),
            [titles, texts] => (Some(string_array(titles, rows)?), string_array(texts, rows)?),
            _ => return exec_err!("{USAGE}"),
        };
        let (titles, texts) = (titles.as_ref().map(|titles| titles.as_string_view()), texts.as_string_view());
        let vectors = self.embed(role, titles, texts).map_err(|e| DataFusionError::External(e.into()))?;
        let list = self.list(texts, &vectors)?;
        Ok(match is_constant {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&list, 0)?),
            false => ColumnarValue::Array(Arc::new(list)),
        })
    }
}

/// The towers are compared by address: two models without fingerprints may differ.
impl PartialEq for CareEmbed {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.embedder, &other.embedder)
    }
}

impl Eq for CareEmbed {}

impl Hash for CareEmbed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.embedder).cast::<()>().hash(state);
    }
}

impl fmt::Debug for CareEmbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { query, document, .. } = self;
        f.debug_struct("CareEmbed").field("query", query).field("document", document).finish_non_exhaustive()
    }
}

/// A number of a vector, under the name that Parquet's specification has.
fn element() -> FieldRef {
    Arc::new(Field::new("element", DataType::Float32, false))
}

/// The type in which an argument is taken.
fn string_type(argument: &DataType) -> SqlResult<DataType> {
    match argument {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(argument.clone()),
        DataType::Dictionary(_, values) => string_type(values),
        DataType::Null => Ok(DataType::Utf8),
        other => plan_err!("{USAGE} of strings, not {other}"),
    }
}

fn role(argument: Option<&ScalarValue>) -> SqlResult<Role> {
    let name = argument.and_then(ScalarValue::try_as_str).flatten();
    match [Role::Query, Role::Document].into_iter().find(|role| name == Some(role.as_str())) {
        Some(role) => Ok(role),
        None => {
            let found = name.map_or("no literal".to_owned(), |name| format!("'{name}'"));
            plan_err!("the role of care_embed is {found}, allowed: 'query', 'document'")
        }
    }
}

fn string_array(value: &ColumnarValue, rows: usize) -> SqlResult<ArrayRef> {
    Ok(cast(&value.to_array(rows)?, &DataType::Utf8View)?)
}
