//! Looking on from another thread while something is measured.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether what is watched is over.
#[derive(Default)]
pub struct Over(AtomicBool);

impl Over {
    /// Asked by the thread that watches.
    pub fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// It is over when the guard is dropped, by a panic too: the watching thread would look on
    /// for ever, and the scope that both share wait for it.
    pub fn at_end(&self) -> impl Drop {
        struct Guard<'o>(&'o Over);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                self.0.0.store(true, Ordering::Relaxed);
            }
        }
        Guard(self)
    }
}
