//! `care_embed` on Ballista: a scheduler, two executors and a client, each a process of the example `sql`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use care_core::{Document, Embedder};
use care_encoders::{AsymmetricEncoder, Device};
use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float32Type};
use datafusion::prelude::{ParquetReadOptions, SessionContext};

/// Files of the corpus, each a task of one executor.
const FILES: usize = 6;

/// A process that ends with its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The example `sql`, which cargo builds with the tests.
fn sql() -> Command {
    let program = std::env::current_exe().unwrap().with_file_name("../examples/sql");
    assert!(program.exists(), "{program:?} is missing: cargo build --example sql");
    let mut command = Command::new(program);
    command.args(["--model", "mini"]);
    command
}

fn free_port() -> String {
    TcpListener::bind("localhost:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Waits until a server listens.
fn wait_for(port: &str) {
    let address = format!("localhost:{port}");
    let mut tries = 0..600;
    while TcpStream::connect(&address).is_err() {
        assert!(tries.next().is_some(), "nobody listens at {address}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn rows() -> Vec<serde_json::Value> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cmedteb/data/mini/corpus.jsonl");
    std::fs::read_to_string(corpus).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The vectors of Parquet files by id.
async fn read(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let frame =
        SessionContext::new().read_parquet(path.to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
    let batches = frame.select_columns(&["_id", "embedding"]).unwrap().collect().await.unwrap();
    let mut vectors = BTreeMap::new();
    for batch in batches {
        let ids = cast(batch.column(0), &DataType::Utf8).unwrap();
        let lists = cast(batch.column(1), &DataType::new_list(DataType::Float32, true)).unwrap();
        for (id, list) in ids.as_string::<i32>().iter().zip(lists.as_list::<i32>().iter()) {
            let vector = list.unwrap().as_primitive::<Float32Type>().values().to_vec();
            assert!(vectors.insert(id.unwrap().to_owned(), vector).is_none(), "{id:?} twice");
        }
    }
    vectors
}

#[tokio::test]
async fn two_executors_give_the_vectors_of_the_pair_and_of_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let (corpus, output, rows) = (folder.path().join("corpus"), folder.path().join("vectors"), rows());
    std::fs::create_dir(&corpus).unwrap();
    for (file, rows) in rows.chunks(rows.len().div_ceil(FILES)).enumerate() {
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(corpus.join(format!("{file}.json")), lines).unwrap();
    }

    let port = free_port();
    let _scheduler = Process(sql().args(["scheduler", "--port", &port]).spawn().unwrap());
    wait_for(&port);
    let work_dirs: [PathBuf; 2] = ["first", "second"].map(|name| folder.path().join(name));
    let _executors = work_dirs.each_ref().map(|work_dir| {
        std::fs::create_dir(work_dir).unwrap();
        let own = free_port();
        let arguments = ["executor", "--port", &own, "--scheduler", &port, "--work-dir"];
        Process(sql().args(arguments).arg(work_dir).spawn().unwrap())
    });

    let select = "SELECT _id, care_embed('document', title, text) AS embedding FROM corpus";
    let statements = [
        format!("CREATE EXTERNAL TABLE corpus STORED AS JSON LOCATION '{}/'", corpus.display()),
        format!("COPY ({select}) TO '{}/' STORED AS PARQUET", output.display()),
    ];
    let client = sql().args(["query", "--scheduler", &port]).args(statements).output().unwrap();
    assert!(client.status.success(), "{}", String::from_utf8_lossy(&client.stderr));
    for work_dir in &work_dirs {
        assert!(std::fs::read_dir(work_dir).unwrap().count() > 0, "{work_dir:?}: this executor had nothing to do");
    }

    let found = read(&output).await;
    let pair = AsymmetricEncoder::load(care_mini_zh::folder().unwrap(), &Device::Cpu.open().unwrap()).unwrap();
    let text = |row: &serde_json::Value, field: &str| row[field].as_str().unwrap().to_owned();
    let documents: Vec<_> =
        rows.iter().map(|row| Document::with_title(text(row, "title"), text(row, "text"))).collect();
    let vectors = pair.embed_documents(&documents).unwrap();
    let expected = rows.iter().enumerate().map(|(at, row)| (text(row, "_id"), vectors.row(at).to_vec())).collect();
    assert_eq!(found, expected);

    // The program, if `CARE` names it.
    let Some(program) = std::env::var_os("CARE") else { return };
    let (input, output) = (
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../cmedteb/data/mini/corpus.jsonl"),
        folder.path().join("care.parquet"),
    );
    let mut embed = Command::new(program);
    embed.args(["embed", "--model", "mini", "--role", "document", "--input"]).arg(input).arg("--output").arg(&output);
    assert!(embed.status().unwrap().success());
    assert_eq!(found, read(&output).await);
}
