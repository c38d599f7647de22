//! Foreign servers and user mappings, as plain values.

use crate::error::{ErrorKind, OdsError, Result};
use pgrx::{PgList, pg_sys};
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

/// Name and value of one option.
pub type ServerOption = (String, String);

/// A foreign server of any wrapper.
#[derive(Clone, Debug)]
pub struct ForeignServer {
    /// Its oid here.
    pub oid: pg_sys::Oid,
    /// Its name.
    pub name: String,
    /// The role that owns it.
    pub owner: pg_sys::Oid,
    /// The foreign-data wrapper it belongs to.
    pub wrapper: String,
    /// `OPTIONS` of the server; never secrets, the validator sees to that.
    pub options: Vec<ServerOption>,
}

impl ForeignServer {
    /// The statement that gives the server these options, whether it has them yet or not. Values
    /// are to be filled in.
    pub fn set_options_sql(&self, names: &[&str]) -> String {
        let list: Vec<String> = names
            .iter()
            .map(|name| {
                let is_set = self.options.iter().any(|(option, _)| option == name);
                format!("{} {name} '…'", if is_set { "SET" } else { "ADD" })
            })
            .collect();
        let name = self.name.replace('"', "\"\"");
        format!("ALTER SERVER \"{name}\" OPTIONS ({});", list.join(", "))
    }
}

/// Options of a user mapping. They hold secrets, hence no Debug.
#[derive(Clone)]
pub struct UserMapping {
    /// `OPTIONS` of the mapping.
    pub options: Vec<ServerOption>,
}

/// The server called `name`, if there is one. Needs a transaction.
pub fn server_by_name(name: &str) -> Result<Option<ForeignServer>> {
    let Ok(c_name) = CString::new(name) else {
        return Ok(None);
    };
    // SAFETY: a transaction is open; with missing_ok the call returns null for an unknown name. What
    // it returns is palloc'ed and copied here.
    unsafe {
        let server = pg_sys::GetForeignServerByName(c_name.as_ptr(), true);
        let Some(server) = server.as_ref() else {
            return Ok(None);
        };
        let wrapper = &*pg_sys::GetForeignDataWrapper(server.fdwid);
        Ok(Some(ForeignServer {
            oid: server.serverid,
            name: text(server.servername)?,
            owner: server.owner,
            wrapper: text(wrapper.fdwname)?,
            options: options(server.options)?,
        }))
    }
}

/// The mapping of `user` for `server`, else PUBLIC's, if there is one. Needs a transaction.
pub fn user_mapping(server: pg_sys::Oid, user: pg_sys::Oid) -> Result<Option<UserMapping>> {
    for role in [user, pg_sys::InvalidOid] {
        // SAFETY: a transaction is open; the tuple is released after its options were copied. An
        // error in between leaves a pin that the transaction's resource owner releases.
        unsafe {
            let tuple = pg_sys::SearchSysCache2(
                pg_sys::SysCacheIdentifier::USERMAPPINGUSERSERVER as c_int,
                role.into(),
                server.into(),
            );
            if tuple.is_null() {
                continue;
            }
            let mut is_null = true;
            let datum = pg_sys::SysCacheGetAttr(
                pg_sys::SysCacheIdentifier::USERMAPPINGUSERSERVER as c_int,
                tuple,
                pg_sys::Anum_pg_user_mapping_umoptions as i16,
                &raw mut is_null,
            );
            let list = if is_null { ptr::null_mut() } else { pg_sys::untransformRelOptions(datum) };
            let options = options(list);
            pg_sys::ReleaseSysCache(tuple);
            return Ok(Some(UserMapping { options: options? }));
        }
    }
    Ok(None)
}

/// Whether `role` has USAGE on the server.
pub fn may_use(server: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    let mode = pg_sys::AclMode::from(pg_sys::ACL_USAGE);
    // SAFETY: a transaction is open and the server exists, it was just read.
    let result = unsafe {
        #[cfg(feature = "pg15")]
        let result = pg_sys::pg_foreign_server_aclcheck(server, role, mode);
        #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
        let result = pg_sys::object_aclcheck(pg_sys::ForeignServerRelationId, server, role, mode);
        result
    };
    result == pg_sys::AclResult::ACLCHECK_OK
}

/// The role whose rights the running statement has.
pub fn current_user() -> pg_sys::Oid {
    // SAFETY: only reads a variable.
    unsafe { pg_sys::GetUserId() }
}

/// Whether `role` is a superuser. Needs a transaction.
pub fn is_superuser(role: pg_sys::Oid) -> bool {
    // SAFETY: a transaction is open; an unknown role is none.
    unsafe { pg_sys::superuser_arg(role) }
}

/// Whether `member` has the rights of `role`. Needs a transaction.
pub fn has_rights_of(member: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: a transaction is open; looks at the catalog only.
    unsafe { pg_sys::has_privs_of_role(member, role) }
}

/// The name of `role`, or its oid where it is gone. Needs a transaction.
pub fn role_name(role: pg_sys::Oid) -> String {
    // SAFETY: a transaction is open; with noerr an unknown role gives null.
    let name = unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() { None } else { text(name).ok() }
    };
    name.unwrap_or_else(|| role.to_u32().to_string())
}

/// What an options list is about, by the catalog that a validator is called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionPlace {
    /// `CREATE SERVER`.
    Server,
    /// `CREATE USER MAPPING`.
    UserMapping,
    /// The wrapper, a foreign table or its columns.
    Elsewhere,
}

impl OptionPlace {
    /// The place that catalog `relation` stands for.
    pub fn of_catalog(relation: pg_sys::Oid) -> Self {
        match relation {
            pg_sys::ForeignServerRelationId => Self::Server,
            pg_sys::UserMappingRelationId => Self::UserMapping,
            _ => Self::Elsewhere,
        }
    }
}

/// # Safety
/// `list` is null or a list of DefElem with string values, as the catalog gives it.
unsafe fn options(list: *mut pg_sys::List) -> Result<Vec<ServerOption>> {
    // SAFETY: as the caller promises; defGetString gives a valid string for a DefElem.
    unsafe {
        PgList::<pg_sys::DefElem>::from_pg(list)
            .iter_ptr()
            .map(|element| Ok((text((*element).defname)?, text(pg_sys::defGetString(element))?)))
            .collect()
    }
}

/// Text of this database as UTF-8.
///
/// # Safety
/// `text` points to a string in the database's encoding that ends with a zero byte; a transaction is
/// open.
unsafe fn text(text: *const c_char) -> Result<String> {
    // SAFETY: as the caller promises; the result is the same string or a palloc'ed one.
    let converted = unsafe {
        let length = CStr::from_ptr(text).count_bytes() as c_int;
        CStr::from_ptr(pg_sys::pg_server_to_any(text, length, pg_sys::pg_enc::PG_UTF8 as c_int))
    };
    converted.to_str().map(str::to_owned).map_err(|_| {
        // The value may be a secret, so it is not shown.
        OdsError::new(
            ErrorKind::InvalidArgument,
            "a server or user mapping option is not valid text",
        )
    })
}
