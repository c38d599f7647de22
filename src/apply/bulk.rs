//! Many new rows at once, by COPY.

use crate::apply::target::Target;
use crate::batch::When;
use crate::error::Result;
use crate::freshness::timestamp_text;
use crate::load::copy_text::push_field;
use crate::pg::copy_from::{CopySource, copy_from};

/// From this many rows on, COPY beats an INSERT over the batch in spite of its longer start.
pub const WORTHWHILE: usize = 64;

/// A row to insert.
pub struct BulkRow<'r> {
    /// Its values in batch order.
    pub values: Box<dyn Iterator<Item = Option<&'r [u8]>> + 'r>,
    /// When and where the event was that told it.
    pub when: When,
}

/// Inserts rows that are known to be new.
pub fn insert<'r>(target: &Target, rows: impl Iterator<Item = BulkRow<'r>>) -> Result<()> {
    let mut columns = target.shape.targets();
    columns.push("_ods_committed_at".to_owned());
    let has_position = target.shape.has_position;
    if has_position {
        columns.push("_ods_position".to_owned());
    }
    let mut lines =
        Lines { rows, line: Vec::new(), sent: 0, stamp: (None, Vec::new()), has_position };
    copy_from(target.relation, &columns, &target.encoding_name(), &mut lines)?;
    Ok(())
}

/// Rows on their way into COPY, a line at a time.
struct Lines<I> {
    rows: I,
    line: Vec<u8>,
    sent: usize,
    /// The last commit time and its text: rows of one transaction share it.
    stamp: (Option<i64>, Vec<u8>),
    has_position: bool,
}

impl<'r, I: Iterator<Item = BulkRow<'r>>> CopySource for Lines<I> {
    fn fill(&mut self, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < buffer.len() {
            if self.sent == self.line.len() {
                let Some(row) = self.rows.next() else { break };
                self.begin(row);
            }
            let rest = &self.line[self.sent..];
            let taken = rest.len().min(buffer.len() - filled);
            buffer[filled..filled + taken].copy_from_slice(&rest[..taken]);
            self.sent += taken;
            filled += taken;
        }
        filled
    }
}

impl<'r, I: Iterator<Item = BulkRow<'r>>> Lines<I> {
    fn begin(&mut self, row: BulkRow<'r>) {
        self.line.clear();
        self.sent = 0;
        for value in row.values {
            push_field(&mut self.line, value);
            self.line.push(b'\t');
        }
        match row.when.committed_at_us {
            None => push_field(&mut self.line, None),
            Some(at) => {
                if self.stamp.0 != Some(at) {
                    self.stamp = (Some(at), timestamp_text(at).into_bytes());
                }
                self.line.extend_from_slice(&self.stamp.1);
            }
        }
        if self.has_position {
            self.line.push(b'\t');
            match row.when.position {
                None => push_field(&mut self.line, None),
                Some(position) => self.line.extend_from_slice(position.to_string().as_bytes()),
            }
        }
        self.line.push(b'\n');
    }
}
