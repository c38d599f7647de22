//! A real Kafka Connect worker, in which Debezium's connectors run.

use super::program::Program;
use super::{Java, LOG4J, PATIENCE, part};
use crate::support::process::{User, lasting_port};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Megabytes of heap, for a handful of connectors.
const HEAP: u32 = 768;

/// A plugin folder of `scripts/kafka-parts.sh`. A worker looks through all that it is given when it
/// starts, so it is given what its test needs.
#[derive(Clone, Copy, Debug)]
pub enum Plugin {
    Postgres,
    MariaDb,
    Avro,
}

impl Plugin {
    fn part(self) -> &'static str {
        match self {
            Self::Postgres => "debezium-postgres",
            Self::MariaDb => "debezium-mariadb",
            Self::Avro => "avro-converter",
        }
    }
}

/// A worker on its own. What its connectors have read is kept over stops and kills, and so are the
/// connectors.
pub struct Connect {
    program: Program,
    port: u16,
    java: Java,
    connectors: Mutex<BTreeMap<String, Value>>,
}

impl Connect {
    /// Starts a worker that writes to these brokers.
    pub fn start(name: &str, bootstrap: &str, plugins: &[Plugin]) -> Self {
        let plugins: Vec<&str> = plugins.iter().map(|plugin| plugin.part()).collect();
        Self::start_with(name, bootstrap, &plugins, Java::small(HEAP))
    }

    /// As [`Connect::start`], with these parts as plugins, in a virtual machine of one's own choice.
    pub fn start_with(name: &str, bootstrap: &str, plugins: &[&str], java: Java) -> Self {
        let program = Program::new(name, User::Own);
        let port = lasting_port();
        // The folder that holds plugins is named, so each plugin gets one of its own here.
        let plugin_path = program.home().join("plugins");
        std::fs::create_dir(&plugin_path).expect("plugin folder");
        for plugin in plugins {
            let link = plugin_path.join(plugin);
            std::os::unix::fs::symlink(part(plugin), link).expect("plugin folder");
        }
        let converter = "org.apache.kafka.connect.json.JsonConverter";
        let config = format!(
            "bootstrap.servers={bootstrap}
listeners=http://127.0.0.1:{port}
plugin.path={plugins}
offset.storage.file.filename={offsets}
offset.flush.interval.ms=500
connector.client.config.override.policy=All
key.converter={converter}
value.converter={converter}
task.shutdown.graceful.timeout.ms=3000
",
            plugins = plugin_path.display(),
            offsets = program.home().join("offsets").display(),
        );
        program.write("worker.properties", &config);
        program.write("log4j.properties", LOG4J);
        let connect = Self { program, port, java, connectors: Mutex::default() };
        connect.start_again();
        connect
    }

    /// Starts the stopped worker, and its connectors go on where they were.
    pub fn start_again(&self) {
        let home = self.program.home();
        let mut command = self.java.kafka(&home.join("log4j.properties"));
        command.arg("org.apache.kafka.connect.cli.ConnectStandalone");
        command.arg(home.join("worker.properties"));
        self.program.start(command);
        self.program.wait("its REST interface", || self.ask("GET", "/connectors", None).map(drop));
        let known = self.connectors.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, config) in known {
            self.put(&name, config);
        }
    }

    /// Starts a connector, or gives it another configuration, and waits until it runs.
    pub fn put(&self, name: &str, config: Value) {
        let known = self.connectors.lock();
        known.unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), config.clone());
        self.expect("PUT", &format!("/connectors/{name}/config"), Some(config));
        self.wait_running(name);
    }

    /// Waits until a connector and its tasks run.
    pub fn wait_running(&self, name: &str) {
        self.program.wait(&format!("connector {name} runs"), || {
            let status = self.ask("GET", &format!("/connectors/{name}/status"), None)?;
            let tasks = status["tasks"].as_array().map_or(&[][..], Vec::as_slice);
            if let Some(failed) = tasks.iter().find(|task| task["state"] == "FAILED") {
                panic!(
                    "connector {name} failed:\n{}",
                    failed["trace"].as_str().unwrap_or_default()
                );
            }
            let running = status["connector"]["state"] == "RUNNING"
                && !tasks.is_empty()
                && tasks.iter().all(|task| task["state"] == "RUNNING");
            if running { Ok(()) } else { Err(status.to_string()) }
        });
    }

    /// Waits until it is noted of the one connector that its snapshot is done. One that is killed before
    /// takes another, and no event tells of rows that were deleted in between.
    pub fn wait_streaming(&self) {
        self.program.wait("a position behind the snapshot", || {
            let noted = std::fs::read(self.program.home().join("offsets")).unwrap_or_default();
            let noted = String::from_utf8_lossy(&noted);
            let is_behind = noted.contains("\"ts_") && !noted.contains("snapshot");
            if is_behind {
                Ok(())
            } else {
                Err(noted.chars().filter(|c| !c.is_control()).collect())
            }
        });
    }

    /// What the worker says of a connector.
    pub fn status(&self, name: &str) -> Value {
        self.expect("GET", &format!("/connectors/{name}/status"), None)
    }

    /// Starts a connector anew with its task, as after a failure of it.
    pub fn restart_connector(&self, name: &str) {
        self.expect("POST", &format!("/connectors/{name}/restart?includeTasks=true"), None);
        self.wait_running(name);
    }

    /// Has a connector read nothing.
    pub fn pause(&self, name: &str) {
        self.expect("PUT", &format!("/connectors/{name}/pause"), None);
    }

    /// Lets a paused connector go on.
    pub fn resume(&self, name: &str) {
        self.expect("PUT", &format!("/connectors/{name}/resume"), None);
    }

    /// Removes a connector; its offsets stay.
    pub fn delete(&self, name: &str) {
        self.connectors.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.expect("DELETE", &format!("/connectors/{name}"), None);
    }

    /// Stops the worker in order.
    pub fn stop(&self) {
        self.program.stop();
    }

    /// Kills the worker: what its connectors have read lately comes again.
    pub fn kill9(&self) {
        self.program.kill9();
    }

    /// The process, its log and its memory.
    pub fn program(&self) -> &Program {
        &self.program
    }

    fn expect(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        self.ask(method, path, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.program.log_tail()))
    }

    fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, String> {
        http(method, &format!("http://127.0.0.1:{}{path}", self.port), body)
    }
}

/// Asks an HTTP server something in JSON. Any status but success is an error.
pub fn http(method: &str, url: &str, body: Option<Value>) -> Result<Value, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .timeout_connect(Some(Duration::from_secs(5)))
        .http_status_as_error(false)
        .build()
        .into();
    let request = ureq::http::Request::builder().method(method).uri(url);
    let error = |error: ureq::http::Error| error.to_string();
    let response = match body {
        None => agent.run(request.body(()).map_err(error)?),
        Some(body) => {
            let request = request.header("Content-Type", "application/json");
            agent.run(request.body(body.to_string()).map_err(error)?)
        }
    };
    let mut response = response.map_err(|error| error.to_string())?;
    let text = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
    if !response.status().is_success() {
        return Err(format!("{}: {text}", response.status()));
    }
    Ok(serde_json::from_str(&text).unwrap_or_else(|_| json!(text)))
}
