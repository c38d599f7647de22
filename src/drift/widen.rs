//! Types that hold every value of another one, written the same. Pure.

use pgrx::pg_sys::{self, Oid};

/// A type and its modifier.
pub type Kind = (Oid, i32);

/// What bytes of a header a modifier counts, `VARHDRSZ`.
const HEADER: i32 = 4;

/// Whether a column of type `from` may become one of type `to` with every value kept, as a cast at
/// the source keeps it.
pub fn widens(from: Kind, to: Kind) -> bool {
    if from == to {
        return true;
    }
    if let (Some(element), Some(wider)) = (element(from.0), element(to.0)) {
        return widens((element, from.1), (wider, to.1));
    }
    let ((from, narrow), (to, wide)) = (from, to);
    let longer = wide == -1 || (narrow != -1 && narrow <= wide);
    match (from, to) {
        (pg_sys::INT2OID, pg_sys::INT4OID | pg_sys::INT8OID)
        | (pg_sys::INT4OID, pg_sys::INT8OID)
        | (pg_sys::FLOAT4OID, pg_sys::FLOAT8OID)
        | (pg_sys::VARCHAROID, pg_sys::TEXTOID) => true,
        (pg_sys::NUMERICOID, pg_sys::NUMERICOID) => {
            wide == -1 || (narrow != -1 && more_digits(narrow, wide))
        }
        (
            pg_sys::VARCHAROID
            | pg_sys::BPCHAROID
            | pg_sys::BITOID
            | pg_sys::VARBITOID
            | pg_sys::TIMESTAMPOID
            | pg_sys::TIMESTAMPTZOID
            | pg_sys::TIMEOID
            | pg_sys::TIMETZOID,
            _,
        ) => from == to && longer,
        _ => false,
    }
}

/// Whether Postgres writes every row anew when a column is widened so: where the bytes of a value
/// are others.
pub fn rewrites(from: Kind, to: Kind) -> bool {
    if element(from.0).is_some() {
        // Each array is taken apart, whatever its elements are.
        return from != to;
    }
    let ((from, narrow), (to, wide)) = (from, to);
    match from {
        pg_sys::BPCHAROID | pg_sys::BITOID => narrow != wide,
        pg_sys::NUMERICOID => narrow != -1 && wide != -1 && digits(narrow).1 != digits(wide).1,
        _ => from != to && from != pg_sys::VARCHAROID,
    }
}

/// The type of the elements of an array, whose modifier is theirs.
fn element(array: Oid) -> Option<Oid> {
    Some(match array {
        pg_sys::INT2ARRAYOID => pg_sys::INT2OID,
        pg_sys::INT4ARRAYOID => pg_sys::INT4OID,
        pg_sys::INT8ARRAYOID => pg_sys::INT8OID,
        pg_sys::FLOAT4ARRAYOID => pg_sys::FLOAT4OID,
        pg_sys::FLOAT8ARRAYOID => pg_sys::FLOAT8OID,
        pg_sys::NUMERICARRAYOID => pg_sys::NUMERICOID,
        pg_sys::VARCHARARRAYOID => pg_sys::VARCHAROID,
        pg_sys::BPCHARARRAYOID => pg_sys::BPCHAROID,
        pg_sys::TEXTARRAYOID => pg_sys::TEXTOID,
        pg_sys::BITARRAYOID => pg_sys::BITOID,
        pg_sys::VARBITARRAYOID => pg_sys::VARBITOID,
        pg_sys::TIMESTAMPARRAYOID => pg_sys::TIMESTAMPOID,
        pg_sys::TIMESTAMPTZARRAYOID => pg_sys::TIMESTAMPTZOID,
        pg_sys::TIMEARRAYOID => pg_sys::TIMEOID,
        pg_sys::TIMETZARRAYOID => pg_sys::TIMETZOID,
        _ => return None,
    })
}

/// Whether there are no fewer digits before the point, and none fewer behind it.
fn more_digits(narrow: i32, wide: i32) -> bool {
    let (precision, scale) = digits(narrow);
    let (wide_precision, wide_scale) = digits(wide);
    scale <= wide_scale && precision - scale <= wide_precision - wide_scale
}

/// Precision and scale, as `make_numeric_typmod` of `numeric.c` packs them.
fn digits(modifier: i32) -> (i32, i32) {
    let packed = modifier - HEADER;
    // Eleven bits, signed: a scale may be negative since 15.
    let scale = ((packed & 0x7FF) ^ 1024) - 1024;
    ((packed >> 16) & 0xFFFF, scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(precision: i32, scale: i32) -> Kind {
        (pg_sys::NUMERICOID, ((precision << 16) | (scale & 0x7FF)) + HEADER)
    }

    #[test]
    fn only_what_holds_every_value_is_wider() {
        let plain = |oid| (oid, -1);
        let varchar = |limit| (pg_sys::VARCHAROID, limit + HEADER);
        for (from, to, is_wider) in [
            (plain(pg_sys::INT2OID), plain(pg_sys::INT8OID), true),
            (plain(pg_sys::INT4OID), plain(pg_sys::INT8OID), true),
            (plain(pg_sys::INT8OID), plain(pg_sys::INT4OID), false),
            (plain(pg_sys::FLOAT4OID), plain(pg_sys::FLOAT8OID), true),
            (plain(pg_sys::INT4OID), plain(pg_sys::TEXTOID), false),
            (varchar(5), varchar(9), true),
            (varchar(9), varchar(5), false),
            (varchar(9), plain(pg_sys::VARCHAROID), true),
            (plain(pg_sys::VARCHAROID), varchar(9), false),
            (varchar(9), plain(pg_sys::TEXTOID), true),
            (plain(pg_sys::TEXTOID), varchar(9), false),
            (numeric(8, 2), numeric(10, 2), true),
            (numeric(8, 2), numeric(10, 4), true),
            (numeric(8, 2), numeric(9, 4), false),
            (numeric(8, 2), numeric(8, 1), false),
            (numeric(3, -2), numeric(5, 0), true),
            (numeric(8, 2), plain(pg_sys::NUMERICOID), true),
            (plain(pg_sys::NUMERICOID), numeric(8, 2), false),
            ((pg_sys::BITOID, 3), (pg_sys::BITOID, 5), true),
            ((pg_sys::TIMESTAMPOID, 0), plain(pg_sys::TIMESTAMPOID), true),
            (plain(pg_sys::INT4ARRAYOID), plain(pg_sys::INT8ARRAYOID), true),
            (plain(pg_sys::INT8ARRAYOID), plain(pg_sys::INT4ARRAYOID), false),
            (plain(pg_sys::INT4ARRAYOID), plain(pg_sys::INT8OID), false),
            (plain(pg_sys::INT4OID), plain(pg_sys::INT8ARRAYOID), false),
            ((pg_sys::VARCHARARRAYOID, 9), (pg_sys::VARCHARARRAYOID, 13), true),
            ((pg_sys::VARCHARARRAYOID, 13), (pg_sys::VARCHARARRAYOID, 9), false),
            (
                (pg_sys::NUMERICARRAYOID, numeric(8, 2).1),
                (pg_sys::NUMERICARRAYOID, numeric(12, 4).1),
                true,
            ),
            (plain(pg_sys::VARCHARARRAYOID), plain(pg_sys::TEXTARRAYOID), true),
        ] {
            assert_eq!(widens(from, to), is_wider, "{from:?} {to:?}");
        }
    }

    #[test]
    fn rows_are_written_anew_where_bytes_are_others() {
        let plain = |oid| (oid, -1);
        for (from, to, wanted) in [
            (plain(pg_sys::INT4OID), plain(pg_sys::INT8OID), true),
            ((pg_sys::VARCHAROID, 9), (pg_sys::VARCHAROID, 12), false),
            ((pg_sys::VARCHAROID, 9), plain(pg_sys::TEXTOID), false),
            ((pg_sys::BPCHAROID, 9), (pg_sys::BPCHAROID, 12), true),
            (numeric(8, 2), numeric(10, 2), false),
            (numeric(8, 2), numeric(10, 4), true),
            (numeric(8, 2), plain(pg_sys::NUMERICOID), false),
            ((pg_sys::TIMESTAMPOID, 0), plain(pg_sys::TIMESTAMPOID), false),
            ((pg_sys::VARCHARARRAYOID, 9), (pg_sys::VARCHARARRAYOID, 12), true),
        ] {
            assert_eq!(rewrites(from, to), wanted, "{from:?} {to:?}");
        }
    }
}
