//! A real schema registry: Apicurio, which speaks Confluent's interface too.

use super::connect::http;
use super::program::Program;
use super::{Java, part};
use crate::support::process::{User, lasting_port};

/// Megabytes of heap.
const HEAP: u32 = 256;

/// A registry. Its schemas and their numbers are kept over stops and kills.
pub struct Registry {
    program: Program,
    port: u16,
}

impl Registry {
    /// Makes an empty registry and starts it.
    pub fn start(name: &str) -> Self {
        let registry = Self { program: Program::new(name, User::Own), port: lasting_port() };
        registry.start_again();
        registry
    }

    /// Starts the stopped registry and waits until it answers.
    pub fn start_again(&self) {
        let home = self.program.home();
        let mut command = Java::small(HEAP).command();
        command.arg(format!("-Dquarkus.http.port={}", self.port));
        command.arg("-Dquarkus.http.host=127.0.0.1");
        // In a file, where the default is in memory: a registry that comes back knows its schemas. Written
        // at commit, where the default is a second later, which a kill might not leave.
        command.arg(format!(
            "-Dapicurio.datasource.url=jdbc:h2:file:{};WRITE_DELAY=0",
            home.join("schemas").display()
        ));
        command.arg("-jar").arg(jar());
        self.program.start(command);
        self.program.wait("does not answer", || {
            http("GET", &format!("{}/subjects", self.ccompat()), None).map(drop)
        });
    }

    /// The address of Confluent's interface, as `ods` takes it.
    pub fn ccompat(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port)
    }

    /// The address of Apicurio's own interface, as its converter takes it.
    pub fn native(&self) -> String {
        format!("http://127.0.0.1:{}/apis/registry/v2", self.port)
    }

    /// The text of the schema with that number.
    pub fn schema(&self, id: u32) -> String {
        let answer = http("GET", &format!("{}/schemas/ids/{id}", self.ccompat()), None)
            .unwrap_or_else(|error| panic!("schema {id}: {error}"));
        answer["schema"].as_str().unwrap_or_else(|| panic!("schema {id}: {answer}")).to_owned()
    }

    /// Registers a schema for a subject and tells its number.
    pub fn register(&self, subject: &str, schema: &str) -> u32 {
        let url = format!("{}/subjects/{subject}/versions", self.ccompat());
        let answer = http("POST", &url, Some(serde_json::json!({ "schema": schema })))
            .unwrap_or_else(|error| panic!("register {subject}: {error}"));
        let id = answer["id"].as_u64().unwrap_or_else(|| panic!("register {subject}: {answer}"));
        u32::try_from(id).expect("a small number")
    }

    /// Stops the registry in order.
    pub fn stop(&self) {
        self.program.stop();
    }

    /// Kills the registry.
    pub fn kill9(&self) {
        self.program.kill9();
    }

    /// The process, its log and its memory.
    pub fn program(&self) -> &Program {
        &self.program
    }
}

/// The registry's jar, whose name holds its version.
fn jar() -> std::path::PathBuf {
    let dir = part("registry");
    let files = std::fs::read_dir(&dir).expect("the registry's folder");
    files
        .map(|file| file.expect("a file of the registry").path())
        .find(|file| file.to_string_lossy().ends_with("-runner.jar"))
        .unwrap_or_else(|| panic!("no runner in {}", dir.display()))
}
