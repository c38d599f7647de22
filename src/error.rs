//! What can go wrong, in one table: kind → SQLSTATE and what to do about it.
//!
//! An [`OdsError`] is written for the person in psql: the message says what happened and to what,
//! the hint is a command to paste. Messages never carry row values or secrets.

use crate::pg::encoding;
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use std::fmt;

/// Result of everything in `ods` that can fail for a reason a user should hear.
pub type Result<T> = std::result::Result<T, OdsError>;

/// The kinds of failure that `ods` tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// An argument or option that can't be accepted as it stands.
    InvalidArgument,
    /// A named server, table, column or option that does not exist.
    NotFound,
    /// Something of that name exists already.
    AlreadyExists,
    /// The object is not in a state that allows the call.
    WrongState,
    /// The caller lacks a right, here or at the source.
    Forbidden,
    /// The library is not preloaded, or a worker is not running.
    NotRunning,
    /// A write to a synced table by anyone but the applier.
    ReadOnly,
    /// The thing is valid but outside what `ods` does.
    Unsupported,
    /// The source can't be reached, or the connection broke.
    SourceUnreachable,
    /// The source answered with an error.
    SourceRefused,
    /// The stream can't go on without losing changes: slot lost, history forked, publication changed.
    Gap,
    /// The source sent bytes that don't follow its own protocol.
    Protocol,
    /// A record that is not what its topic's records should be.
    Undecodable,
    /// Two columns can't be matched: schema drift, or a target that does not fit.
    Mismatch,
    /// The source's columns have changed, and a person must say what becomes of the table. The hint
    /// is what they can paste.
    Drift,
    /// A table here can't be changed without holding up others: it is left for later. The hint is
    /// what ends the wait.
    Busy,
    /// A wait ended before what it waited for.
    Timeout,
    /// A limit of this server was reached: worker slots, memory, disk.
    Limit,
    /// The database is a copy and stands fenced.
    Fenced,
    /// What a worker knows of its table is no longer so: it looks again.
    Stale,
    /// A Postgres error raised here; its own SQLSTATE is kept.
    Local(PgSqlErrorCode),
    /// A defect of `ods`.
    Bug,
}

/// What the worker does with a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Try again with backoff; the cause lies outside the data.
    Backoff,
    /// The data or the definition is at fault: the same attempt would fail again.
    Never,
}

impl ErrorKind {
    /// The SQLSTATE a user sees.
    pub fn sqlstate(self) -> PgSqlErrorCode {
        use PgSqlErrorCode as C;
        match self {
            Self::InvalidArgument => C::ERRCODE_INVALID_PARAMETER_VALUE,
            Self::NotFound => C::ERRCODE_UNDEFINED_OBJECT,
            Self::AlreadyExists => C::ERRCODE_DUPLICATE_OBJECT,
            Self::WrongState | Self::NotRunning | Self::Gap | Self::Fenced | Self::Stale => {
                C::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
            }
            Self::Forbidden => C::ERRCODE_INSUFFICIENT_PRIVILEGE,
            Self::ReadOnly => C::ERRCODE_READ_ONLY_SQL_TRANSACTION,
            Self::Unsupported => C::ERRCODE_FEATURE_NOT_SUPPORTED,
            Self::SourceUnreachable => C::ERRCODE_CONNECTION_FAILURE,
            Self::SourceRefused => C::ERRCODE_FDW_ERROR,
            Self::Protocol => C::ERRCODE_PROTOCOL_VIOLATION,
            Self::Undecodable => C::ERRCODE_DATA_EXCEPTION,
            Self::Mismatch | Self::Drift => C::ERRCODE_DATATYPE_MISMATCH,
            Self::Busy => C::ERRCODE_OBJECT_IN_USE,
            Self::Timeout => C::ERRCODE_QUERY_CANCELED,
            Self::Limit => C::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
            Self::Local(code) => code,
            Self::Bug => C::ERRCODE_INTERNAL_ERROR,
        }
    }

    /// The SQLSTATE as its five characters.
    pub fn sqlstate_text(self) -> String {
        // Each character is six bits, the first lowest: the macro MAKE_SQLSTATE of elog.h.
        let code = self.sqlstate() as u32;
        (0..5).map(|place| char::from((code >> (6 * place) & 0x3F) as u8 + b'0')).collect()
    }

    /// Whether the worker should try the same thing again.
    pub fn retry(self) -> Retry {
        match self {
            Self::SourceUnreachable
            | Self::SourceRefused
            | Self::Protocol
            | Self::Timeout
            | Self::Limit
            | Self::NotRunning
            | Self::Stale
            | Self::Busy
            | Self::Forbidden => Retry::Backoff,
            Self::InvalidArgument
            | Self::NotFound
            | Self::AlreadyExists
            | Self::WrongState
            | Self::ReadOnly
            | Self::Unsupported
            | Self::Gap
            | Self::Undecodable
            | Self::Mismatch
            | Self::Drift
            | Self::Fenced
            | Self::Bug => Retry::Never,
            Self::Local(code) => retry_of_sqlstate(code),
        }
    }
}

/// Failures of this server's own circumstances are retried; everything else is blamed on the data.
fn retry_of_sqlstate(code: PgSqlErrorCode) -> Retry {
    use PgSqlErrorCode as C;
    match code {
        C::ERRCODE_T_R_SERIALIZATION_FAILURE
        | C::ERRCODE_T_R_DEADLOCK_DETECTED
        | C::ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN
        | C::ERRCODE_LOCK_NOT_AVAILABLE
        | C::ERRCODE_QUERY_CANCELED
        | C::ERRCODE_ADMIN_SHUTDOWN
        | C::ERRCODE_CRASH_SHUTDOWN
        | C::ERRCODE_CANNOT_CONNECT_NOW
        | C::ERRCODE_DATABASE_DROPPED
        | C::ERRCODE_INSUFFICIENT_RESOURCES
        | C::ERRCODE_DISK_FULL
        | C::ERRCODE_OUT_OF_MEMORY
        | C::ERRCODE_TOO_MANY_CONNECTIONS
        | C::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED
        | C::ERRCODE_OBJECT_IN_USE
        | C::ERRCODE_SYSTEM_ERROR
        | C::ERRCODE_IO_ERROR
        | C::ERRCODE_READ_ONLY_SQL_TRANSACTION => Retry::Backoff,
        _ => Retry::Never,
    }
}

/// An error with what a person needs to act on it.
#[derive(Clone, Debug)]
pub struct OdsError {
    /// Decides the SQLSTATE and the retry policy.
    pub kind: ErrorKind,
    /// What happened, to which object.
    pub message: String,
    /// Circumstances, where they help.
    pub detail: Option<String>,
    /// A command to paste, or a plain instruction.
    pub hint: Option<String>,
    /// What Postgres said of a value that it couldn't read, for decisions and for nobody's eyes.
    pub unread: Option<Unread>,
}

/// Words of Postgres that quote a value: neither shown nor logged.
#[derive(Clone)]
pub struct Unread(String);

impl Unread {
    /// More than the name of a type and a label may take; a longer value is no label.
    const LONGEST: usize = 512;

    fn of(code: PgSqlErrorCode, message: &str) -> Option<Self> {
        let is_kept = code == PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION
            && message.len() <= Self::LONGEST;
        is_kept.then(|| Self(message.to_owned()))
    }

    /// Whether it was `label` that the enum `name`, as `format_type` names it, did not have. The
    /// language of the words may be any, and its quotes too.
    pub fn is_label(&self, name: &str, label: &str) -> bool {
        let is_quote = |c: char| "\"'«»‹›„“”「」".contains(c);
        let is_space = |c: char| [' ', '\u{a0}', '\u{202f}'].contains(&c);
        // Words of another script may stand beside a name without a space.
        let goes_on = |c: char| c.is_ascii_alphanumeric() || "._$".contains(c);
        let is_quoted = |rest: &str| {
            let quoted = rest
                .find(is_quote)
                .and_then(|open| rest[open..].strip_prefix(is_quote)?.strip_suffix(is_quote));
            quoted.is_some_and(|quoted| {
                // French has a space within its quotes.
                let spaced = quoted.strip_prefix(is_space).and_then(|q| q.strip_suffix(is_space));
                quoted == label || spaced == Some(label)
            })
        };
        self.0.match_indices(name).any(|(at, _)| {
            let (before, rest) = (&self.0[..at], &self.0[at + name.len()..]);
            !before.ends_with(goes_on) && !rest.starts_with(goes_on) && is_quoted(rest)
        })
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unread(…)")
    }
}

impl OdsError {
    /// An error of `kind` with its message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), detail: None, hint: None, unread: None }
    }

    /// The same error with a detail; an empty one is none.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into()).filter(|detail| !detail.is_empty());
        self
    }

    /// The same error with a hint; an empty one is none.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        self
    }

    /// Message and hint on one line, for the status views.
    pub fn told(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}. {hint}", self.message.trim_end_matches('.')),
            None => self.message.clone(),
        }
    }

    /// The same error, its message led by where it happened.
    #[must_use]
    pub fn context(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

impl fmt::Display for OdsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for OdsError {}

impl From<OdsError> for ErrorReport {
    fn from(error: OdsError) -> Self {
        let mut report =
            Self::new(error.kind.sqlstate(), encoding::told(&error.message), RAISED_BY);
        if let Some(detail) = error.detail {
            report = report.set_detail(encoding::told(&detail));
        }
        if let Some(hint) = error.hint {
            report = report.set_hint(encoding::told(&hint));
        }
        report
    }
}

impl From<CaughtError> for OdsError {
    fn from(caught: CaughtError) -> Self {
        match caught {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => Self {
                kind: kind_of(report.sql_error_code(), report.function_name()),
                message: without_values(report.sql_error_code(), report.message()),
                detail: None,
                hint: report.hint().filter(|hint| !hint.is_empty()).map(str::to_owned),
                unread: Unread::of(report.sql_error_code(), report.message()),
            },
            CaughtError::RustPanic { ereport, .. } => Self {
                kind: ErrorKind::Bug,
                message: ereport.message().to_owned(),
                detail: None,
                hint: None,
                unread: None,
            },
        }
    }
}

/// What errors of ours name as the function that raised them.
const RAISED_BY: &str = "ods";

/// The kind of an error that was caught. A refusal of the guard shares its SQLSTATE with a server
/// that is read-only for a while, and won't go away by waiting.
fn kind_of(code: PgSqlErrorCode, raised_by: Option<&str>) -> ErrorKind {
    if code == PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION && raised_by == Some(RAISED_BY) {
        ErrorKind::ReadOnly
    } else {
        ErrorKind::Local(code)
    }
}

/// A message of Postgres as it may be logged and shown: those of class 22, data exceptions, quote
/// the value that did not fit, but for a few that don't.
fn without_values(code: PgSqlErrorCode, message: &str) -> String {
    use PgSqlErrorCode as C;
    // Five characters of six bits each, the first lowest: the macros MAKE_SQLSTATE of elog.h.
    const CLASS_22: u32 = 2 | 2 << 6;
    let is_data_exception = code as u32 & 0xFFF == CLASS_22;
    let names_no_value = matches!(
        code,
        C::ERRCODE_STRING_DATA_RIGHT_TRUNCATION
            | C::ERRCODE_NULL_VALUE_NOT_ALLOWED
            | C::ERRCODE_DIVISION_BY_ZERO
            | C::ERRCODE_INVALID_PARAMETER_VALUE
    );
    if is_data_exception && !names_no_value {
        return format!("a value does not fit its column here ({code:?})");
    }
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_out_of_messages() {
        let code = PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION;
        assert!(!without_values(code, "invalid input syntax: \"secret\"").contains("secret"));
        let code = PgSqlErrorCode::ERRCODE_CHECK_VIOLATION;
        assert_eq!(without_values(code, "violates check"), "violates check");
        let code = PgSqlErrorCode::ERRCODE_STRING_DATA_RIGHT_TRUNCATION;
        assert_eq!(without_values(code, "value too long"), "value too long");
    }

    #[test]
    fn a_label_is_known_in_any_language() {
        for (message, is_it) in [
            ("invalid input value for enum public.mood: \"worse\"", true),
            ("ungültiger Eingabewert für Enum public.mood: »worse«", true),
            ("valeur invalide pour l'enum public.mood : « worse »", true),
            ("列挙型public.moodの不正な入力値: \"worse\"", true),
            ("invalid input value for enum public.mood: \"even worse\"", false),
            ("invalid input value for enum public.mood: \" worse\"", false),
            ("invalid input value for enum public.mood: \"worse\" and more\"", false),
            ("invalid input value for enum public.mood2: \"worse\"", false),
            ("invalid input value for enum other.public.mood: \"worse\"", false),
        ] {
            let code = PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION;
            let unread = Unread::of(code, message);
            let found = unread.as_ref().map(|unread| unread.is_label("public.mood", "worse"));
            assert_eq!(found, Some(is_it), "{message}");
            assert!(!format!("{unread:?}").contains("worse"));
        }
        let long = "x".repeat(Unread::LONGEST + 1);
        assert!(Unread::of(PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION, &long).is_none());
        assert!(Unread::of(PgSqlErrorCode::ERRCODE_CHECK_VIOLATION, "violates").is_none());
    }

    #[test]
    fn a_refusal_of_the_guard_is_not_retried() {
        let code = PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION;
        assert_eq!(kind_of(code, Some(RAISED_BY)).retry(), Retry::Never);
        assert_eq!(kind_of(code, Some("PreventCommandIfReadOnly")).retry(), Retry::Backoff);
    }

    #[test]
    fn empty_lines_are_left_out() {
        let error = OdsError::new(ErrorKind::Bug, "message").detail("").hint("");
        assert_eq!((error.detail, error.hint), (None, None));
        let error = OdsError::new(ErrorKind::Bug, "message").detail("why").hint("what to do");
        assert_eq!(error.detail.as_deref(), Some("why"));
        assert_eq!(error.hint.as_deref(), Some("what to do"));
    }
}
