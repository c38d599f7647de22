//! What the current user owns, and so may drop, rename or copy.

use super::{Allowed, Statement};
use pgrx::pg_sys::{self, Oid};
use std::ffi::{CString, c_char};

/// The catalogs whose objects have an owner that matters here.
#[derive(Clone, Copy)]
pub(super) enum Class {
    Database,
    Server,
    Wrapper,
    Extension,
    Schema,
}

/// Whether the current user may drop or rename the object: nobody else makes workers step aside.
pub(super) fn owns(class: Class, object: Oid) -> bool {
    // SAFETY: the object was looked up a moment ago; the check raises when it vanished since.
    unsafe {
        let user = pg_sys::GetUserId();
        #[cfg(feature = "pg15")]
        {
            match class {
                Class::Database => pg_sys::pg_database_ownercheck(object, user),
                Class::Server => pg_sys::pg_foreign_server_ownercheck(object, user),
                Class::Wrapper => pg_sys::pg_foreign_data_wrapper_ownercheck(object, user),
                Class::Extension => pg_sys::pg_extension_ownercheck(object, user),
                Class::Schema => pg_sys::pg_namespace_ownercheck(object, user),
            }
        }
        #[cfg(not(feature = "pg15"))]
        {
            let catalog = match class {
                Class::Database => pg_sys::DatabaseRelationId,
                Class::Server => pg_sys::ForeignServerRelationId,
                Class::Wrapper => pg_sys::ForeignDataWrapperRelationId,
                Class::Extension => pg_sys::ExtensionRelationId,
                Class::Schema => pg_sys::NamespaceRelationId,
            };
            pg_sys::object_ownercheck(catalog, object, user)
        }
    }
}

/// The database of that name, if the current user owns it.
pub(super) unsafe fn owned(name: *const c_char) -> Option<Oid> {
    // SAFETY: a look-up with missing_ok.
    let database = unsafe { pg_sys::get_database_oid(name, true) };
    (database != Oid::INVALID && owns(Class::Database, database)).then_some(database)
}

pub(super) unsafe fn owned_database(name: *const c_char, allowed: Allowed) -> Option<Statement> {
    // SAFETY: as the caller's.
    unsafe { owned(name) }.map(|database| Statement::UseAlone { database, allowed })
}

pub(super) fn owned_server(name: &str) -> Option<Oid> {
    let name = CString::new(name).ok()?;
    // SAFETY: a look-up with missing_ok.
    let server = unsafe { pg_sys::get_foreign_server_oid(name.as_ptr(), true) };
    (server != Oid::INVALID && owns(Class::Server, server)).then_some(server)
}

/// Whether the current user may create databases.
pub(super) fn may_create_database() -> bool {
    // SAFETY: a syscache look-up; the tuple is released after its one field is read.
    unsafe {
        let user = pg_sys::GetUserId();
        if pg_sys::superuser_arg(user) {
            return true;
        }
        let role = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::AUTHOID as _,
            pg_sys::Datum::from(user),
        );
        if role.is_null() {
            return false;
        }
        let form = pg_sys::GETSTRUCT(role).cast::<pg_sys::FormData_pg_authid>();
        let allowed = (*form).rolcreatedb;
        pg_sys::ReleaseSysCache(role);
        allowed
    }
}

/// Whether someone who may create databases may copy this one: a template, or their own.
pub(super) fn may_copy(database: Oid) -> bool {
    // SAFETY: a syscache look-up; the tuple is released after its one field is read.
    let is_template = unsafe {
        let found = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::DATABASEOID as _,
            pg_sys::Datum::from(database),
        );
        if found.is_null() {
            return false;
        }
        let form = pg_sys::GETSTRUCT(found).cast::<pg_sys::FormData_pg_database>();
        let is_template = (*form).datistemplate;
        pg_sys::ReleaseSysCache(found);
        is_template
    };
    is_template || owns(Class::Database, database)
}
