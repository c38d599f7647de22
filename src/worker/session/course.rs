//! What becomes of changes that could not be written: looked for one by one, or tried again once the
//! labels are here that they lack.

use super::Session;
use crate::apply::applier::Care;
use crate::decode::lsn::Lsn;
use crate::error::{OdsError, Result};
use crate::worker::{enums, warnings};
use std::collections::HashSet;
use std::time::Duration;

/// How long batches are written under guard after a change that can't be applied: more may follow.
const GUARD_FOR: Duration = Duration::from_secs(60);

/// What a session leaves to the one after it.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// Up to here changes are written under guard.
    pub(super) careful_until: Option<Lsn>,
    /// Up to here the source was asked for labels, and had none that are not here.
    pub(super) asked_until: Option<Lsn>,
    /// Up to here each transaction is committed by itself, so that labels are renamed between two.
    pub(super) singly_until: Option<Lsn>,
    /// Tables for whose new columns it was asked.
    pub(super) asked_for: HashSet<i32>,
}

impl Course {
    /// How changes are gathered.
    pub(super) fn care(&self) -> Care {
        match self.careful_until {
            None => Care::Fast,
            Some(_) => Care::Guarded,
        }
    }
}

impl Session<'_> {
    /// Gives enums the labels that the source has added or renamed: with them, the same changes can be
    /// read. Where there are none, changes are looked for that can't be applied.
    pub(super) fn mend_labels(&mut self, error: OdsError) -> Result<()> {
        let (stream, mut ends) = (self.stream.id, self.sent_end.max(self.position));
        if let Some(asked) = enums::ask(&self.access, stream)? {
            // One by one, all before the transaction that failed are committed, and have the old label
            // of what it has by the new one. Of other labels rows may be yet to come by the old one.
            let is_single = self.course.singly_until.is_some();
            let renames = match asked.renames_at(self.stored) {
                enums::Renames::Wait if is_single => enums::Renames::Lacking(&error),
                renames => renames,
            };
            let given = enums::give(stream, &asked, renames)?;
            if given.renames_wait && !is_single {
                self.course.singly_until = Some(ends);
                return Ok(());
            }
            if given.has_changed {
                return Ok(());
            }
            if given.renames_wait && self.position > self.stored {
                // What comes after this transaction may have the labels that wait.
                ends = self.position;
            }
        }
        self.course.asked_until = Some(ends);
        if self.care == Care::Fast {
            self.begin_care(error);
        }
        Ok(())
    }

    /// Has the changes up to here written under guard by the next session.
    pub(super) fn begin_care(&mut self, error: OdsError) {
        let place =
            format!("stream {} looks for the changes that can't be applied", self.stream.id);
        warnings::tell(error.context(place));
        self.course.careful_until = Some(self.sent_end.max(self.position));
    }

    /// Ends what was begun up to a position that is committed.
    pub(super) fn settle_course(&mut self) {
        let stored = self.stored;
        let is_past = |until: Option<Lsn>| until.is_some_and(|until| stored >= until);
        let is_quiet = self.applier.kept_letter_at().is_none_or(|at| at.elapsed() >= GUARD_FOR);
        if is_quiet && is_past(self.course.careful_until) {
            self.course.careful_until = None;
            self.care = Care::Fast;
            self.applier.set_care(Care::Fast);
        }
        if is_past(self.course.asked_until) {
            self.course.asked_until = None;
            self.applier.set_asks_labels(true);
        }
        if is_past(self.course.singly_until) {
            self.course.singly_until = None;
        }
    }
}
