//! Character encodings by name and number.

#[cfg(any(feature = "pg15", feature = "pg16"))]
use pgrx::pg_sys::{pg_char_to_encoding, pg_encoding_to_char};
// The server renamed its own two in 17, so that they don't clash with those that libpq exports.
#[cfg(not(any(feature = "pg15", feature = "pg16")))]
use pgrx::pg_sys::{
    pg_char_to_encoding_private as pg_char_to_encoding,
    pg_encoding_to_char_private as pg_encoding_to_char,
};
use std::ffi::CString;

/// The number of an encoding that Postgres knows by `name`.
pub fn number(name: &str) -> Option<i32> {
    let name = CString::new(name).ok()?;
    // SAFETY: a look-up in a static table; -1 for an unknown name.
    let number = unsafe { pg_char_to_encoding(name.as_ptr()) };
    (number >= 0).then_some(number)
}

/// The name of this database's encoding.
pub fn of_database() -> String {
    // SAFETY: reads a backend global.
    name(unsafe { pgrx::pg_sys::GetDatabaseEncoding() })
}

/// The name of an encoding.
pub fn name(number: i32) -> String {
    // SAFETY: a look-up in a static table; an empty string for an unknown number.
    unsafe { super::string(pg_encoding_to_char(number)) }
}
