//! A Postgres cluster that lives in a scratch folder and dies with the test process.

mod copy;

use super::client;
use super::process::{free_port, logs_dir, make_dir_for_server, run, scratch, send, spawn};
use postgres::Client;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to start, to recover or to stop before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a cluster is for, and how it differs from the defaults.
pub struct ClusterOptions {
    name: String,
    settings: Vec<(String, String)>,
    programs: Programs,
}

/// Whose programs a cluster runs.
#[derive(Clone, Debug)]
enum Programs {
    /// Those of the Postgres under test.
    Tested,
    /// Those in this folder.
    In(PathBuf),
}

impl Programs {
    fn path(&self, program: &str) -> PathBuf {
        match self {
            Self::Tested => bin(program),
            Self::In(dir) => dir.join(program),
        }
    }
}

impl ClusterOptions {
    /// An upstream: logical decoding on, prepared transactions allowed.
    pub fn source(name: &str) -> Self {
        Self::plain(name)
            .setting("wal_level", "logical")
            .setting("max_wal_senders", "30")
            .setting("max_replication_slots", "30")
            .setting("max_prepared_transactions", "10")
            .setting("max_connections", "150")
    }

    /// A cluster that preloads `ods`.
    pub fn ods(name: &str) -> Self {
        Self::plain(name)
            .setting("shared_preload_libraries", "ods")
            .setting("wal_level", "logical")
            .setting("max_worker_processes", "32")
    }

    fn plain(name: &str) -> Self {
        Self { name: name.to_owned(), settings: Vec::new(), programs: Programs::Tested }
    }

    /// Runs the server of another major, as `scripts/upstreams.sh` brings them.
    #[must_use]
    pub fn major(mut self, major: u32) -> Self {
        let root = std::env::var_os("ODS_UPSTREAMS")
            .map_or_else(|| PathBuf::from("/var/tmp/ods-upstreams"), PathBuf::from);
        let dir = root.join(major.to_string()).join("bin");
        assert!(
            dir.join("postgres").exists(),
            "no Postgres {major} in {}: run scripts/upstreams.sh",
            root.display()
        );
        self.programs = Programs::In(dir);
        self
    }

    /// Adds a setting, or replaces one.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// How to stop a server.
#[derive(Clone, Copy, Debug)]
pub enum Shutdown {
    /// Sessions are ended, then a checkpoint is taken.
    Fast,
    /// As if the machine lost power; the next start recovers.
    Immediate,
}

/// A running cluster. Dropping it stops the server and removes its files; the server log is kept
/// when the test failed.
pub struct Cluster {
    name: String,
    programs: Programs,
    home: PathBuf,
    port: u16,
    server: Mutex<Option<Child>>,
    failed: AtomicBool,
}

impl Cluster {
    /// Makes a cluster and starts it.
    ///
    /// Each cluster runs `initdb` of its own: a copied data folder would carry the system identifier
    /// of its original, by which `ods` tells copies from originals.
    pub fn start(options: ClusterOptions) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let home = scratch().join(format!("{number}-{}", options.name));
        make_dir_for_server(&home);
        let port = free_port();
        let cluster = Self {
            name: options.name,
            programs: options.programs,
            home,
            port,
            server: Mutex::new(None),
            failed: AtomicBool::new(false),
        };
        let mut initdb = Command::new(cluster.programs.path("initdb"));
        initdb.args(["--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8"]);
        initdb.args(["--locale=C", "--pgdata"]).arg(cluster.data());
        run(initdb);
        cluster.write_config(&options.settings);
        cluster.start_again();
        cluster
    }

    fn write_config(&self, settings: &[(String, String)]) {
        let mut text = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\n\
             password_encryption = 'scram-sha-256'\nlogging_collector = off\n\
             log_line_prefix = '%m [%p] %b %q%a '\nlog_min_messages = info\n\
             shared_buffers = '64MB'\nmax_wal_size = '4GB'\ncheckpoint_timeout = '30min'\n",
            self.port,
            self.home.display(),
        );
        for (name, value) in settings {
            text.push_str(&format!("{name} = '{value}'\n"));
        }
        let file = self.data().join("postgresql.conf");
        let mut whole = fs::read_to_string(&file).expect("postgresql.conf");
        whole.push_str(&text);
        fs::write(&file, whole).expect("postgresql.conf");
        let hba = "local all all trust\nlocal replication all trust\n\
                   host all all 127.0.0.1/32 scram-sha-256\n\
                   host replication all 127.0.0.1/32 scram-sha-256\n";
        fs::write(self.data().join("pg_hba.conf"), hba).expect("pg_hba.conf");
    }

    /// Starts the stopped server and waits until it takes connections.
    pub fn start_again(&self) {
        let mut server = self.lock();
        assert!(server.is_none(), "{} is running already", self.name);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("server log");
        let mut command = Command::new(self.programs.path("postgres"));
        command.arg("-D").arg(self.data());
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().expect("server log")).stderr(log);
        *server = Some(spawn(command));
        drop(server);
        self.wait_ready();
    }

    /// Waits until the server takes connections, through a crash recovery too.
    pub fn wait_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Err(error) = client::try_connect(self, "postgres", "postgres") else { return };
            let exited = self
                .lock()
                .as_mut()
                .and_then(|child| child.try_wait().expect("waitpid of a child"));
            if let Some(status) = exited {
                panic!("{} ended with {status}:\n{}", self.name, self.log_tail());
            }
            if Instant::now() > deadline {
                panic!("{} takes no connections: {error}\n{}", self.name, self.log_tail());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the server and tells how long that took.
    pub fn stop(&self, how: Shutdown) -> Duration {
        let begin = Instant::now();
        let Some(mut server) = self.lock().take() else { return Duration::ZERO };
        let signal = match how {
            Shutdown::Fast => libc::SIGINT,
            Shutdown::Immediate => libc::SIGQUIT,
        };
        send(server.id(), signal);
        while server.try_wait().expect("waitpid of a child").is_none() {
            if begin.elapsed() > PATIENCE {
                send(server.id(), libc::SIGKILL);
                server.wait().expect("waitpid of a child");
                self.mark_failed();
                panic!("{} did not stop ({how:?}):\n{}", self.name, self.log_tail());
            }
            thread::sleep(Duration::from_millis(5));
        }
        begin.elapsed()
    }

    /// Stops the server and starts it again.
    pub fn restart(&self, how: Shutdown) {
        self.stop(how);
        self.start_again();
    }

    /// Kills one of the cluster's processes the hard way and waits until the server has recovered.
    pub fn kill9(&self, pid: i32) {
        let recoveries = self.count_in_log("all server processes terminated");
        send(u32::try_from(pid).expect("a process id"), libc::SIGKILL);
        let deadline = Instant::now() + PATIENCE;
        while self.count_in_log("all server processes terminated") == recoveries {
            assert!(Instant::now() < deadline, "{}: no recovery after kill -9 of {pid}", self.name);
            thread::sleep(Duration::from_millis(5));
        }
        self.wait_ready();
    }

    /// Stops one of the cluster's processes where it is.
    pub fn sigstop(&self, pid: i32) {
        send(u32::try_from(pid).expect("a process id"), libc::SIGSTOP);
    }

    /// Lets a stopped process go on.
    pub fn sigcont(&self, pid: i32) {
        send(u32::try_from(pid).expect("a process id"), libc::SIGCONT);
    }

    /// A superuser's connection to `database`.
    pub fn connect(&self, database: &str) -> Client {
        client::connect(self, database)
    }

    /// Sets parameters for the whole server and reloads.
    pub fn alter_system(&self, name: &str, value: &str) {
        let mut admin = self.connect("postgres");
        admin.batch_execute(&format!("ALTER SYSTEM SET {name} = '{value}'")).expect("ALTER SYSTEM");
        admin.execute("SELECT pg_reload_conf()", &[]).expect("reload");
    }

    /// The TCP port on 127.0.0.1, where passwords are asked for.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the Unix socket, where no password is asked for.
    pub fn socket_dir(&self) -> &Path {
        &self.home
    }

    /// The whole server log.
    pub fn log(&self) -> String {
        fs::read(self.log_file())
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Keeps the server log when the cluster is dropped.
    pub fn mark_failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    fn count_in_log(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.home.join("server.log")
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let failed = thread::panicking() || self.failed.load(Ordering::Relaxed);
        if let Some(mut server) = self.lock().take() {
            // A test that failed may have left anything behind: no shutdown checkpoint for it.
            send(server.id(), if failed { libc::SIGQUIT } else { libc::SIGINT });
            let begin = Instant::now();
            while matches!(server.try_wait(), Ok(None)) {
                if begin.elapsed() > PATIENCE {
                    send(server.id(), libc::SIGKILL);
                    let _ = server.wait();
                    eprintln!("{} had to be killed", self.name);
                    break;
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
        if failed {
            let number_and_name = self.home.file_name().unwrap_or_default().display();
            let kept = logs_dir().join(format!("{}-{number_and_name}.log", std::process::id()));
            match fs::create_dir_all(logs_dir()).and_then(|()| fs::copy(self.log_file(), &kept)) {
                Ok(_) => eprintln!("server log of {}: {}", self.name, kept.display()),
                Err(error) => eprintln!("server log of {} is lost: {error}", self.name),
            }
        }
        let _ = fs::remove_dir_all(&self.home);
        // The last cluster to go takes the scratch folder along; others find it not empty.
        let _ = fs::remove_dir(scratch());
    }
}

/// A program of the Postgres under test.
pub fn bin(program: &str) -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let config = std::env::var_os("PG_CONFIG").expect(
            "PG_CONFIG must name the pg_config of the Postgres to test; `make check` sets it",
        );
        let output = Command::new(config).arg("--bindir").output().expect("pg_config runs");
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
    .join(program)
}
