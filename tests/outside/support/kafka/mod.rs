//! Kafka and what stands around it, the real things: brokers, Kafka Connect with Debezium, a schema
//! registry, MariaDB. `scripts/kafka-parts.sh` fetches them.

pub mod audit;
pub mod broker;
pub mod client;
pub mod connect;
pub mod debezium;
pub mod flow;
pub mod mariadb;
pub mod poison;
pub mod program;
pub mod record;
pub mod registry;
pub mod sample;
pub mod scene;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long one of the parts may take for what takes it seconds.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A part that `scripts/kafka-parts.sh` has fetched.
pub fn part(name: &str) -> PathBuf {
    let root = std::env::var_os("ODS_KAFKA").map_or_else(
        || {
            std::env::var_os("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
                .expect("a home folder")
                .join("ods-kafka")
        },
        PathBuf::from,
    );
    let dir = root.join(name);
    assert!(
        dir.join(".made-of").exists(),
        "no part {name} in {}: run scripts/kafka-parts.sh",
        root.display()
    );
    dir
}

/// A Java virtual machine.
#[derive(Clone, Copy, Debug)]
pub struct Java {
    /// Megabytes of heap at most.
    pub heap: u32,
    /// How it begins and collects garbage.
    pub options: &'static [&'static str],
}

impl Java {
    /// One with the collector that has the smallest footprint.
    pub const fn small(heap: u32) -> Self {
        Self { heap, options: &["-Xms64m", "-XX:+UseSerialGC"] }
    }

    /// The command, its class path or jar still to be named.
    pub fn command(self) -> Command {
        let java = std::env::var_os("JAVA_HOME")
            .map_or_else(|| PathBuf::from("java"), |home| PathBuf::from(home).join("bin/java"));
        let mut command = Command::new(java);
        command.arg(format!("-Xmx{}m", self.heap)).args(self.options);
        // An end instead of a virtual machine that limps on.
        command.arg("-XX:+ExitOnOutOfMemoryError");
        // In the locale C that servers run in, Debezium would not know a table by its name in the binary log.
        command.arg("-Dfile.encoding=UTF-8");
        command
    }

    /// The command, with the class path of the broker and of Connect.
    pub fn kafka(self, log_config: &Path) -> Command {
        let mut command = self.command();
        command.arg(format!("-Dlog4j.configuration=file:{}", log_config.display()));
        command.arg("-cp").arg(part("kafka").join("*"));
        command
    }
}

/// The configuration of log4j by which everything goes to the program's log.
pub const LOG4J: &str = "log4j.rootLogger=INFO, stdout\n\
    log4j.appender.stdout=org.apache.log4j.ConsoleAppender\n\
    log4j.appender.stdout.layout=org.apache.log4j.PatternLayout\n\
    log4j.appender.stdout.layout.ConversionPattern=%d{ISO8601} %p %c{1} %m%n\n";
