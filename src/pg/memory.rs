//! Memory that outlives transactions.

use pgrx::pg_sys;
use std::ffi::CStr;

/// A memory context of its own, deleted when dropped.
pub struct Context(pg_sys::MemoryContext);

impl Context {
    /// An empty context; `name` shows in memory dumps.
    pub fn new(name: &'static CStr) -> Self {
        // SAFETY: TopMemoryContext exists for the life of the process, and the name is static, as
        // AllocSetContextCreate asks.
        Self(unsafe {
            pg_sys::AllocSetContextCreateExtended(
                pg_sys::TopMemoryContext,
                name.as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        })
    }

    /// The context, for calls that take one.
    pub(super) fn raw(&self) -> pg_sys::MemoryContext {
        self.0
    }

    /// Runs `f` with this context current.
    pub(super) fn within<T>(&self, f: impl FnOnce() -> T) -> T {
        // SAFETY: the context is alive. When `f` raises, the handler of the error puts the context
        // of its own back.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.0);
            let value = f();
            pg_sys::MemoryContextSwitchTo(before);
            value
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // An error that unwinds may still have use for what is in here; it is left to the process.
        if !std::thread::panicking() {
            // SAFETY: created by `new` and deleted once; nothing allocated in it is referred to any
            // more, since its owner is being dropped.
            unsafe { pg_sys::MemoryContextDelete(self.0) };
        }
    }
}
