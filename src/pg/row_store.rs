//! Rows built from text and handed to SQL as a relation.
//!
//! A [`RowType`] knows a row's columns and how to read each from text; a [`RowStore`] collects rows
//! of that type in a tuplestore, which spills to disk beyond its memory. SQL sees the store under
//! the name `batch`, as an ephemeral named relation.

use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::memory::Context;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// Memory of one store in kB; beyond it the rows go to a temporary file.
const STORE_KB: i32 = 65536;

/// A column of a row type.
pub struct ColumnType {
    /// The name SQL sees.
    pub name: String,
    /// The type.
    pub type_oid: pg_sys::Oid,
    /// The type modifier, -1 for none.
    pub typmod: i32,
    /// The collation, so that comparisons with a table's column use its index.
    pub collation: pg_sys::Oid,
}

/// How a column's text becomes a datum.
enum Reader {
    /// `text` and `varchar` without length: the bytes are the value.
    Text,
    /// `"char"`: a byte, which need not be text in any encoding.
    Char,
    /// The type's input function.
    Function,
}

struct Input {
    flinfo: pg_sys::FmgrInfo,
    ioparam: pg_sys::Oid,
    typmod: i32,
    reader: Reader,
}

/// The columns of a relation made of text. Lives until dropped, across transactions.
pub struct RowType {
    desc: pg_sys::TupleDesc,
    inputs: Vec<Input>,
    encoding: i32,
    /// Holds the descriptor and what the input functions cache.
    _memory: Context,
    row_memory: Context,
}

impl RowType {
    /// A row type with these columns; text values come in `encoding`, a `pg_enc` number.
    pub fn new(columns: &[ColumnType], encoding: i32) -> Result<Self> {
        let memory = Context::new(c"ods row type");
        let row_memory = Context::new(c"ods row");
        let natts = i32::try_from(columns.len())
            .map_err(|_| OdsError::new(ErrorKind::Bug, "a row type has too many columns"))?;
        // SAFETY: the descriptor is allocated in `memory`, which lives as long as `self`;
        // TupleDescInitEntry is called once for each attribute number from 1 to natts.
        let desc = unsafe {
            memory.within(|| {
                let desc = pg_sys::CreateTemplateTupleDesc(natts);
                for (number, column) in (1i16..).zip(columns) {
                    let name = CString::new(column.name.as_str()).unwrap_or_default();
                    pg_sys::TupleDescInitEntry(
                        desc,
                        number,
                        name.as_ptr(),
                        column.type_oid,
                        column.typmod,
                        0,
                    );
                    pg_sys::TupleDescInitEntryCollation(desc, number, column.collation);
                }
                desc
            })
        };
        let inputs = columns
            .iter()
            .map(|column| {
                let mut flinfo = pg_sys::FmgrInfo::default();
                let mut function = pg_sys::InvalidOid;
                let mut ioparam = pg_sys::InvalidOid;
                // SAFETY: getTypeInputInfo raises for an unknown type; fmgr_info_cxt keeps what the
                // function caches in `memory`, which lives as long as the FmgrInfo.
                unsafe {
                    pg_sys::getTypeInputInfo(column.type_oid, &mut function, &mut ioparam);
                    pg_sys::fmgr_info_cxt(function, &mut flinfo, memory.raw());
                }
                let plain_text = column.type_oid == pg_sys::TEXTOID
                    || (column.type_oid == pg_sys::VARCHAROID && column.typmod < 0);
                let reader = match column.type_oid {
                    pg_sys::CHAROID => Reader::Char,
                    _ if plain_text => Reader::Text,
                    _ => Reader::Function,
                };
                Input { flinfo, ioparam, typmod: column.typmod, reader }
            })
            .collect();
        Ok(Self { desc, inputs, encoding, _memory: memory, row_memory })
    }

    /// The number of columns.
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// The descriptor, for registering the relation.
    pub(super) fn descriptor(&self) -> pg_sys::TupleDesc {
        self.desc
    }

    /// An empty store for rows of this type, living in the current transaction's memory.
    pub fn store(&mut self) -> RowStore<'_> {
        let columns = self.len();
        // SAFETY: the store is made in the current memory context and ends with it, or in Drop.
        let store = unsafe { pg_sys::tuplestore_begin_heap(false, false, STORE_KB) };
        // SAFETY: reads a backend global.
        let same = unsafe { pg_sys::GetDatabaseEncoding() } == self.encoding;
        RowStore {
            row_type: self,
            store,
            values: vec![pg_sys::Datum::null(); columns],
            nulls: vec![true; columns],
            rows: 0,
            convert: if same { Convert::No } else { Convert::Yes },
        }
    }
}

/// Whether text must be converted from the source's encoding.
#[derive(Clone, Copy)]
enum Convert {
    Yes,
    No,
}

/// Rows of one type, in the order they were put.
pub struct RowStore<'t> {
    row_type: &'t mut RowType,
    store: *mut pg_sys::Tuplestorestate,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
    rows: u64,
    convert: Convert,
}

impl RowStore<'_> {
    /// Sets a column of the row being built from the text of its value.
    ///
    /// The text comes with a NUL behind it, and none within. Raises whatever the type's input
    /// function raises.
    pub fn set_text(&mut self, column: usize, value: Option<&[u8]>) {
        self.set(column, value, self.convert);
    }

    /// As [`Self::set_text`], from text in this database's encoding.
    pub fn set_own_text(&mut self, column: usize, value: &[u8]) {
        self.set(column, Some(value), Convert::No);
    }

    fn set(&mut self, column: usize, value: Option<&[u8]>, convert: Convert) {
        let Some((&0, text_bytes)) = value.and_then(<[u8]>::split_last) else {
            self.nulls[column] = true;
            return;
        };
        if matches!(self.row_type.inputs[column].reader, Reader::Char) {
            self.values[column] = pg_sys::Datum::from(char_of(text_bytes));
            self.nulls[column] = false;
            return;
        }
        let encoding = self.row_type.encoding;
        let input = &mut self.row_type.inputs[column];
        // SAFETY: the bytes end in a NUL, as was just seen. Everything allocated goes to the row's context, which
        // is reset only after tuplestore_putvalues has copied the row.
        let datum = unsafe {
            let old = pg_sys::MemoryContextSwitchTo(self.row_type.row_memory.raw());
            let mut text = text_bytes.as_ptr().cast_mut().cast();
            if matches!(convert, Convert::Yes) {
                let length = text_bytes.len() as i32;
                text = pg_sys::pg_any_to_server(text, length, encoding);
            }
            let datum = match input.reader {
                Reader::Text => {
                    let length = match convert {
                        Convert::Yes => CStr::from_ptr(text).to_bytes().len(),
                        Convert::No => text_bytes.len(),
                    };
                    pg_sys::Datum::from(pg_sys::cstring_to_text_with_len(text, length as i32))
                }
                Reader::Char | Reader::Function => {
                    pg_sys::InputFunctionCall(&mut input.flinfo, text, input.ioparam, input.typmod)
                }
            };
            pg_sys::MemoryContextSwitchTo(old);
            datum
        };
        self.values[column] = datum;
        self.nulls[column] = false;
    }

    /// Sets a `timestamptz` column, in microseconds since 2000-01-01.
    pub fn set_timestamp(&mut self, column: usize, value: Option<i64>) {
        self.nulls[column] = value.is_none();
        self.values[column] = pg_sys::Datum::from(value.unwrap_or_default());
    }

    /// Sets a `bigint` column.
    pub fn set_long(&mut self, column: usize, value: Option<i64>) {
        self.nulls[column] = value.is_none();
        self.values[column] = pg_sys::Datum::from(value.unwrap_or_default());
    }

    /// Sets an `int4` column.
    pub fn set_int(&mut self, column: usize, value: i32) {
        self.nulls[column] = false;
        self.values[column] = pg_sys::Datum::from(value);
    }

    /// Adds the row that was set.
    pub fn put(&mut self) {
        // SAFETY: values and nulls have one entry for each attribute; the row is copied.
        unsafe {
            pg_sys::tuplestore_putvalues(
                self.store,
                self.row_type.desc,
                self.values.as_mut_ptr(),
                self.nulls.as_mut_ptr(),
            );
            pg_sys::MemoryContextReset(self.row_type.row_memory.raw());
        }
        self.rows += 1;
    }

    /// Forgets the row that was set.
    pub fn skip(&mut self) {
        // SAFETY: nothing that lives there is used any more: every column is set anew for a row.
        unsafe { pg_sys::MemoryContextReset(self.row_type.row_memory.raw()) };
    }

    /// How many rows were put.
    pub fn len(&self) -> u64 {
        self.rows
    }

    /// The tuplestore and descriptor, for registering the relation.
    pub(super) fn raw(&self) -> (*mut pg_sys::Tuplestorestate, pg_sys::TupleDesc) {
        (self.store, self.row_type.desc)
    }
}

/// A `"char"` from its text: a byte, or from version 16 on one above 127 as a backslash and three
/// octal digits.
fn char_of(text: &[u8]) -> i8 {
    let byte = match *text {
        [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7'] => {
            (a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')
        }
        [first, ..] => first,
        [] => 0,
    };
    byte.cast_signed()
}

impl Drop for RowStore<'_> {
    fn drop(&mut self) {
        // While an error unwinds, the transaction's abort frees the store with its context and
        // closes its file; no call into Postgres is safe here then.
        if !std::thread::panicking() {
            // SAFETY: the store is open and nothing refers to it any more.
            unsafe { pg_sys::tuplestore_end(self.store) };
        }
    }
}
