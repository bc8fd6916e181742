//! `care_embed` in the SQL of DataFusion: vectors, NULLs, types and refusals.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use care_core::{Document, Embedder, Embeddings, Query, Role};
use care_datafusion::CareEmbed;
use care_encoders::{AsymmetricEncoder, Device};
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Float32Type};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::{ParquetReadOptions, SessionContext};

static PAIR: LazyLock<AsymmetricEncoder> =
    LazyLock::new(|| AsymmetricEncoder::load(care_mini_zh::folder().unwrap(), &Device::Cpu.open().unwrap()).unwrap());

/// A context with the function and the demonstration corpus as the table `corpus`.
async fn context() -> SessionContext {
    let context = SessionContext::new();
    context.register_udf(CareEmbed::new(PAIR.clone()).unwrap().into());
    run(&context, &format!("CREATE EXTERNAL TABLE corpus STORED AS JSON LOCATION '{}'", corpus().display())).await;
    context
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cmedteb/data/mini/corpus.jsonl")
}

/// The documents of the corpus, with or without titles.
fn documents(titles: bool) -> Vec<Document> {
    let lines = std::fs::read_to_string(corpus()).unwrap();
    let document = |line| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let title = if titles { row["title"].as_str().unwrap() } else { "" };
        Document::with_title(title, row["text"].as_str().unwrap())
    };
    lines.lines().map(document).collect()
}

async fn run(context: &SessionContext, sql: &str) -> RecordBatch {
    let frame = context.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    concat_batches(&schema, &batches).unwrap()
}

async fn refusal(context: &SessionContext, sql: &str) -> String {
    match context.sql(sql).await {
        Err(e) => e.strip_backtrace(),
        Ok(frame) => panic!("{sql} is planned: {}", frame.logical_plan()),
    }
}

/// The vectors of column `at`; none may be NULL.
fn vectors(rows: &RecordBatch, at: usize) -> Embeddings {
    let lists = rows.column(at).as_fixed_size_list();
    assert_eq!(lists.null_count(), 0);
    let numbers = lists.values().as_primitive::<Float32Type>();
    Embeddings::from_rows(PAIR.embedding_dim(), numbers.values().chunks(PAIR.embedding_dim())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_sql_are_those_of_the_pair() {
    let context = context().await;
    let rows = run(
        &context,
        "SELECT care_embed('document', text) AS a, care_embed('document', title, text) AS b, care_embed('query', text) AS c
         FROM corpus",
    )
    .await;
    assert_eq!(rows.num_rows(), 432);
    assert_eq!(vectors(&rows, 0), PAIR.embed_documents(&documents(false)).unwrap());
    assert_eq!(vectors(&rows, 1), PAIR.embed_documents(&documents(true)).unwrap());
    let queries: Vec<Query> = documents(false).iter().map(|document| Query::new(document.text())).collect();
    assert_eq!(vectors(&rows, 2), PAIR.embed_queries(&queries).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_field_names_the_tower_also_in_parquet() {
    let (context, folder) = (context().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("vectors.parquet");
    let select = "SELECT _id, care_embed('document', title, text) AS vector FROM corpus LIMIT 3";
    run(&context, &format!("COPY ({select}) TO '{}' STORED AS PARQUET", file.display())).await;
    // DataFusion reads no metadata of columns unless asked to.
    let written =
        context.read_parquet(file.to_str().unwrap(), ParquetReadOptions::default().skip_metadata(false)).await.unwrap();
    for frame in [written, context.sql(select).await.unwrap()] {
        let field = frame.collect().await.unwrap()[0].schema().field(1).clone();
        assert_eq!(field.metadata()["care.fingerprint"], PAIR.fingerprint(Role::Document).unwrap().unwrap());
        let instruction = PAIR.document_key(&Document::with_title("{title}", "{text}"));
        assert_eq!(field.metadata()["care.instruction"], instruction);
        let DataType::FixedSizeList(element, dim) = field.data_type() else { panic!("{field}") };
        assert_eq!((element.data_type(), *dim as usize), (&DataType::Float32, PAIR.embedding_dim()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_finds_documents_by_a_function_of_datafusion() {
    let context = context().await;
    let rows = run(
        &context,
        "SELECT title FROM corpus
         ORDER BY inner_product(care_embed('document', title, text), care_embed('query', '偏头痛发作怎么缓解')) DESC LIMIT 3",
    )
    .await;
    let titles: Vec<&str> = rows.column(0).as_string::<i32>().iter().flatten().collect();
    assert!(titles.iter().any(|title| title.contains("偏头痛")), "{titles:?}");
}

#[tokio::test]
async fn a_null_text_has_a_null_vector_and_a_null_title_is_none() {
    let context = context().await;
    let rows = run(
        &context,
        "SELECT care_embed('document', title, text) AS vector FROM
         (VALUES (NULL, '多喝水'), ('感冒', NULL), ('感冒', '多喝水'), ('', '')) AS t (title, text)",
    )
    .await;
    let lists = rows.column(0).as_fixed_size_list();
    assert_eq!((0..4).map(|row| lists.is_null(row)).collect::<Vec<_>>(), [false, true, false, false]);
    let documents = [Document::new("多喝水"), Document::with_title("感冒", "多喝水"), Document::new("")];
    let expected = PAIR.embed_documents(&documents).unwrap();
    for (row, at) in [(0, 0), (2, 1), (3, 2)] {
        assert_eq!(lists.value(row).as_primitive::<Float32Type>().values().to_vec(), expected.row(at).to_vec());
    }
    let rows =
        run(&context, "SELECT care_embed('query', NULL), care_embed('query', text) FROM corpus WHERE false").await;
    assert_eq!(rows.num_rows(), 0);
    let rows = run(&context, "SELECT care_embed('query', NULL)").await;
    assert!(rows.column(0).is_null(0));
}

#[tokio::test]
async fn strings_of_every_type_are_taken() {
    let context = context().await;
    let expected = PAIR.embed_queries(&[Query::new("头痛")]).unwrap();
    for kind in ["Utf8", "LargeUtf8", "Utf8View", "Dictionary(Int32, Utf8)", "Dictionary(UInt8, LargeUtf8)"] {
        let sql = format!("SELECT care_embed('query', arrow_cast(text, '{kind}')) FROM (VALUES ('头痛')) AS t (text)");
        assert_eq!(vectors(&run(&context, &sql).await, 0), expected, "{kind}");
    }
    let frame = context.sql("SELECT care_embed('query', $1)").await.unwrap();
    let rows = frame.with_param_values(vec![ScalarValue::from("头痛")]).unwrap().collect().await.unwrap();
    assert_eq!(vectors(&rows[0], 0), expected);
}

#[tokio::test]
async fn what_cannot_be_embedded_is_refused_when_it_is_planned() {
    let context = context().await;
    let allowed = "allowed: 'query', 'document'";
    for (call, message) in [
        ("care_embed('passage', text)", format!("the role of care_embed is 'passage', {allowed}")),
        ("care_embed(_id, text)", format!("the role of care_embed is no literal, {allowed}")),
        ("care_embed(NULL, text)", format!("the role of care_embed is no literal, {allowed}")),
        ("care_embed('query', title, text)", "queries have no title".to_owned()),
        (
            "care_embed('query')",
            "care_embed takes (role, text) or ('document', title, text), not 1 arguments".to_owned(),
        ),
        (
            "care_embed('query', 5)",
            "care_embed takes (role, text) or ('document', title, text) of strings, not Int64".to_owned(),
        ),
    ] {
        let refusal = refusal(&context, &format!("SELECT {call} FROM corpus")).await;
        assert!(refusal.contains(&message), "{call}: {refusal}");
    }
}

/// An embedder that fails, and whose model may be any.
struct Broken(&'static str);

impl Embedder for Broken {
    fn embedding_dim(&self) -> usize {
        2
    }

    fn embed_queries(&self, _: &[Query]) -> care_core::Result<Embeddings> {
        Err(care_core::Error::setting("text", "x", "another"))
    }

    fn embed_documents(&self, documents: &[Document]) -> care_core::Result<Embeddings> {
        Embeddings::from_rows(2, documents.iter().map(|_| [0.0, 1.0]))
    }

    fn fingerprint(&self, _: Role) -> care_core::Result<Option<String>> {
        Ok(Some(self.0.to_owned()))
    }
}

#[tokio::test]
async fn an_error_of_the_tower_is_that_of_the_query() {
    let context = SessionContext::new();
    context.register_udf(CareEmbed::new(Broken("a")).unwrap().into());
    let sql = "SELECT care_embed('query', text) FROM (VALUES ('a'), ('b')) AS t (text)";
    let error = context.sql(sql).await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("`text` is x, allowed: another"), "{error}");
    let DataFusionError::External(cause) = error.find_root() else { panic!("{error:?}") };
    assert!(cause.downcast_ref::<care_core::Error>().is_some());
}

#[test]
fn a_worker_with_another_tower_refuses_a_plan() {
    use datafusion::arrow::datatypes::Field;
    use datafusion::config::ConfigOptions;
    use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs};

    let function = |fingerprint| ScalarUDF::from(CareEmbed::new(Broken(fingerprint)).unwrap());
    let (planner, same, other) = (function("a"), function("a"), function("b"));
    let role = ScalarValue::from("document");
    let fields = ["role", "text"].map(|name| Arc::new(Field::new(name, DataType::Utf8, false)));
    let arguments = ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &[Some(&role), None] };
    let field = planner.return_field_from_args(arguments).unwrap();
    assert!(!field.is_nullable());
    // What Ballista sends of a field.
    let sent = Arc::new(Field::new(field.name(), field.data_type().clone(), true));
    let invoke = |function: &ScalarUDF| {
        function.invoke_with_args(ScalarFunctionArgs {
            args: vec![ColumnarValue::Scalar(role.clone()), ColumnarValue::Scalar("x".into())],
            arg_fields: fields.to_vec(),
            number_rows: 1,
            return_field: sent.clone(),
            config_options: Arc::new(ConfigOptions::default()),
        })
    };
    invoke(&same).unwrap();
    let refusal = invoke(&other).unwrap_err().strip_backtrace();
    assert!(refusal.contains("the plan is for another document tower than this process has opened"), "{refusal}");
}
