//! What a statement has returned.

use super::{PqError, Refusal, Result, quotes_rows, text_of};
use pgrx::pg_sys;
use pq_sys::PGresult;
use std::ffi::c_int;
use std::ptr::NonNull;
use std::str::FromStr;

/// The rows of a statement, as text.
pub struct Rows(pub(super) NonNull<PGresult>);

impl Rows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        // SAFETY: a valid result until dropped.
        usize::try_from(unsafe { pq_sys::PQntuples(self.0.as_ptr()) }).unwrap_or(0)
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many columns a row has.
    pub fn width(&self) -> usize {
        // SAFETY: a valid result until dropped.
        usize::try_from(unsafe { pq_sys::PQnfields(self.0.as_ptr()) }).unwrap_or(0)
    }

    /// The bytes of a value, none where it is null or out of range.
    pub fn get_bytes(&self, row: usize, column: usize) -> Option<&[u8]> {
        if row >= self.len() || column >= self.width() {
            return None;
        }
        let (row, column) = (c_int::try_from(row).ok()?, c_int::try_from(column).ok()?);
        // SAFETY: the indexes are in range; the value lives as long as the result.
        unsafe {
            if pq_sys::PQgetisnull(self.0.as_ptr(), row, column) == 1 {
                return None;
            }
            let value = pq_sys::PQgetvalue(self.0.as_ptr(), row, column);
            let length = usize::try_from(pq_sys::PQgetlength(self.0.as_ptr(), row, column)).ok()?;
            Some(std::slice::from_raw_parts(value.cast(), length))
        }
    }

    /// A value as text, none where it is null, out of range or not UTF-8.
    pub fn get(&self, row: usize, column: usize) -> Option<&str> {
        std::str::from_utf8(self.get_bytes(row, column)?).ok()
    }

    /// A value that must be there, parsed.
    pub fn parse<T: FromStr>(&self, row: usize, column: usize) -> Result<T> {
        self.get(row, column).and_then(|text| text.parse().ok()).ok_or_else(|| {
            PqError::Unexpected(format!(
                "the source's answer has no usable value in column {}",
                column + 1
            ))
        })
    }

    pub(super) fn field(&self, code: u8) -> Option<String> {
        // SAFETY: a valid result; the string lives in it and is copied.
        unsafe { text_of(pq_sys::PQresultErrorField(self.0.as_ptr(), c_int::from(code))) }
    }

    /// Whether the error is one after which the source closes the connection.
    pub(super) fn ends_connection(&self) -> bool {
        matches!(
            self.field(pg_sys::PG_DIAG_SEVERITY_NONLOCALIZED).as_deref(),
            Some("FATAL" | "PANIC")
        )
    }

    pub(super) fn refusal(&self) -> Refusal {
        let sqlstate = self.field(pg_sys::PG_DIAG_SQLSTATE).unwrap_or_else(|| "XX000".to_owned());
        if quotes_rows(&sqlstate) {
            let message = format!(
                "the source raised SQLSTATE {sqlstate}; its message may quote a row and is in the source's log only"
            );
            return Refusal { sqlstate, message, detail: None, hint: None };
        }
        Refusal {
            sqlstate,
            message: self
                .field(pg_sys::PG_DIAG_MESSAGE_PRIMARY)
                .unwrap_or_else(|| "the source raised an error without a message".to_owned()),
            detail: self.field(pg_sys::PG_DIAG_MESSAGE_DETAIL),
            hint: self.field(pg_sys::PG_DIAG_MESSAGE_HINT),
        }
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        // SAFETY: ours, cleared once.
        unsafe { pq_sys::PQclear(self.0.as_ptr()) };
    }
}
