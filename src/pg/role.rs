//! Acting as another role for the length of a block.

use pgrx::pg_sys::{self, Oid};

/// Acts as a role until dropped, with `SET ROLE` refused meanwhile.
pub struct ActAs {
    role: Oid,
    context: i32,
}

impl ActAs {
    /// Becomes the owner of `relation`, or stays who it is where the relation is gone.
    pub fn owner_of(relation: Oid) -> Self {
        let (mut role, mut context) = (Oid::INVALID, 0);
        // SAFETY: reads and writes two process-local variables; Postgres puts them back itself
        // when the transaction or subtransaction aborts.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut role, &mut context);
            let opened = pg_sys::try_relation_open(relation, pg_sys::AccessShareLock as _);
            if !opened.is_null() {
                let owner = (*(*opened).rd_rel).relowner;
                pg_sys::relation_close(opened, pg_sys::NoLock as _);
                pg_sys::SetUserIdAndSecContext(
                    owner,
                    context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32,
                );
            }
        }
        Self { role, context }
    }
}

impl Drop for ActAs {
    fn drop(&mut self) {
        // Postgres is not to be called while one of its errors unwinds; the abort that follows
        // restores the role.
        if !std::thread::panicking() {
            // SAFETY: the values come from GetUserIdAndSecContext.
            unsafe { pg_sys::SetUserIdAndSecContext(self.role, self.context) };
        }
    }
}
