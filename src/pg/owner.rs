//! Acting as a table's owner, with the restrictions Postgres gives to maintenance commands.

use crate::pg::bgworker::VALUE_SETTINGS;
use pgrx::pg_sys;
use std::ffi::CStr;

/// While it lives, the process acts as `owner` in a security-restricted operation.
///
/// Settings changed meanwhile, by a trigger for example, are rolled back at the end.
pub struct ActingAs {
    user: pg_sys::Oid,
    context: i32,
    nest_level: i32,
}

impl ActingAs {
    /// Switches to the owner of `relation`, restricted: what runs may be that person's SQL. For
    /// workers, whose search path holds nothing of anybody's. The lock that writing takes is taken
    /// first and kept, so that the owner stays who it is; an error if the relation is gone.
    pub fn owner_of(relation: pg_sys::Oid) -> crate::error::Result<Self> {
        Self::owner_under(relation, pg_sys::RowExclusiveLock)
    }

    /// As [`Self::owner_of`], to read under the lock that reading takes, also in a person's session:
    /// names mean what they mean to workers, and values are written as workers write them.
    pub fn reader_of(relation: pg_sys::Oid) -> crate::error::Result<Self> {
        let acting = Self::owner_under(relation, pg_sys::AccessShareLock)?;
        acting.set(c"search_path", c"pg_catalog, pg_temp");
        for (setting, value) in VALUE_SETTINGS {
            acting.set(setting, value);
        }
        Ok(acting)
    }

    fn owner_under(relation: pg_sys::Oid, lock: u32) -> crate::error::Result<Self> {
        // SAFETY: the relation is open while its owner is read; the lock ends with the transaction.
        let owner = unsafe {
            let opened = pg_sys::try_relation_open(relation, lock as _);
            if opened.is_null() {
                return Err(crate::error::OdsError::new(
                    crate::error::ErrorKind::NotFound,
                    "the synced table is gone",
                ));
            }
            let owner = (*(*opened).rd_rel).relowner;
            pg_sys::relation_close(opened, pg_sys::NoLock as _);
            owner
        };
        // Row security that is forced upon owners would hide rows from whom they must be known to.
        let restriction = pg_sys::SECURITY_RESTRICTED_OPERATION | pg_sys::SECURITY_NOFORCE_RLS;
        Ok(Self::switch(owner, restriction as i32))
    }

    /// Switches to `user` for statements of our own, which must not pick up objects of whoever
    /// called.
    pub fn user(user: pg_sys::Oid) -> Self {
        let acting = Self::switch(user, 0);
        acting.set(c"search_path", c"pg_catalog, pg_temp");
        acting
    }

    /// Changes a setting until this ends.
    pub fn set(&self, setting: &CStr, value: &CStr) {
        // SAFETY: the setting is put back with the nest level that `switch` began.
        unsafe {
            pg_sys::set_config_option(
                setting.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
    }

    fn switch(new: pg_sys::Oid, restriction: i32) -> Self {
        let mut user = pg_sys::InvalidOid;
        let mut context = 0;
        // SAFETY: the previous identity is restored in Drop; an error in between is restored by
        // AbortTransaction, which resets user and context to what the transaction began with.
        let nest_level = unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            pg_sys::SetUserIdAndSecContext(
                new,
                context | restriction | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32,
            );
            pg_sys::NewGUCNestLevel()
        };
        Self { user, context, nest_level }
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: undoes exactly what `switch` did.
            unsafe {
                pg_sys::AtEOXact_GUC(false, self.nest_level);
                pg_sys::SetUserIdAndSecContext(self.user, self.context);
            }
        }
    }
}

/// Runs `f` as the owner of the extension, who owns the catalog tables.
pub fn as_extension_owner<T>(
    f: impl FnOnce() -> crate::error::Result<T>,
) -> crate::error::Result<T> {
    let owner = pgrx::Spi::get_one::<pg_sys::Oid>(
        "SELECT e.extowner FROM pg_catalog.pg_extension e WHERE e.extname OPERATOR(pg_catalog.=) 'ods'::pg_catalog.name",
    )
    .map_err(crate::catalog::table::spi_error)?
    .ok_or_else(|| {
        crate::error::OdsError::new(
            crate::error::ErrorKind::NotFound,
            "extension ods is not installed here",
        )
        .hint("CREATE EXTENSION ods;")
    })?;
    let _acting = ActingAs::user(owner);
    f()
}
