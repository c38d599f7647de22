//! A server program that lives in a scratch folder and dies with the test process.

use super::PATIENCE;
use crate::support::process::{User, logs_dir, make_dir_for_server, scratch, send, spawn_as};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The program. Dropping it ends it and removes its folder; its log is kept when the test failed.
pub struct Program {
    name: String,
    home: PathBuf,
    user: User,
    child: Mutex<Option<Child>>,
}

impl Program {
    /// Makes the folder of a program that is not running yet.
    pub fn new(name: &str, user: User) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let home = scratch().join(format!("k{number}-{name}"));
        match user {
            User::Server => make_dir_for_server(&home),
            User::Own => fs::create_dir_all(&home).expect("scratch folder"),
        }
        Self { name: name.to_owned(), home, user, child: Mutex::new(None) }
    }

    /// Starts the program. It writes what it has to say to its log.
    pub fn start(&self, mut command: Command) {
        let mut child = self.lock();
        assert!(child.is_none(), "{} is running already", self.name);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("the program's log");
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().expect("the program's log")).stderr(log);
        *child = Some(spawn_as(command, self.user, libc::SIGKILL));
    }

    /// Asks again and again until the answer is good; fails the test if the program ends before, or
    /// after too long a time.
    pub fn wait<T>(&self, what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match ask() {
                Ok(answer) => return answer,
                Err(error) => error,
            };
            let ended = self
                .lock()
                .as_mut()
                .and_then(|child| child.try_wait().expect("waitpid of a child"));
            if let Some(status) = ended {
                panic!("{} ended with {status}:\n{}", self.name, self.log_tail());
            }
            if Instant::now() > deadline {
                panic!("{}: {what}: {error}\n{}", self.name, self.log_tail());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the program as a person would, and waits for its end.
    pub fn stop(&self) {
        let Some(mut child) = self.lock().take() else { return };
        send(child.id(), libc::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().expect("waitpid of a child").is_none() {
            if Instant::now() > deadline {
                send(child.id(), libc::SIGKILL);
                child.wait().expect("waitpid of a child");
                panic!("{} did not stop:\n{}", self.name, self.log_tail());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the program the hard way.
    pub fn kill9(&self) {
        let Some(mut child) = self.lock().take() else { return };
        send(child.id(), libc::SIGKILL);
        child.wait().expect("waitpid of a child");
    }

    /// Stops the program where it is, as if its machine hung.
    pub fn sigstop(&self) {
        send(self.pid(), libc::SIGSTOP);
    }

    /// Lets a stopped program go on.
    pub fn sigcont(&self) {
        send(self.pid(), libc::SIGCONT);
    }

    /// The process id of the running program.
    pub fn pid(&self) -> u32 {
        self.lock().as_ref().unwrap_or_else(|| panic!("{} is not running", self.name)).id()
    }

    /// The largest memory that the running program has had, in megabytes.
    pub fn peak_memory(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") / 1024
    }

    /// The folder of the program.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Writes a file into the program's folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.home.join(name);
        fs::write(&file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        file
    }

    /// The whole log.
    pub fn log(&self) -> String {
        fs::read(self.log_file())
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// The end of the log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn log_file(&self) -> PathBuf {
        self.home.join("server.log")
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Its files go, so that an orderly end would be for nobody.
        self.kill9();
        if thread::panicking() {
            let number_and_name = self.home.file_name().unwrap_or_default().display();
            let kept = logs_dir().join(format!("{}-{number_and_name}.log", std::process::id()));
            match fs::create_dir_all(logs_dir()).and_then(|()| fs::copy(self.log_file(), &kept)) {
                Ok(_) => eprintln!("log of {}: {}", self.name, kept.display()),
                Err(error) => eprintln!("log of {} is lost: {error}", self.name),
            }
        }
        let _ = fs::remove_dir_all(&self.home);
        let _ = fs::remove_dir(scratch());
    }
}
