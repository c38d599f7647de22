//! Changes columns of a table that could not be changed within its stream: somebody held the table,
//! or all its rows are written anew. Its changes pass by meanwhile.

use super::board;
use super::enums::{self, Renames};
use crate::apply::applier;
use crate::catalog::table;
use crate::drift::evolve::{self, Rewrites};
use crate::drift::{self, Step, ask};
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::guard;
use crate::pg::{bgworker, guc, latch, subxact, xact};
use crate::verify::Subject;
use std::time::Duration;

/// Between two attempts: whoever comes while one is made has to wait.
pub const PAUSE: Duration = Duration::from_secs(4);

/// After an attempt that its source, or something here, has made fail.
const LONG_PAUSE: Duration = Duration::from_secs(15);

/// Makes a table have the columns that its source has now, and lets its changes pass by up to there.
pub fn run(id: i32) -> Result<()> {
    bgworker::report_running("changing the columns of a synced table");
    let ran = xact::catch(|| reshape(id));
    bgworker::report_idle();
    match ran {
        // A source that is away, or a lock here, holds up this table alone: others have their turn.
        Err(error) if error.kind.retry() == Retry::Backoff => {
            xact::recover();
            let (message, hint) = (&error.message, error.hint.as_deref());
            xact::in_transaction(|| table::reshape_later(id, LONG_PAUSE, message, hint).map(|_| ()))
        }
        ran => ran,
    }
}

fn reshape(id: i32) -> Result<()> {
    guard::become_writer();
    let Subject { stream, table: synced, access } = xact::in_transaction(|| Subject::find(id))?;
    let (mut connection, look) = ask::look(&access, &synced)?;
    let seen = look.as_ref().map(|look| drift::seen_now(&look.source.columns)).unwrap_or_default();
    let steps = drift::plan_now(&synced, &seen);
    if steps.iter().any(|step| matches!(step, Step::Add(_)))
        && let Some(asked) = enums::ask(&access, stream)?
    {
        // A new column may be of an enum that has grown just before.
        enums::give(stream, &asked, Renames::Wait)?;
    }
    let is_told = xact::in_transaction(|| {
        let Some(look) = look else {
            let gone = OdsError::new(
                ErrorKind::Gap,
                format!("{} was dropped or made anew at the source", drift::fix::source(&synced)),
            );
            board::wake_at_commit();
            return applier::set_aside(stream, id, &synced, &gone).map(|()| true);
        };
        let key = drift::key_now(&synced, &look.source, &seen);
        let done = subxact::run(|| {
            guc::with_lock_timeout(evolve::PATIENCE, || {
                subxact::run(|| table::state_for_update(id))
            })?;
            if !table::is_to_reshape(id)? {
                return Err(OdsError::new(ErrorKind::Stale, "somebody has changed its state"));
            }
            if let Some(key) = key {
                evolve::check_key(&synced, &key, &steps)?;
            }
            if !steps.is_empty() {
                evolve::evolve(stream, &synced, &steps, Rewrites::Now, &mut connection)?;
            }
            // From here on the stream brings what the source has now.
            table::pass_until(id, look.until)
        });
        match done {
            Ok(()) => {
                board::wake_at_commit();
                Ok(true)
            }
            // The catalog says what is to be done now.
            Err(error) if error.kind == ErrorKind::Stale => Ok(false),
            Err(error) if error.kind == ErrorKind::Busy => {
                table::reshape_later(id, PAUSE, &error.message, error.hint.as_deref())
            }
            Err(error) if error.kind.retry() == Retry::Backoff => Err(error),
            Err(error) => {
                let error = evolve::explain(&synced, error)?;
                board::wake_at_commit();
                applier::set_aside(stream, id, &synced, &error).map(|()| true)
            }
        }
    })?;
    if !is_told {
        // Somebody has changed its state, or is about to.
        latch::wait(Some(Duration::from_secs(1)));
    }
    Ok(())
}
