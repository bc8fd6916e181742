//! SQL with `care_embed`: in this process, or on Ballista with a scheduler and any number of executors.
//!
//! ```sh
//! sql --model mini query "CREATE EXTERNAL TABLE corpus STORED AS JSON LOCATION 'corpus.jsonl'" \
//!     "SELECT _id, care_embed('document', title, text) AS vector FROM corpus LIMIT 3"
//!
//! sql --model mini scheduler --port 50050
//! sql --model mini executor --port 50051 --scheduler 50050
//! sql --model mini executor --port 50052 --scheduler 50050
//! sql --model mini query --scheduler 50050 "CREATE EXTERNAL TABLE .." "COPY (SELECT ..) TO 'vectors.parquet'"
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use ballista::prelude::{SessionConfigExt, SessionContextExt};
use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::utils::default_session_builder;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::start_server;
use care_datafusion::CareEmbed;
use clap::{Parser, Subcommand};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::{SessionConfig, SessionContext};

#[derive(Parser)]
struct Args {
    /// Folder of a model, or `mini`.
    #[arg(long)]
    model: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs SQL statements and prints their rows.
    Query {
        /// Port of a scheduler, on which the statements run. Default: they run in this process.
        #[arg(long)]
        scheduler: Option<u16>,
        statements: Vec<String>,
    },
    /// A scheduler of Ballista.
    Scheduler {
        #[arg(long)]
        port: u16,
    },
    /// An executor of Ballista.
    Executor {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        scheduler: u16,
        /// Folder of intermediate results. Default: a temporary one.
        #[arg(long)]
        work_dir: Option<String>,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let function = open(&args.model)?;
    match args.command {
        Command::Query { scheduler, statements } => query(function, scheduler, &statements).await,
        Command::Scheduler { port } => run_scheduler(function, port).await,
        Command::Executor { port, scheduler, work_dir } => run_executor(function, port, scheduler, work_dir).await,
    }
}

/// Every process opens the model once.
fn open(model: &Path) -> Result<ScalarUDF> {
    let folder = if model == Path::new("mini") { care_mini_zh::folder()? } else { model.to_owned() };
    Ok(CareEmbed::open(folder)?.into())
}

async fn query(function: ScalarUDF, scheduler: Option<u16>, statements: &[String]) -> Result<()> {
    let context = match scheduler {
        None => SessionContext::new(),
        Some(port) => SessionContext::remote(&format!("df://localhost:{port}")).await?,
    };
    context.register_udf(function);
    for statement in statements {
        context.sql(statement).await?.show().await?;
    }
    Ok(())
}

/// The scheduler plans, and needs the function for its type.
async fn run_scheduler(function: ScalarUDF, port: u16) -> Result<()> {
    let session = move |config| with_function(config, &function);
    let mut config = SchedulerConfig::default()
        .with_scheduler_policy(TaskSchedulingPolicy::PullStaged)
        .with_override_session_builder(Arc::new(session));
    config.bind_port = port;
    let cluster = BallistaCluster::new_from_config(&config).await?;
    Ok(start_server(cluster, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Arc::new(config)).await?)
}

async fn run_executor(function: ScalarUDF, port: u16, scheduler: u16, work_dir: Option<String>) -> Result<()> {
    let state = with_function(SessionConfig::new_with_ballista(), &function)?;
    let config = ExecutorProcessConfig {
        port,
        scheduler_port: scheduler,
        scheduler_connect_timeout_seconds: 60,
        // The towers use all cores for a batch.
        vcores: 1,
        task_scheduling_policy: TaskSchedulingPolicy::PullStaged,
        work_dir,
        override_function_registry: Some(Arc::new(BallistaFunctionRegistry::from(&state))),
        ..Default::default()
    };
    Ok(start_executor_process(Arc::new(config)).await?)
}

/// The functions of Ballista, and `care_embed`.
fn with_function(config: SessionConfig, function: &ScalarUDF) -> datafusion::common::Result<SessionState> {
    let mut state = default_session_builder(config)?;
    state.register_udf(Arc::new(function.clone()))?;
    Ok(state)
}
