//! Child processes of the tests: as which user they run, how they end, where their files and logs go.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::thread;

/// Whom a child runs as.
#[derive(Clone, Copy, Debug)]
pub enum User {
    /// The user that database servers run as, see [`server_user`].
    Server,
    /// Who runs the tests, whose downloads others may not be able to read.
    Own,
}

/// The user that servers run as: this one, or `postgres` when this one is root, whom Postgres refuses.
fn server_user() -> Option<(u32, u32)> {
    // SAFETY: geteuid has no preconditions; getpwnam gets a NUL-terminated name, its result is read
    // at once, and no other code of this process calls a getpw function.
    unsafe {
        if libc::geteuid() != 0 {
            return None;
        }
        let user = libc::getpwnam(c"postgres".as_ptr());
        assert!(!user.is_null(), "servers can't run as root, and there is no user `postgres`");
        Some(((*user).pw_uid, (*user).pw_gid))
    }
}

/// A folder that only this test process uses, short enough for the path of a Unix socket.
pub fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    SCRATCH.get_or_init(|| std::env::temp_dir().join(format!("ods-outside-{}", std::process::id())))
}

/// Where the logs of failed tests are kept.
pub fn logs_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("outside-logs")
}

/// Makes a folder that servers may write.
pub fn make_dir_for_server(dir: &Path) {
    fs::create_dir_all(dir).expect("scratch folder");
    fs::set_permissions(scratch(), fs::Permissions::from_mode(0o755)).expect("scratch folder");
    if let Some((uid, gid)) = server_user() {
        chown(dir, Some(uid), Some(gid)).expect("scratch folder for the server's user");
    }
}

/// A TCP port on 127.0.0.1 that nobody listens at.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

/// As [`free_port`], below the ports that the system gives to clients. While its server is away nobody
/// else gets it: not even a client that keeps asking for the server, which could connect to itself.
pub fn lasting_port() -> u16 {
    const RANGE: std::ops::Range<u32> = 15_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Processes that test at the same time begin at different places.
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let offset = std::process::id().wrapping_mul(61).wrapping_add(step) % RANGE.len() as u32;
        let port = u16::try_from(RANGE.start + offset).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Sends a signal to a child.
pub fn send(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).expect("a process id");
    // SAFETY: kill takes plain numbers; the process is one that this test started.
    unsafe { libc::kill(pid, signal) };
}

/// Runs a program to its end as the server's user; the test fails if it does.
pub fn run(command: Command) -> Output {
    run_as(command, User::Server)
}

/// As [`run`], as somebody else.
pub fn run_as(command: Command, user: User) -> Output {
    let program = command.get_program().to_owned();
    let mut command = command;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn_as(command, user, libc::SIGQUIT);
    let output = child.wait_with_output().expect("output of a child");
    assert!(
        output.status.success(),
        "{} failed: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Starts a program as the server's user, so that it ends when this process does.
pub fn spawn(command: Command) -> Child {
    spawn_as(command, User::Server, libc::SIGQUIT)
}

/// Starts a program, so that it gets the signal `at_our_end` when this process ends.
///
/// Linux sends the death signal when the *thread* that forked ends, and test threads end early: one
/// thread that lives as long as the process forks for all.
pub fn spawn_as(mut command: Command, user: User, at_our_end: i32) -> Child {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static FORKER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();

    command.env("RUST_BACKTRACE", "0").env("LC_ALL", "C").current_dir("/");
    for name in ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGOPTIONS", "PGDATA"] {
        command.env_remove(name);
    }
    if let (User::Server, Some((uid, gid))) = (user, server_user()) {
        command.uid(uid).gid(gid);
    }
    // SAFETY: the closure runs between fork and exec and calls only the async-signal-safe prctl.
    unsafe {
        command.pre_exec(move || match libc::prctl(libc::PR_SET_PDEATHSIG, at_our_end) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    let forker = FORKER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, answer) in jobs {
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, child) = mpsc::channel();
    let program = command.get_program().to_owned();
    forker.send((command, answer)).expect("the forking thread lives");
    child
        .recv()
        .expect("the forking thread answers")
        .unwrap_or_else(|error| panic!("can't start {}: {error}", program.display()))
}
