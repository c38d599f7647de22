//! The jobs worker of a database: what takes long and must hold up neither streams nor maintenance.

use super::board::{self, JobsEntry};
use super::{JOBS, reshape, warnings};
use crate::apply::statements::quote_ident;
use crate::catalog::deferred_index::{self, Due};
use crate::catalog::incident::{self, IncidentKind};
use crate::catalog::table::{self, execute};
use crate::catalog::verification::{self, Repair};
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::fence::{self, Fence};
use crate::pg::{bgworker, clock, relcache, top_level, xact};
use crate::verify::{self, Place, Subject, Verification};
use pgrx::prelude::*;

/// Main function of a jobs worker; the argument is the index of its database on the board.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn ods_jobs_main(index: pg_sys::Datum) {
    let Ok(entry) = JobsEntry::attach_index(index.value() as i32) else { return };
    bgworker::prepare_worker(Some(entry.database()), JOBS);
    loop {
        match next_job().and_then(|job| job.map(Job::run).transpose()) {
            Ok(Some(())) => {}
            Ok(None) => {
                entry.done();
                return;
            }
            // The launcher has this process come again after a pause.
            Err(error) => {
                warnings::tell(error.context(JOBS));
                return;
            }
        }
    }
}

enum Job {
    Index(Due),
    Verify(verification::Due),
    Reshape(i32),
}

/// What is to be done next. Indexes come first, since queries wait for them, then tables that wait
/// to be followed again.
fn next_job() -> Result<Option<Job>> {
    xact::in_transaction(|| match fence::status() {
        Fence::Ours => match deferred_index::next_due()? {
            Some(due) => Ok(Some(Job::Index(due))),
            None => match table::next_to_reshape()? {
                Some(id) => Ok(Some(Job::Reshape(id))),
                None => Ok(verification::take_due()?.map(Job::Verify)),
            },
        },
        Fence::NoIdentity | Fence::Foreign { .. } => Ok(None),
    })
}

impl Job {
    fn run(self) -> Result<()> {
        match self {
            Self::Index(due) => build(&due),
            Self::Verify(due) => compare(due),
            Self::Reshape(id) => reshape::run(id),
        }
    }
}

/// Compares a table with its source. Why that could not be done stands beside what others came to.
fn compare(due: verification::Due) -> Result<()> {
    bgworker::report_running("comparing a synced table with its source");
    let began = TimestampWithTimeZone::try_from(clock::now())
        .map_err(|_| OdsError::new(ErrorKind::Bug, "the clock is out of range"))?;
    let compared = xact::catch(|| {
        let subject = xact::in_transaction(|| Subject::find(due.table_id))?;
        let (stream, table) = (subject.stream, subject.table.clone());
        let report = Verification::run(subject, Place::Worker)?;
        xact::in_transaction(|| {
            let repaired = match due.repair {
                Repair::Yes => verify::repair(due.table_id, &report)?,
                Repair::No => 0,
            };
            verification::record(stream, &table, began, &report, repaired)?;
            board::wake_at_commit();
            Ok(())
        })
    });
    bgworker::report_idle();
    match compared {
        Ok(()) => Ok(()),
        Err(error) => {
            xact::in_transaction(|| verification::record_failure(due.table_id, began, &error))
        }
    }
}

/// Builds an index beside readers and the applier, and forgets that it was set aside. What is wrong
/// with the index itself is told as an incident, with the statement to run.
fn build(due: &Due) -> Result<()> {
    let index = format!("{}.{}", quote_ident(&due.schema), quote_ident(&due.index.name));
    let table = format!("{}.{}", quote_ident(&due.schema), quote_ident(&due.table));
    // An earlier attempt that was cut short has left an index that is of no use.
    let is_there = xact::in_transaction(|| {
        let is_valid = Spi::get_one_with_args::<bool>(
            "SELECT (SELECT i.indisvalid FROM pg_catalog.pg_index i \
             WHERE i.indexrelid = pg_catalog.to_regclass($1) AND i.indrelid = $2)",
            &[index.as_str().into(), due.relation.into()],
        )
        .map_err(table::spi_error)?;
        if is_valid == Some(false) {
            execute(&format!("DROP INDEX {index}"), &[])?;
        }
        Ok(is_valid == Some(true))
    })?;
    let name = quote_ident(&due.index.name);
    let definition = &due.index.definition;
    let built = if is_there {
        Ok(())
    } else {
        top_level::run(&format!("CREATE INDEX CONCURRENTLY {name} ON {table}{definition}"))
    };
    match built {
        Ok(()) => xact::in_transaction(|| {
            if let Some(comment) = &due.index.comment {
                let comment = pgrx::spi::quote_literal(comment);
                execute(&format!("COMMENT ON INDEX {index} IS {comment}"), &[])?;
            }
            deferred_index::remove(due.table_id, &due.index.name)
        }),
        Err(error) if error.kind.retry() == Retry::Never => give_up(due, &index, &table, &error),
        Err(error) => Err(error),
    }
}

fn give_up(due: &Due, index: &str, table: &str, error: &OdsError) -> Result<()> {
    let name = quote_ident(&due.index.name);
    let fix = format!("CREATE INDEX {name} ON {table}{};", due.index.definition);
    xact::in_transaction(|| {
        execute(&format!("DROP INDEX IF EXISTS {index}"), &[])?;
        incident::record(
            due.stream_id,
            Some((due.relation, &relcache::qualified_name(due.relation))),
            IncidentKind::Index,
            &format!("index {index}, set aside for the load, could not be built: {error}"),
            Some(&fix),
        )?;
        deferred_index::remove(due.table_id, &due.index.name)
    })
}
