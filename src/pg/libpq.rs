//! Connections to a source through libpq: non-blocking, with deadlines, owned.
//!
//! libpq never longjmps, so its calls need no guard. What waits goes through [`super::wait`], which
//! serves interrupts and may unwind; a [`Connection`] closes its socket whichever way it is left.
//! Messages that come out of here never hold the password: libpq does not repeat it, and connection
//! strings are not used, parameters are passed one by one.

mod error;
#[cfg(feature = "pg_test")]
mod in_server;
mod rows;
#[cfg(test)]
mod unit;

pub use error::{PqError, Refusal};
pub use rows::Rows;

use crate::pg::wait::{self, Deadline, Interest, Watch};
use pgrx::pg_sys;
use pq_sys::{ConnStatusType, ExecStatusType, PGconn, PGresult, PostgresPollingStatusType};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ops::Deref;
use std::ptr::{self, NonNull};

type Result<T> = std::result::Result<T, PqError>;

/// Whether all that was to be sent has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Everything is with the kernel.
    Done,
    /// Wait for [`Connection::writable`] or bytes to read, then flush again.
    Pending,
}

/// Whether libpq took the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// They are queued; flush.
    Queued,
    /// The queue is full: flush, wait and offer them again.
    Full,
}

/// The next piece of a COPY from the source.
pub enum CopyPoll {
    /// One CopyData message.
    Row(CopyBuffer),
    /// Nothing whole has arrived: wait for the socket and consume input.
    WouldBlock,
    /// The source ended the copy; [`Connection::next_result`] tells how.
    End,
}

/// What a statement has come to.
pub enum Step {
    /// A result, perhaps without rows.
    Rows(Rows),
    /// A COPY … TO STDOUT has begun.
    CopyOut,
    /// A replication stream has begun.
    CopyBoth,
    /// Nothing whole has arrived: wait for the socket and consume input.
    WouldBlock,
    /// The statement is over.
    Done,
}

/// A connection to a source. Dropping it closes it.
pub struct Connection {
    raw: NonNull<PGconn>,
    id: u64,
    /// False while a statement runs that nobody may be left to read.
    settled: bool,
}

impl Connection {
    /// Opens a connection with libpq's `parameters`, by `deadline`. Name lookup is libpq's and blocks;
    /// all else is served by the latch.
    pub fn open(parameters: &[(&str, &str)], deadline: Deadline) -> Result<Self> {
        let mut texts = Vec::with_capacity(parameters.len());
        for (keyword, value) in parameters {
            texts.push((c_string(keyword)?, c_string(value)?));
        }
        let mut keywords: Vec<_> = texts.iter().map(|(keyword, _)| keyword.as_ptr()).collect();
        let mut values: Vec<_> = texts.iter().map(|(_, value)| value.as_ptr()).collect();
        keywords.push(ptr::null());
        values.push(ptr::null());

        let descriptor = Descriptor::acquire()?;
        // SAFETY: both arrays end with a null pointer and their strings outlive the call. Without
        // expand_dbname, dbname is a name and never a connection string.
        let raw = unsafe { pq_sys::PQconnectStartParams(keywords.as_ptr(), values.as_ptr(), 0) };
        let Some(raw) = NonNull::new(raw) else {
            return Err(PqError::Lost("libpq is out of memory".to_owned()));
        };
        // From here the connection gives the descriptor back.
        std::mem::forget(descriptor);
        let id = wait::watch_id();
        let mut connection = Self { raw, id, settled: true };
        // SAFETY: the connection is open for calls; the receiver keeps nothing.
        unsafe {
            pq_sys::PQsetNoticeReceiver(raw.as_ptr(), Some(ignore_notice), ptr::null_mut());
        }
        connection.finish_opening(deadline)?;
        Ok(connection)
    }

    fn finish_opening(&mut self, deadline: Deadline) -> Result<()> {
        if self.status() == ConnStatusType::CONNECTION_BAD {
            return Err(self.lost());
        }
        // libpq's manual: behave at first as if the last poll had asked to write.
        let mut interest = Interest::Write;
        loop {
            let wake = wait::wait_for_socket(self.socket(), interest, deadline);
            if !wake.is_ready(0) {
                if deadline.is_past() {
                    return Err(PqError::TimedOut("connecting"));
                }
                continue;
            }
            // SAFETY: the connection is open and being established.
            match unsafe { pq_sys::PQconnectPoll(self.raw.as_ptr()) } {
                PostgresPollingStatusType::PGRES_POLLING_OK => break,
                PostgresPollingStatusType::PGRES_POLLING_FAILED => return Err(self.lost()),
                PostgresPollingStatusType::PGRES_POLLING_READING => interest = Interest::Read,
                _ => interest = Interest::Write,
            }
        }
        // SAFETY: the connection is established.
        if unsafe { pq_sys::PQsetnonblocking(self.raw.as_ptr(), 1) } != 0 {
            return Err(self.lost());
        }
        Ok(())
    }

    /// Runs `sql` to its end and returns its last result. With parameters the extended protocol is
    /// used; without, the simple one, which several statements and replication commands need. An
    /// error that the source answered leaves the connection usable; a missed deadline does not.
    pub fn query(
        &mut self,
        sql: &str,
        parameters: &[Option<&str>],
        deadline: Deadline,
    ) -> Result<Rows> {
        self.send_query_with(sql, parameters)?;
        self.settled = false;
        let mut flush = self.flush()?;
        let mut outcome: Option<Result<Rows>> = None;
        loop {
            match self.next_result() {
                // An error stands: what follows it in the same statement is of no use.
                Ok(Step::Rows(rows)) => {
                    if !matches!(outcome, Some(Err(_))) {
                        outcome = Some(Ok(rows));
                    }
                }
                Ok(Step::Done) => break,
                Ok(Step::CopyOut | Step::CopyBoth) => {
                    return Err(PqError::Unexpected(
                        "a copy began where rows were awaited".to_owned(),
                    ));
                }
                Ok(Step::WouldBlock) => {
                    if deadline.is_past() {
                        return Err(PqError::TimedOut("running a statement"));
                    }
                    let interest = match flush {
                        Flush::Done => Interest::Read,
                        Flush::Pending => Interest::ReadWrite,
                    };
                    if wait::wait_for_socket(self.socket(), interest, deadline).is_ready(0) {
                        self.consume_input()?;
                        flush = self.flush()?;
                    }
                }
                Err(error @ PqError::Lost(_)) => return Err(error),
                Err(error) => {
                    if !matches!(outcome, Some(Err(_))) {
                        outcome = Some(Err(error));
                    }
                }
            }
        }
        self.settled = true;
        outcome.unwrap_or_else(|| Err(PqError::Unexpected("a statement gave no result".to_owned())))
    }

    /// Begins `sql` in the simple protocol. Flush, then follow [`Connection::next_result`].
    pub fn send_query(&mut self, sql: &str) -> Result<()> {
        self.send_query_with(sql, &[])
    }

    fn send_query_with(&mut self, sql: &str, parameters: &[Option<&str>]) -> Result<()> {
        let sql = c_string(sql)?;
        let mut texts = Vec::with_capacity(parameters.len());
        for parameter in parameters {
            texts.push(parameter.map(c_string).transpose()?);
        }
        let values: Vec<*const c_char> = texts
            .iter()
            .map(|text| text.as_ref().map_or(ptr::null(), |text| text.as_ptr()))
            .collect();
        // SAFETY: the strings outlive the calls, which copy them; the parameter count is that of the
        // array, and types, lengths and formats may be null for text parameters of unstated type.
        let sent = unsafe {
            if values.is_empty() {
                pq_sys::PQsendQuery(self.raw.as_ptr(), sql.as_ptr())
            } else {
                pq_sys::PQsendQueryParams(
                    self.raw.as_ptr(),
                    sql.as_ptr(),
                    values.len() as c_int,
                    ptr::null(),
                    values.as_ptr(),
                    ptr::null(),
                    ptr::null(),
                    0,
                )
            }
        };
        if sent == 1 { Ok(()) } else { Err(self.lost()) }
    }

    /// What the running statement has come to, without waiting. An error of the source is returned
    /// once; go on to [`Step::Done`] before the next statement.
    pub fn next_result(&mut self) -> Result<Step> {
        if self.is_busy() {
            return Ok(Step::WouldBlock);
        }
        // SAFETY: not busy, so this returns at once; the result is ours to clear.
        let Some(raw) = NonNull::new(unsafe { pq_sys::PQgetResult(self.raw.as_ptr()) }) else {
            return Ok(Step::Done);
        };
        let rows = Rows(raw);
        // SAFETY: a valid result.
        match unsafe { pq_sys::PQresultStatus(raw.as_ptr()) } {
            ExecStatusType::PGRES_COMMAND_OK
            | ExecStatusType::PGRES_TUPLES_OK
            | ExecStatusType::PGRES_SINGLE_TUPLE
            | ExecStatusType::PGRES_EMPTY_QUERY => Ok(Step::Rows(rows)),
            ExecStatusType::PGRES_COPY_OUT => Ok(Step::CopyOut),
            ExecStatusType::PGRES_COPY_BOTH => Ok(Step::CopyBoth),
            ExecStatusType::PGRES_FATAL_ERROR | ExecStatusType::PGRES_NONFATAL_ERROR => {
                if rows.ends_connection() || self.status() != ConnStatusType::CONNECTION_OK {
                    Err(self.lost_by(&rows))
                } else {
                    Err(PqError::Refused(rows.refusal()))
                }
            }
            other => Err(PqError::Unexpected(format!("the source answered with {other:?}"))),
        }
    }

    /// The next message of a COPY, without waiting.
    pub fn get_copy_data(&mut self) -> Result<CopyPoll> {
        let mut buffer: *mut c_char = ptr::null_mut();
        // SAFETY: in asynchronous mode the call returns at once; a buffer it sets is ours to free.
        let length = unsafe { pq_sys::PQgetCopyData(self.raw.as_ptr(), &raw mut buffer, 1) };
        match (usize::try_from(length), NonNull::new(buffer)) {
            (Ok(0), _) => Ok(CopyPoll::WouldBlock),
            (Ok(length), Some(buffer)) => {
                Ok(CopyPoll::Row(CopyBuffer { buffer: buffer.cast(), length }))
            }
            _ if length == -1 => Ok(CopyPoll::End),
            _ => Err(self.lost()),
        }
    }

    /// Offers one CopyData message of a replication stream.
    pub fn put_copy_data(&mut self, message: &[u8]) -> Result<Put> {
        let length = c_int::try_from(message.len())
            .map_err(|_| PqError::Unexpected("a message of more than 2 GB".to_owned()))?;
        // SAFETY: the slice holds `length` bytes, which the call copies.
        match unsafe { pq_sys::PQputCopyData(self.raw.as_ptr(), message.as_ptr().cast(), length) } {
            1 => Ok(Put::Queued),
            0 => Ok(Put::Full),
            _ => Err(self.lost()),
        }
    }

    /// Ends our half of a replication stream. Flush, then read to [`CopyPoll::End`].
    #[cfg(feature = "pg_test")]
    pub fn put_copy_end(&mut self) -> Result<Put> {
        // SAFETY: the connection is open; a null message means a regular end.
        match unsafe { pq_sys::PQputCopyEnd(self.raw.as_ptr(), ptr::null()) } {
            1 => Ok(Put::Queued),
            0 => Ok(Put::Full),
            _ => Err(self.lost()),
        }
    }

    /// Sends what is queued, as far as the kernel takes it.
    pub fn flush(&mut self) -> Result<Flush> {
        // SAFETY: the connection is open and non-blocking.
        match unsafe { pq_sys::PQflush(self.raw.as_ptr()) } {
            0 => Ok(Flush::Done),
            1 => Ok(Flush::Pending),
            _ => Err(self.lost()),
        }
    }

    /// Reads what has arrived. Call it whenever the socket is ready.
    pub fn consume_input(&mut self) -> Result<()> {
        // SAFETY: the connection is open and non-blocking.
        if unsafe { pq_sys::PQconsumeInput(self.raw.as_ptr()) } == 1 {
            Ok(())
        } else {
            Err(self.lost())
        }
    }

    /// Whether [`Connection::next_result`] would have to wait.
    pub fn is_busy(&self) -> bool {
        // SAFETY: the connection is open; the call only parses what was read.
        unsafe { pq_sys::PQisBusy(self.raw.as_ptr()) == 1 }
    }

    /// The socket's descriptor, -1 when it is closed.
    pub fn socket(&self) -> c_int {
        // SAFETY: the connection is allocated until dropped.
        unsafe { pq_sys::PQsocket(self.raw.as_ptr()) }
    }

    /// This connection as something to wait on.
    pub fn watch(&self, interest: Interest) -> Watch {
        Watch { id: self.id, socket: self.socket(), interest }
    }

    /// Whether the source asked for a password and was given one.
    pub fn used_password(&self) -> bool {
        // SAFETY: the connection is allocated until dropped.
        unsafe { pq_sys::PQconnectionUsedPassword(self.raw.as_ptr()) == 1 }
    }

    /// The source's version as a number, 150004 for 15.4.
    pub fn server_version(&self) -> i32 {
        // SAFETY: the connection is allocated until dropped.
        unsafe { pq_sys::PQserverVersion(self.raw.as_ptr()) }
    }

    /// A setting that the source reports by itself, such as `server_encoding`.
    pub fn parameter_status(&self, name: &CStr) -> Option<String> {
        // SAFETY: the connection is allocated; the string returned lives in it and is copied.
        unsafe { text_of(pq_sys::PQparameterStatus(self.raw.as_ptr(), name.as_ptr())) }
    }

    /// The process that serves this connection at the source.
    #[cfg(feature = "pg_test")]
    pub fn backend_pid(&self) -> i32 {
        // SAFETY: the connection is allocated until dropped.
        unsafe { pq_sys::PQbackendPID(self.raw.as_ptr()) }
    }

    /// Whether the connection stands and no statement was abandoned on it.
    #[cfg(feature = "pg_test")]
    pub fn status_ok(&self) -> bool {
        self.settled && self.status() == ConnStatusType::CONNECTION_OK
    }

    fn status(&self) -> ConnStatusType {
        // SAFETY: the connection is allocated until dropped.
        unsafe { pq_sys::PQstatus(self.raw.as_ptr()) }
    }

    /// libpq's words for what last went wrong with the connection.
    fn lost(&self) -> PqError {
        // SAFETY: the connection is allocated; the string lives in it and is copied.
        let message = unsafe { text_of(pq_sys::PQerrorMessage(self.raw.as_ptr())) };
        PqError::Lost(one_line(
            message.as_deref().unwrap_or("the connection to the source is gone"),
        ))
    }

    /// A connection that the source ended with a last word, such as a shutdown.
    fn lost_by(&self, rows: &Rows) -> PqError {
        match rows.field(pg_sys::PG_DIAG_MESSAGE_PRIMARY) {
            Some(message) => PqError::Lost(format!("the source ended the connection: {message}")),
            None => self.lost(),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: allocated by libpq, finished once; the descriptor was acquired for it by `open`.
        unsafe {
            pq_sys::PQfinish(self.raw.as_ptr());
            pg_sys::ReleaseExternalFD();
        }
    }
}

/// A place among the file descriptors that Postgres counts, given back when dropped.
struct Descriptor;

impl Descriptor {
    fn acquire() -> Result<Self> {
        // SAFETY: only counts.
        if unsafe { pg_sys::AcquireExternalFD() } { Ok(Self) } else { Err(PqError::NoDescriptor) }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: acquired before.
        unsafe { pg_sys::ReleaseExternalFD() };
    }
}

/// One CopyData message, in libpq's memory.
pub struct CopyBuffer {
    buffer: NonNull<u8>,
    length: usize,
}

impl Deref for CopyBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: libpq gave the buffer with this length, and it is ours until dropped.
        unsafe { std::slice::from_raw_parts(self.buffer.as_ptr(), self.length) }
    }
}

impl Drop for CopyBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated by PQgetCopyData, freed once.
        unsafe { pq_sys::PQfreemem(self.buffer.as_ptr().cast()) };
    }
}

/// Whether errors of this class quote values: data exceptions and constraint violations do, but an
/// invalid parameter value is a setting or an argument.
fn quotes_rows(sqlstate: &str) -> bool {
    (sqlstate.starts_with("22") && sqlstate != "22023") || sqlstate.starts_with("23")
}

/// Notices of the source belong in its own log.
unsafe extern "C" fn ignore_notice(_: *mut c_void, _: *const PGresult) {}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| PqError::ZeroByte)
}

/// Copies a C string; none where the pointer is null or the string is empty.
///
/// # Safety
/// `text` is null or points to a string that ends with a zero byte.
unsafe fn text_of(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(text) };
    (!text.is_empty()).then(|| text.to_string_lossy().into_owned())
}

/// libpq ends messages with a newline and puts one line an address tried.
fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
