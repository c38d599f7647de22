//! Character encodings by name and number, and text from one to another.

#[cfg(any(feature = "pg15", feature = "pg16"))]
use pgrx::pg_sys::{pg_char_to_encoding, pg_encoding_to_char};
// The server renamed its own two in 17, so that they don't clash with those that libpq exports.
use pgrx::pg_sys;
#[cfg(not(any(feature = "pg15", feature = "pg16")))]
use pgrx::pg_sys::{
    pg_char_to_encoding_private as pg_char_to_encoding,
    pg_encoding_to_char_private as pg_encoding_to_char,
};
use std::ffi::{CString, c_int};

/// The number of an encoding that Postgres knows by `name`.
pub fn number(name: &str) -> Option<i32> {
    let name = CString::new(name).ok()?;
    // SAFETY: a look-up in a static table; -1 for an unknown name.
    let number = unsafe { pg_char_to_encoding(name.as_ptr()) };
    (number >= 0).then_some(number)
}

/// The name of an encoding.
pub fn name(number: i32) -> String {
    // SAFETY: a look-up in a static table; an empty string for an unknown number.
    unsafe { super::string(pg_encoding_to_char(number)) }
}

/// The number of this database's encoding.
pub fn number_of_database() -> i32 {
    // SAFETY: reads a backend global.
    unsafe { pg_sys::GetDatabaseEncoding() }
}

/// The encoding that COPY must be told for text in `encoding`: bytes of no encoding are taken as they
/// are, but COPY would then not look whether they are text of this database.
pub fn to_copy_from(encoding: i32) -> i32 {
    if encoding == pg_sys::pg_enc::PG_SQL_ASCII as i32 { number_of_database() } else { encoding }
}

/// The number of UTF-8.
pub fn utf8() -> i32 {
    pg_sys::pg_enc::PG_UTF8 as i32
}

/// Whether this database holds text as Rust does.
pub fn is_utf8_here() -> bool {
    number_of_database() == pg_sys::pg_enc::PG_UTF8 as i32
}

/// A message of ours as this database can hold it.
pub fn told(message: &str) -> String {
    let message = message.to_owned();
    // Of what is not ASCII, our own words have nothing but the ellipsis.
    if is_utf8_here() { message } else { message.replace('…', "...") }
}

/// Whether that is UTF-8, in which text is handled here.
pub fn is_utf8(encoding: i32) -> bool {
    encoding == pg_sys::pg_enc::PG_UTF8 as i32
}

/// Text of `encoding` as UTF-8; none where it is no text of that encoding, or has no equivalent.
/// Inside a transaction.
pub fn to_utf8(text: &[u8], encoding: i32) -> Option<String> {
    String::from_utf8(convert(text, encoding, pg_sys::pg_enc::PG_UTF8 as i32)?).ok()
}

/// Text as `encoding` has it; none where a character has no equivalent there. Inside a transaction.
pub fn from_utf8(text: &str, encoding: i32) -> Option<Vec<u8>> {
    convert(text.as_bytes(), pg_sys::pg_enc::PG_UTF8 as i32, encoding)
}

/// What every server encoding writes alike needs no conversion; SQL_ASCII knows none.
fn convert(text: &[u8], from: i32, to: i32) -> Option<Vec<u8>> {
    let ascii_only = pg_sys::pg_enc::PG_SQL_ASCII as i32;
    if text.is_ascii() || from == to || from == ascii_only || to == ascii_only {
        return Some(text.to_vec());
    }
    let length = c_int::try_from(text.len()).ok()?;
    let room = text.len().checked_mul(pg_sys::MAX_CONVERSION_GROWTH as usize)?.checked_add(1)?;
    let mut converted = vec![0u8; room];
    // SAFETY: the look-up reads the catalog inside a transaction; the buffer has room for the
    // longest conversion of `length` bytes and its NUL, and with noError nothing is raised for the
    // text's sake: the function says how many bytes it could convert.
    let done = unsafe {
        let function = pg_sys::FindDefaultConversionProc(from, to);
        if function == pg_sys::InvalidOid {
            return None;
        }
        pg_sys::pg_do_encoding_conversion_buf(
            function,
            from,
            to,
            text.as_ptr().cast_mut(),
            length,
            converted.as_mut_ptr(),
            c_int::try_from(room).ok()?,
            true,
        )
    };
    if done != length {
        return None;
    }
    let end = converted.iter().position(|&byte| byte == 0)?;
    converted.truncate(end);
    Some(converted)
}
