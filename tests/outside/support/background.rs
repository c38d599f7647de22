//! A thread that works until it is told to stop, or until the test that started it ends.

use crate::support::pair::Pair;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The thread; dropped, it is stopped and waited for, so that a failed test leaves none behind.
pub struct Background<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Background<T> {
    /// Starts a thread that looks at the flag now and then, and ends once it is set.
    pub fn start(work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        Self { stop, thread: Some(thread::spawn(move || work(&flag))) }
    }

    /// Stops the thread and returns what it came to.
    pub fn stop(mut self) -> T {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("stopped once").join().expect("the background thread failed")
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Has the source's commits wait for a standby that isn't there for as long as `away`, and lets them go
/// for as long as `back`, again and again: they hang between WAL and visibility.
pub fn without_standby(pair: &Arc<Pair>, away: Duration, back: Duration) -> Background<()> {
    let pair = Arc::clone(pair);
    Background::start(move |stop| {
        while !stop.load(Ordering::Relaxed) {
            pair.source.alter_system("synchronous_standby_names", "nobody");
            thread::sleep(away);
            pair.source.alter_system("synchronous_standby_names", "");
            thread::sleep(back);
        }
    })
}
