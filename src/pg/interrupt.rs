//! Signals as Postgres hands them on: termination, cancel and configuration reload.

use pgrx::pg_sys;

/// Serves pending interrupts. A termination request ends the process here, a cancel raises.
pub fn check() {
    pgrx::check_for_interrupts!();
}

/// Reads the configuration files again if a reload was asked for.
pub fn reload_config_if_asked() {
    // SAFETY: the flag is a sig_atomic_t set by SignalHandlerForConfigReload; ProcessConfigFile is
    // what every core worker calls between units of work.
    unsafe {
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}
