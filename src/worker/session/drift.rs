//! Columns that change at the source, at their place in the stream.

use super::{Session, board, enums, publication, reshape};
use crate::catalog::incident::{self, IncidentKind};
use crate::catalog::table::{self, OnDrift, SyncedTable};
use crate::decode::lsn::Lsn;
use crate::decode::pgoutput::Relation;
use crate::drift::evolve::{self, Done, Rewrites};
use crate::drift::{self, Step, ask, fix};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::libpq::Connection;
use crate::pg::{subxact, xact};
use crate::source::postgres::computed;
use crate::source::postgres::describe::SourceTable;
use crate::source::postgres::quote::quote_ident;
use crate::source::postgres::upkeep::Heartbeat;
use crate::worker::enums::Renames;
use std::time::{Duration, Instant};

/// Whether a table goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// It follows its source as that is.
    Followed,
    /// It is set aside.
    SetAside,
    /// Its changes pass by until its columns have been changed.
    PassesBy,
}

impl Session<'_> {
    /// Follows what a Relation message says of columns: what came before has the old shape.
    pub(super) fn follow_shape(&mut self, relation: &Relation) -> Result<()> {
        for id in self.applier.differing(relation) {
            // What was taken in before, by the shape it has.
            self.applier.flush()?;
            let Some(synced) = self.synced(id) else { continue };
            let (mut connection, look) = ask::look(&self.access, &synced)?;
            let Some(look) = look else {
                self.applier.fail(id, gone(&synced));
                continue;
            };
            if !feeds(&look.source, relation.id) {
                self.let_go(id, relation.id)?;
                continue;
            }
            let seen = drift::place(&synced, relation, &look.source.columns);
            let seen = match seen {
                Some(mut seen) => self
                    .applier
                    .within(|_| ask::name_types(&mut connection, &mut seen))?
                    .then_some(seen),
                None => None,
            };
            let Some(seen) = seen else {
                self.pass_by(&synced, look.until)?;
                continue;
            };
            let key = drift::key_said(&synced, relation, &seen);
            let steps = drift::plan(&synced, &seen);
            if drift::is_mixed(&synced, &steps, &seen) && self.applier.is_read(id) {
                // Rows that were read where the source had changed already were taken by the old names.
                let at = self.upkeep.matched_at();
                self.applier.within(|_| {
                    table::read_anew(id)?;
                    table::freeze_at(id, at)
                })?;
            }
            let taken =
                self.take_steps(&synced, &steps, key.as_deref(), &mut connection, look.until)?;
            if taken == Taken::PassesBy {
                continue;
            }
            let names = relation.columns.iter().map(|column| column.name.to_string());
            self.applier.leave_out(id, names);
        }
        Ok(())
    }

    /// Lets the changes of tables pass by that can't be brought together with a relation any more.
    pub(super) fn pass_unroutable(&mut self, relation: u32) -> Result<()> {
        for id in self.applier.unroutable(relation) {
            let Some(synced) = self.synced(id) else { continue };
            match ask::look(&self.access, &synced)?.1 {
                Some(look) if !feeds(&look.source, relation) => self.let_go(id, relation)?,
                Some(look) => self.pass_by(&synced, look.until)?,
                None => self.applier.fail(id, gone(&synced)),
            }
        }
        Ok(())
    }

    /// Follows changes that heartbeats have found, where the stream is as far.
    pub(super) fn settle_changes(&mut self) -> Result<()> {
        for (id, pending) in self.upkeep.take_due(self.position) {
            let Some(synced) = self.synced(id) else { continue };
            if !synced.state.is_followed() || synced.passes_until.is_some() {
                continue;
            }
            let source = &pending.look.source;
            let seen = drift::seen_now(&source.columns);
            let steps = drift::plan(&synced, &seen);
            if !steps.is_empty() && synced.columns != pending.known {
                // The stream itself has told of a change meanwhile, which may be a later one. The
                // next heartbeat tells.
                continue;
            }
            let key = drift::key_now(&synced, source, &seen);
            if self.applier.has_pending() {
                self.commit()?;
            }
            let mut connection = ask::connect(&self.access)?;
            let until = pending.look.until;
            let taken = self.take_steps(&synced, &steps, key.as_deref(), &mut connection, until)?;
            let mut reads_anew = false;
            if taken == Taken::Followed {
                let stream = &self.stream;
                let is_mixed = drift::is_mixed(&synced, &steps, &seen);
                for column in drift::taken_over(&synced, &steps, &seen) {
                    let name = column.target_name.as_deref().unwrap_or(&column.source_name);
                    self.applier.within(|_| tell_taken_over(stream.id, &synced, name))?;
                }
                if drift::computed::are_new(&synced, source) {
                    let found = computed::describe(&mut connection, synced.source_oid)?;
                    self.applier
                        .within(|_| drift::computed::tell(stream.id, &synced, &found, &seen))?;
                }
                reads_anew = self.applier.within(|_| {
                    let reads_anew = pending.finding.settle(stream, &synced)?;
                    if is_mixed {
                        table::read_anew(id)?;
                    }
                    Ok(reads_anew || is_mixed)
                })?;
            }
            self.commit()?;
            self.applier.leave_out(id, seen.into_iter().map(|column| column.name));
            self.reload_due = true;
            if reads_anew || taken != Taken::Followed {
                // What was found now has been so since the last look, at the longest.
                let at = self.upkeep.matched_at();
                xact::in_transaction(|| table::freeze_at(id, at))?;
            }
        }
        Ok(())
    }

    /// Follows the labels of enums, where they may be others than when that was last done.
    pub(super) fn follow_labels(&mut self, heartbeat: &Heartbeat) -> Result<()> {
        if heartbeat.labels.is_none() || heartbeat.labels == self.labels {
            return Ok(());
        }
        self.renames = None;
        if let Some(asked) = enums::ask(&self.access, self.stream.id)? {
            let renames = asked.renames_at(self.position);
            let given = enums::give(self.stream.id, &asked, renames)?;
            self.renames = given.renames_wait.then_some(asked);
        }
        self.labels.clone_from(&heartbeat.labels);
        Ok(())
    }

    /// Renames labels where the stream has passed the rows that have the old ones.
    pub(super) fn settle_renames(&mut self) -> Result<()> {
        let position = self.position;
        let Some(asked) = self.renames.take_if(|asked| asked.until <= position) else {
            return Ok(());
        };
        if self.applier.has_pending() {
            self.commit()?;
        }
        enums::give(self.stream.id, &asked, Renames::Made).map(|_| ())
    }

    /// Has tables followed again whose changes have passed by for long enough.
    pub(super) fn end_passing(&mut self) -> Result<()> {
        for id in self.applier.awaiting(self.position) {
            let Some(synced) = self.synced(id) else { continue };
            if synced.is_reshaped {
                continue;
            }
            if self.applier.has_pending() {
                self.commit()?;
            }
            let (mut connection, look) = ask::look(&self.access, &synced)?;
            let Some(look) = look else {
                self.applier.fail(id, gone(&synced));
                self.commit()?;
                continue;
            };
            let seen = drift::seen_now(&look.source.columns);
            let steps = drift::plan_now(&synced, &seen);
            let key = drift::key_now(&synced, &look.source, &seen);
            let taken =
                self.take_steps(&synced, &steps, key.as_deref(), &mut connection, look.until)?;
            if taken == Taken::Followed {
                // What the source has now may be ahead of the stream, and is only known to be what
                // the stream brings when nothing has changed in between.
                self.applier.within(|applier| match steps.is_empty() {
                    true => table::follow_again(id),
                    false => applier.pass_by(id, look.until),
                })?;
            }
            self.commit()?;
            self.reload_due = true;
        }
        Ok(())
    }

    fn synced(&mut self, id: i32) -> Option<SyncedTable> {
        self.applier.table(id).map(|table| table.synced.clone())
    }

    /// Takes steps in the transaction of the next commit, or has the table set aside with it. What
    /// would hold up other tables is left to the jobs worker: changes pass by up to `until` at least.
    fn take_steps(
        &mut self,
        synced: &SyncedTable,
        steps: &[Step],
        key: Option<&[String]>,
        connection: &mut Connection,
        until: Lsn,
    ) -> Result<Taken> {
        let stream = self.stream.id;
        let mut steps = steps.to_vec();
        if drift::leaves_out_new(synced) {
            // Which has been told before.
            steps.retain(|step| match step {
                Step::Add(column) => !self.applier.is_left_out(synced.id, &column.name),
                _ => true,
            });
        }
        let done = self.applier.within(|applier| {
            subxact::run(|| {
                if let Some(key) = key {
                    evolve::check_key(synced, key, &steps)?;
                }
                if steps.is_empty() {
                    return Ok(Done::Unchanged);
                }
                let done = evolve::evolve(stream, synced, &steps, Rewrites::Later, connection)?;
                if done == Done::Changed {
                    applier.reopen(synced.id)?;
                }
                Ok(done)
            })
        });
        match done {
            Ok(done) => {
                self.course.asked_for.remove(&synced.id);
                self.reload_due |= done == Done::Changed;
                Ok(Taken::Followed)
            }
            // An enum that has grown at the source just before: with its labels, the same again.
            Err(error)
                if error.kind == ErrorKind::AlreadyExists
                    && self.course.asked_until.is_none()
                    && self.course.asked_for.insert(synced.id) =>
            {
                Err(error)
            }
            Err(error) if error.kind == ErrorKind::Busy => {
                self.give_way(synced, until, &error)?;
                Ok(Taken::PassesBy)
            }
            Err(error) => {
                self.course.asked_for.remove(&synced.id);
                self.applier.fail(synced.id, evolve::explain(synced, error)?);
                Ok(Taken::SetAside)
            }
        }
    }

    /// Takes a partition that is none of its table's any more out of it, before a heartbeat does so:
    /// what becomes of its columns is its own.
    fn let_go(&mut self, id: i32, relation: u32) -> Result<()> {
        self.applier.within(|applier| {
            publication::drop_member(id, relation)?;
            applier.let_go(id, relation);
            Ok(())
        })?;
        self.reload_due = true;
        Ok(())
    }

    /// Lets the changes of a table pass by until the jobs worker has changed its columns.
    fn give_way(&mut self, synced: &SyncedTable, until: Lsn, busy: &OdsError) -> Result<()> {
        let (stream, id) = (self.stream.id, synced.id);
        let fix = busy.hint.as_deref();
        let reason =
            format!("{}; its changes pass by, and it is read anew after that", busy.message);
        self.applier.within(|applier| {
            incident::record(
                stream,
                Some((synced.relation, &synced.display())),
                IncidentKind::Drift,
                &reason,
                fix,
            )?;
            applier.pass_by(id, until)?;
            table::reshape_later(id, Duration::ZERO, &reason, fix)?;
            applier.reopen(id)
        })?;
        self.reload_due = true;
        Ok(())
    }

    /// Has the jobs worker look after tables whose columns it is to change.
    pub(super) fn have_reshaped(&mut self) {
        let mut tables = self.applier.tables();
        if self.reshape_asked_at.elapsed() >= reshape::PAUSE
            && tables.any(|table| table.synced.is_reshaped)
        {
            self.reshape_asked_at = Instant::now();
            board::wake_maintenance();
        }
    }

    /// Lets the changes of a table pass by until the stream is where its source was just now.
    fn pass_by(&mut self, synced: &SyncedTable, until: Lsn) -> Result<()> {
        let what = "its columns have changed several times, and what they were in between is not known any more";
        if synced.on_drift == OnDrift::Halt {
            self.applier.fail(synced.id, fix::halt(synced, what, fix::evolve(synced)));
            return Ok(());
        }
        let message = format!(
            "{}: {what}; from position {until} on it is read anew as it is now",
            fix::source(synced)
        );
        let stream = self.stream.id;
        self.applier.within(|applier| {
            incident::record(
                stream,
                Some((synced.relation, &synced.display())),
                IncidentKind::Drift,
                &message,
                None,
            )?;
            applier.pass_by(synced.id, until)
        })?;
        self.reload_due = true;
        Ok(())
    }
}

/// Says that a column here that was to keep its last values may hold some of another one's.
fn tell_taken_over(stream: i32, synced: &SyncedTable, column: &str) -> Result<()> {
    let (table, column) = (synced.display(), quote_ident(column));
    let message = format!(
        "{}: the column of {column} was dropped, and another one has its name: values of that one may stand in {column} here, in rows that came before this was found",
        fix::source(synced)
    );
    let fix =
        format!("SELECT * FROM {table} ORDER BY _ods_synced_at DESC;  -- the rows that came last");
    let table = Some((synced.relation, table.as_str()));
    incident::record(stream, table, IncidentKind::Drift, &message, Some(&fix))
}

/// Whether rows of a relation are rows of the table, as that is now.
fn feeds(source: &SourceTable, relation: u32) -> bool {
    source.oid == relation || source.leaves.iter().any(|leaf| leaf.oid == relation)
}

fn gone(synced: &SyncedTable) -> OdsError {
    OdsError::new(
        ErrorKind::Gap,
        format!("{} was dropped or made anew at the source", fix::source(synced)),
    )
}
