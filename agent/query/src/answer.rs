//! A question from its options to its answer.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use branchline::cli::QueryArguments;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::cast;
use datafusion::prelude::{DataFrame, Expr, SessionConfig, SessionContext, ident};

use crate::columns::{self, FLOW_LOG_ID};
use crate::condition::{ConditionError, condition, in_network};
use crate::files::{self, ListError, Times};
use crate::notes::Notes;
use crate::print::{self, Form};
use crate::survey::{self, Source};
use crate::table::FlowTable;

/// Bytes beyond which sorting and grouping go to the folder for temporary files.
const MEMORY: usize = 1 << 30;
/// Rows of a table for people, if nothing else is said.
const TABLE_ROWS: usize = 1_000;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    #[error("no folder to read; name one by --dir")]
    NoFolder,
    #[error(transparent)]
    List(#[from] ListError),
    #[error("no flow-log files (*.log.gz, *.log.parquet) below {0}; name their folder by --dir")]
    NoFiles(String),
    #[error("none of the {0} flow-log files can be read")]
    NoneReadable(usize),
    #[error(transparent)]
    Condition(#[from] ConditionError),
    #[error("{}", one_line(.0))]
    Engine(DataFusionError),
    #[error("start the async runtime")]
    Runtime(#[source] io::Error),
    #[error("print the answer")]
    Print(#[source] io::Error),
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        Self::Engine(error)
    }
}

/// What is wrong, without the engine's own stack and its list of all columns.
fn one_line(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join(" ");
    match line.split_once(" Valid fields are ") {
        Some((wrong, _)) => {
            format!("{wrong} For the columns write --sql \"SHOW COLUMNS FROM flows\"")
        }
        None => line,
    }
}

/// Answers on standard output.
///
/// # Errors
/// See [`QueryError`].
pub(crate) fn run(arguments: &QueryArguments) -> Result<(), QueryError> {
    let notes = Arc::new(Notes::new());
    let times = Times::new(
        arguments.since.map(|moment| moment.0),
        arguments.until.map(|moment| moment.0),
    );
    let sources = sources(arguments, times, &notes)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(QueryError::Runtime)?;
    runtime.block_on(answer(arguments, times, sources, &notes))
}

/// The files that are asked.
fn sources(
    arguments: &QueryArguments,
    times: Times,
    notes: &Notes,
) -> Result<Vec<Source>, QueryError> {
    if arguments.dir.is_empty() {
        return Err(QueryError::NoFolder);
    }
    let found = files::find(&arguments.dir)?;
    if found.is_empty() {
        return Err(QueryError::NoFiles(names(&arguments.dir)));
    }
    let chosen = files::choose(found, times, &arguments.flow_log);
    let count = chosen.len();
    let sources = survey::survey(chosen, notes);
    if sources.is_empty() && count > 0 {
        return Err(QueryError::NoneReadable(count));
    }
    let ids = survey::flow_log_ids(&sources);
    if ids.len() > 1
        && arguments
            .sql
            .as_ref()
            .is_none_or(|sql| !sql.contains(FLOW_LOG_ID))
    {
        let ids: Vec<_> = ids.iter().map(AsRef::as_ref).collect();
        notes.say(format!(
            "note: these are rows of {} flow logs, which may tell of the same packets; choose by --flow-log: {}",
            ids.len(),
            ids.join(", ")
        ));
    }
    Ok(sources)
}

fn names(folders: &[PathBuf]) -> String {
    let names = folders.iter().map(|folder| folder.display().to_string());
    names.collect::<Vec<_>>().join(", ")
}

async fn answer(
    arguments: &QueryArguments,
    times: Times,
    sources: Vec<Source>,
    notes: &Arc<Notes>,
) -> Result<(), QueryError> {
    let form = match (arguments.json, arguments.csv) {
        (true, _) => Form::Json,
        (false, true) => Form::Csv,
        (false, false) => Form::Table,
    };
    let mut present = survey::present(&sources);
    let schema = columns::schema(&present);
    if sources.is_empty() {
        // No file is of that time: no row, but every column.
        present.extend(schema.fields().iter().map(|field| field.name().clone()));
    }
    present.insert(FLOW_LOG_ID.to_owned());
    let engine = engine()?;
    let table = FlowTable {
        schema: Arc::clone(&schema),
        sources: sources.into(),
        notes: Arc::clone(notes),
    };
    let mut flows = engine.read_table(Arc::new(table))?;
    if let Some(condition) = condition(&arguments.filter(), times, &present)? {
        flows = flows.filter(condition)?;
    }
    let rows = match &arguments.sql {
        Some(sql) => {
            engine.register_table("flows", flows.into_view())?;
            engine.sql_with_options(sql, read_only()).await?
        }
        None => {
            let is_present = |name: &str| present.contains(name);
            let names = schema.fields().iter().map(|field| field.name().as_str());
            let all = names.filter(|name| is_present(name)).map(ident);
            let shown = match form {
                Form::Table => for_people(&is_present),
                Form::Json | Form::Csv => all.collect(),
            };
            in_order(flows, &is_present)?.select(shown)?
        }
    };
    limited(rows, form, arguments.limit, notes).await
}

/// Nothing but questions to the tables that are registered.
fn read_only() -> SQLOptions {
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
}

fn engine() -> Result<SessionContext, QueryError> {
    let config = SessionConfig::new().with_information_schema(true);
    let limits = RuntimeEnvBuilder::new().with_memory_limit(MEMORY, 1.0);
    let engine = SessionContext::new_with_config_rt(config, limits.build_arc()?);
    engine.register_udf(in_network());
    Ok(engine)
}

fn in_order(flows: DataFrame, is_present: &impl Fn(&str) -> bool) -> Result<DataFrame, QueryError> {
    let order: Vec<_> = ["start", "end", "bl_sequence"]
        .into_iter()
        .filter(|name| is_present(name))
        .map(|name| ident(name).sort(true, false))
        .collect();
    if order.is_empty() {
        return Ok(flows);
    }
    Ok(flows.sort(order)?)
}

/// What people want to see of a row, as far as files have it.
fn for_people(is_present: &impl Fn(&str) -> bool) -> Vec<Expr> {
    let mut shown = Vec::new();
    if is_present("start") {
        let seconds = DataType::Timestamp(TimeUnit::Second, None);
        shown.push(cast(ident("start"), seconds).alias("start_utc"));
    }
    let tasks = ["bl_task_id", "ecs_task_id"].into_iter();
    let tasks: Vec<_> = tasks.filter(|name| is_present(name)).map(ident).collect();
    if !tasks.is_empty() {
        shown.push(coalesce(tasks).alias("task"));
    }
    let others = [
        "interface_id",
        "flow_direction",
        "protocol",
        "srcaddr",
        "srcport",
        "dstaddr",
        "dstport",
        "action",
        "packets",
        "bytes",
        "log_status",
    ];
    shown.extend(
        others
            .into_iter()
            .filter(|name| is_present(name))
            .map(ident),
    );
    if shown.is_empty() {
        shown.push(ident(FLOW_LOG_ID));
    }
    shown
}

async fn limited(
    rows: DataFrame,
    form: Form,
    limit: Option<usize>,
    notes: &Notes,
) -> Result<(), QueryError> {
    let (most, fetch) = match (limit, form) {
        (Some(limit), _) => (limit, Some(limit)),
        // One more, to know whether there are more.
        (None, Form::Table) => (TABLE_ROWS, Some(TABLE_ROWS + 1)),
        (None, Form::Json | Form::Csv) => (usize::MAX, None),
    };
    let rows = match fetch {
        Some(fetch) => rows.limit(0, Some(fetch))?,
        None => rows,
    };
    let schema = Arc::new(rows.schema().as_arrow().clone());
    let stream = rows.execute_stream().await?;
    let has_more = print::print(stream, &schema, form, most, notes).await?;
    if has_more {
        notes.say(format!(
            "note: the first {most} rows; write --limit, --json or --csv for more"
        ));
    }
    Ok(())
}
