//! Reading a small table without SPI: no plan, no permission check, no snapshot of the caller's.
//!
//! Hooks run where SPI must not, and have to see what is committed now rather than what a
//! repeatable-read transaction saw first.

use super::string;
use pgrx::pg_sys::{self, Datum, Oid};
use std::ffi::CStr;

/// One value of a row, with the type its column has.
#[derive(Clone, Copy)]
pub struct Field {
    datum: Option<Datum>,
    type_oid: Oid,
}

impl Field {
    const ABSENT: Self = Self { datum: None, type_oid: Oid::INVALID };

    /// The value of an `oid` or `regclass` column; `None` for null and for any other type.
    pub fn oid(self) -> Option<Oid> {
        let known = matches!(self.type_oid, pg_sys::OIDOID | pg_sys::REGCLASSOID);
        self.datum.filter(|_| known).map(|datum| Oid::from_u32(datum.value() as u32))
    }

    /// The value of an `integer` column; `None` for null and for any other type.
    pub fn integer(self) -> Option<i32> {
        let known = self.type_oid == pg_sys::INT4OID;
        self.datum.filter(|_| known).map(|datum| datum.value() as i32)
    }

    /// The value of a `boolean` column; `None` for null and for any other type.
    pub fn boolean(self) -> Option<bool> {
        let known = self.type_oid == pg_sys::BOOLOID;
        self.datum.filter(|_| known).map(|datum| datum.value() != 0)
    }

    /// The value of a `text` or `name` column; `None` for null and for any other type.
    pub fn text(self) -> Option<String> {
        let datum = self.datum?;
        // SAFETY: the column's type says what the datum points to, and the tuple that holds it
        // stays pinned while its row is read.
        unsafe {
            match self.type_oid {
                pg_sys::TEXTOID => Some(string(pg_sys::text_to_cstring(datum.cast_mut_ptr()))),
                pg_sys::NAMEOID => {
                    let name = datum.cast_mut_ptr::<pg_sys::NameData>();
                    Some(string((&raw const (*name).data).cast()))
                }
                _ => None,
            }
        }
    }
}

/// What `read` makes of each row of `relation`, as committed now, with this transaction's own
/// rows. Columns that don't exist read as null, a relation that doesn't as empty.
pub fn rows<T, const N: usize>(
    relation: Oid,
    columns: [&CStr; N],
    mut read: impl FnMut([Field; N]) -> Option<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    // SAFETY: the relation stays open and locked from opening to closing; when an error is raised
    // between, the resource owner closes both scan and relation. A null snapshot makes
    // systable_beginscan take a catalog snapshot, which is made anew for a table without syscache.
    unsafe {
        let opened = pg_sys::try_relation_open(relation, pg_sys::AccessShareLock as _);
        if opened.is_null() {
            return found;
        }
        let descriptor = (*opened).rd_att;
        let natts = (*descriptor).natts as usize;
        let attributes =
            columns.map(|column| usize::try_from(pg_sys::get_attnum(relation, column.as_ptr())));
        let types = attributes.map(|number| match number {
            Ok(number @ 1..) => pg_sys::get_atttype(relation, number as _),
            _ => Oid::INVALID,
        });
        let mut values = vec![Datum::null(); natts];
        let mut nulls = vec![true; natts];
        let scan = pg_sys::systable_beginscan(
            opened,
            Oid::INVALID,
            false,
            std::ptr::null_mut(),
            0,
            std::ptr::null_mut(),
        );
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            pg_sys::heap_deform_tuple(tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            let mut fields = [Field::ABSENT; N];
            for ((field, number), type_oid) in fields.iter_mut().zip(&attributes).zip(types) {
                if let Ok(number @ 1..) = *number
                    && number <= natts
                {
                    let datum = (!nulls[number - 1]).then_some(values[number - 1]);
                    *field = Field { datum, type_oid };
                }
            }
            found.extend(read(fields));
        }
        pg_sys::systable_endscan(scan);
        pg_sys::relation_close(opened, pg_sys::AccessShareLock as _);
    }
    found
}
