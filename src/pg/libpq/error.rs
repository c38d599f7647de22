//! What goes wrong between libpq and a source.

use crate::error::{ErrorKind, OdsError};

/// What a connection can answer instead of a result.
#[derive(Clone, Debug)]
pub enum PqError {
    /// There is no connection, or it broke. The text is libpq's.
    Lost(String),
    /// The server answered with an error.
    Refused(Refusal),
    /// The deadline came first. The text names what was waited for.
    TimedOut(&'static str),
    /// The answer is not of the kind that was asked for.
    Unexpected(String),
    /// SQL or a parameter with a zero byte in it, which the protocol can't carry.
    ZeroByte,
    /// This server has no file descriptor left for another connection.
    NoDescriptor,
}

/// An error that the source raised.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Five characters, `XX000` where the source named none.
    pub sqlstate: String,
    /// Its message, or a stand-in where the message may hold row values.
    pub message: String,
    /// Its detail, only of error classes that don't quote rows.
    pub detail: Option<String>,
    /// Its hint.
    pub hint: Option<String>,
}

impl PqError {
    /// The SQLSTATE that the source gave, where it answered at all.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.sqlstate),
            _ => None,
        }
    }
}

impl From<PqError> for OdsError {
    fn from(error: PqError) -> Self {
        match error {
            PqError::Lost(message) => Self::new(ErrorKind::SourceUnreachable, message),
            PqError::TimedOut(what) => Self::new(
                ErrorKind::SourceUnreachable,
                format!("the source did not answer in time: {what}"),
            ),
            PqError::Unexpected(message) => Self::new(ErrorKind::Protocol, message),
            PqError::ZeroByte => {
                Self::new(ErrorKind::InvalidArgument, "text sent to the source holds a zero byte")
            }
            PqError::NoDescriptor => Self::new(
                ErrorKind::Limit,
                "no file descriptor is left for a connection to the source",
            )
            .hint("ALTER SYSTEM SET max_files_per_process = 2000;"),
            PqError::Refused(refusal) => {
                let mut error = Self::new(ErrorKind::SourceRefused, refusal.message);
                error.detail = Some(match refusal.detail {
                    Some(detail) => {
                        format!("SQLSTATE {} of the source: {detail}", refusal.sqlstate)
                    }
                    None => format!("SQLSTATE {} of the source.", refusal.sqlstate),
                });
                error.hint = refusal.hint;
                error
            }
        }
    }
}
