//! Whether a person's function is running that could write.
//!
//! Postgres asks a hook about each function that it looks up and then reports each of its calls.
//! Functions that are built in, those of foreign keys among them, are never asked about.

use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;
use std::sync::OnceLock;

thread_local! {
    static IS_WATCHING: Cell<bool> = const { Cell::new(false) };
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

struct Previous {
    is_needed: pg_sys::needs_fmgr_hook_type,
    called: pg_sys::fmgr_hook_type,
}

static PREVIOUS: OnceLock<Previous> = OnceLock::new();

/// Puts the hooks in place. To be called once, while the library loads.
pub fn install() {
    // SAFETY: the hooks are plain variables of the postmaster, still single-threaded and without
    // children while it loads libraries.
    unsafe {
        let previous = Previous { is_needed: pg_sys::needs_fmgr_hook, called: pg_sys::fmgr_hook };
        if PREVIOUS.set(previous).is_ok() {
            pg_sys::needs_fmgr_hook = Some(is_needed);
            pg_sys::fmgr_hook = Some(called);
        }
    }
}

/// Counts calls of functions that could write, in this process from now on. Look-ups that were made
/// before and are still in use go uncounted, so a process that wants to know begins with this.
pub fn watch() {
    IS_WATCHING.set(true);
}

/// How many calls of functions that could write are under way.
pub fn depth() -> u32 {
    DEPTH.get()
}

/// A function that isn't volatile can't write: every language runs its statements read-only, and a
/// volatile function that it calls is asked about itself. So such functions are inlined as ever.
#[pg_guard]
unsafe extern "C-unwind" fn is_needed(function: pg_sys::Oid) -> bool {
    // SAFETY: Postgres has just found the function in its catalog, which is what func_volatile
    // looks it up in.
    let could_write =
        || unsafe { pg_sys::func_volatile(function) as u8 == pg_sys::PROVOLATILE_VOLATILE };
    if IS_WATCHING.get() && could_write() {
        return true;
    }
    match PREVIOUS.get().and_then(|previous| previous.is_needed) {
        // SAFETY: called with Postgres's own argument.
        Some(previous) => unsafe { previous(function) },
        None => false,
    }
}

unsafe extern "C-unwind" fn called(
    event: pg_sys::FmgrHookEventType::Type,
    function: *mut pg_sys::FmgrInfo,
    argument: *mut pg_sys::Datum,
) {
    DEPTH.set(match event {
        pg_sys::FmgrHookEventType::FHET_START => DEPTH.get().saturating_add(1),
        _ => DEPTH.get().saturating_sub(1),
    });
    if let Some(previous) = PREVIOUS.get().and_then(|previous| previous.called) {
        // SAFETY: called with Postgres's own arguments; we keep nothing in the private one.
        unsafe { previous(event, function, argument) };
    }
}
