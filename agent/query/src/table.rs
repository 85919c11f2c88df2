//! The table over the files: each of them is read when a query wants its rows, several at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use crate::notes::Notes;
use crate::survey::Source;
use crate::{parquet_file, text_file};

/// Batches that wait to be taken, of each partition.
const WAITING: usize = 2;

/// Files as one table.
#[derive(Debug)]
pub(crate) struct FlowTable {
    pub(crate) schema: SchemaRef,
    pub(crate) sources: Arc<[Source]>,
    pub(crate) notes: Arc<Notes>,
}

/// Every so-and-so-many-th file. It may be read more than once.
#[derive(Debug)]
struct Part {
    /// The columns that are wanted.
    schema: SchemaRef,
    sources: Arc<[Source]>,
    notes: Arc<Notes>,
    first: usize,
    step: usize,
    /// Files that this and the other parts have read.
    read: Arc<AtomicUsize>,
}

#[async_trait]
impl TableProvider for FlowTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let step = state.config().target_partitions().min(self.sources.len());
        let step = step.max(1);
        let read = Arc::new(AtomicUsize::new(0));
        let part = |first| {
            let part: Arc<dyn PartitionStream> = Arc::new(Part {
                schema: Arc::clone(&schema),
                sources: Arc::clone(&self.sources),
                notes: Arc::clone(&self.notes),
                first,
                step,
                read: Arc::clone(&read),
            });
            part
        };
        let parts = (0..step).map(part).collect();
        let plan = StreamingTableExec::try_new(Arc::clone(&schema), parts, None, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), WAITING);
        let rows = stream.tx();
        let (schema, sources) = (Arc::clone(&self.schema), Arc::clone(&self.sources));
        let (notes, read) = (Arc::clone(&self.notes), Arc::clone(&self.read));
        let (first, step) = (self.first, self.step);
        stream.spawn_blocking(move || {
            // Nobody takes batches any more once the query has what it wants.
            let mut is_wanted = true;
            for source in sources.iter().skip(first).step_by(step) {
                let mut take = |batch: RecordBatch| {
                    is_wanted = rows.blocking_send(Ok(batch)).is_ok();
                    is_wanted
                };
                let outcome = if source.file.is_parquet {
                    parquet_file::read(source, &schema, &mut take)
                } else {
                    text_file::read(source, &schema, &notes, &mut take)
                };
                if let Err(problem) = outcome {
                    notes.warn(&source.file.path, &problem);
                }
                let done = read.fetch_add(1, Ordering::Relaxed) + 1;
                notes.progress(done, sources.len(), "read");
                if !is_wanted {
                    break;
                }
            }
            Ok(())
        });
        stream.build()
    }
}
