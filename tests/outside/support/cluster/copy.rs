//! A cluster's files: put aside and put back, dumped, and clusters made from them.

use super::{Cluster, Programs};
use crate::support::process::{free_port, make_dir_for_server, run, scratch};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

impl Cluster {
    /// Puts the files of the stopped server aside.
    pub fn save_files(&self) {
        self.assert_stopped();
        copy_folder(&self.data(), &self.home.join("saved"));
    }

    /// Puts back what [`Cluster::save_files`] has put aside, as if a snapshot were restored.
    pub fn restore_files(&self) {
        self.assert_stopped();
        fs::remove_dir_all(self.data()).expect("the data folder goes");
        fs::rename(self.home.join("saved"), self.data()).expect("the saved files come back");
    }

    /// Makes a standby of this cluster, on a port of its own, and starts it.
    pub fn standby(&self, name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let home = scratch().join(format!("b{number}-{name}"));
        make_dir_for_server(&home);
        let made = Self {
            name: name.to_owned(),
            programs: match &self.programs {
                Programs::Tested => Programs::Tested,
                Programs::In(dir) => Programs::In(dir.clone()),
            },
            home,
            port: free_port(),
            server: Mutex::new(None),
            failed: AtomicBool::new(false),
        };
        let data = made.data().display().to_string();
        let arguments =
            ["--checkpoint=fast", "--no-sync", "--write-recovery-conf", "--pgdata", &data];
        self.program("pg_basebackup", &arguments);
        let file = made.data().join("postgresql.conf");
        let mut config = fs::read_to_string(&file).expect("postgresql.conf");
        config.push_str(&format!(
            "port = {}\nunix_socket_directories = '{}'\n",
            made.port,
            made.home.display()
        ));
        fs::write(&file, config).expect("postgresql.conf");
        made.start_again();
        made
    }

    /// Runs a client program as the superuser of this cluster.
    pub fn program(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.programs.path(program));
        command.arg("--host").arg(&self.home).args(["--username", "postgres"]);
        command.args(["--port", &self.port.to_string()]).args(arguments);
        run(command)
    }

    /// Makes a folder that the server may write, for a tablespace; its path.
    pub fn folder(&self, name: &str) -> String {
        make_dir_for_server(&self.home.join(name));
        self.file(name)
    }

    /// A path in the cluster's own folder, which its programs may write.
    pub fn file(&self, name: &str) -> String {
        self.home.join(name).display().to_string()
    }

    fn assert_stopped(&self) {
        assert!(self.lock().is_none(), "{} must be stopped", self.name);
    }
}

fn copy_folder(from: &Path, to: &Path) {
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(from).arg(to);
    run(copy);
}
