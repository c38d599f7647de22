//! A real Kafka broker that is its own controller, or three of them.

use super::client::Kafka;
use super::program::Program;
use super::{Java, LOG4J};
use crate::support::process::{User, lasting_port, run_as};
use std::fmt::Write;

/// A broker with topics of its own. It keeps its port and its data over stops and kills.
pub struct Broker {
    program: Program,
    port: u16,
    heap: u32,
}

/// Where a node listens: to clients, and to the other controllers.
#[derive(Clone, Copy)]
struct Ports {
    clients: u16,
    controllers: u16,
}

impl Ports {
    fn choose() -> Self {
        Self { clients: lasting_port(), controllers: lasting_port() }
    }
}

/// Megabytes of heap of a broker.
const HEAP: u32 = 512;
/// The same where there are three, which share the load.
const HEAP_OF_THREE: u32 = 320;

impl Broker {
    /// Makes a broker and starts it.
    pub fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// As [`Broker::start`], with further settings of the server.
    pub fn start_with(name: &str, settings: &[(&str, &str)]) -> Self {
        let broker = Self::make(name, 1, &[Ports::choose()], &cluster_id(), settings);
        broker.start_again();
        broker
    }

    fn make(
        name: &str,
        node: usize,
        nodes: &[Ports],
        cluster: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let program = Program::new(name, User::Own);
        let port = nodes[node - 1].clients;
        let heap = if nodes.len() > 1 { HEAP_OF_THREE } else { HEAP };
        let config = config(&program, node, nodes, settings);
        program.write("server.properties", &config);
        let log = program.write("log4j.properties", LOG4J);
        let mut format = Java::small(64).kafka(&log);
        format.args(["kafka.tools.StorageTool", "format", "-t", cluster, "-c"]);
        format.arg(program.home().join("server.properties"));
        run_as(format, User::Own);
        Self { program, port, heap }
    }

    /// Starts the stopped broker on its data and waits until it answers.
    pub fn start_again(&self) {
        self.launch();
        self.wait_ready();
    }

    fn launch(&self) {
        let mut command =
            Java::small(self.heap).kafka(&self.program.home().join("log4j.properties"));
        command.arg("kafka.Kafka").arg(self.program.home().join("server.properties"));
        self.program.start(command);
    }

    /// Waits until the broker answers and is in service.
    pub fn wait_ready(&self) {
        let kafka = self.kafka();
        self.program.wait("does not answer", || kafka.try_brokers().map(drop));
    }

    /// Stops the broker in order: it hands its leaderships on and closes its logs.
    pub fn stop(&self) {
        self.program.stop();
    }

    /// Kills the broker; its next start recovers its logs.
    pub fn kill9(&self) {
        self.program.kill9();
    }

    /// A client of this broker alone.
    pub fn kafka(&self) -> Kafka {
        Kafka::at(&self.bootstrap())
    }

    /// What clients take as `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process, its log and its memory.
    pub fn program(&self) -> &Program {
        &self.program
    }
}

/// Three brokers, all controllers too: topics outlive one of them.
pub struct Brokers {
    nodes: Vec<Broker>,
}

impl Brokers {
    /// Makes three brokers and starts them.
    pub fn start(name: &str) -> Self {
        let ports: Vec<Ports> = (0..3).map(|_| Ports::choose()).collect();
        let cluster = cluster_id();
        let nodes: Vec<Broker> = (1..=3)
            .map(|node| Broker::make(&format!("{name}-{node}"), node, &ports, &cluster, &[]))
            .collect();
        let brokers = Self { nodes };
        brokers.start_again();
        brokers
    }

    /// Starts the three, none of which runs, and waits until all are there.
    pub fn start_again(&self) {
        for node in &self.nodes {
            // A single one has no majority and would not get ready: all start before any is waited for.
            node.launch();
        }
        let kafka = self.kafka();
        self.nodes[0].program.wait("three brokers", || match kafka.try_brokers()? {
            3 => Ok(()),
            fewer => Err(format!("{fewer} brokers are there")),
        });
    }

    /// Kills all three.
    pub fn kill9(&self) {
        self.nodes.iter().for_each(Broker::kill9);
    }

    /// The broker of this number, from 1 on.
    pub fn node(&self, number: i32) -> &Broker {
        &self.nodes[usize::try_from(number - 1).expect("1 to 3")]
    }

    /// A client of all three.
    pub fn kafka(&self) -> Kafka {
        Kafka::at(&self.bootstrap())
    }

    /// What clients take as `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        let all: Vec<String> = self.nodes.iter().map(Broker::bootstrap).collect();
        all.join(",")
    }
}

/// A cluster id as Kafka makes them: 16 bytes in URL-safe base64.
fn cluster_id() -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let letters = |count| (0..count).map(|_| char::from(LETTERS[fastrand::usize(..LETTERS.len())]));
    // The last letter carries two bits, the other four of it must be zero.
    letters(21).chain(['A']).collect()
}

fn config(program: &Program, node: usize, nodes: &[Ports], settings: &[(&str, &str)]) -> String {
    let voters: Vec<String> = nodes
        .iter()
        .enumerate()
        .map(|(index, ports)| format!("{}@127.0.0.1:{}", index + 1, ports.controllers))
        .collect();
    let Ports { clients, controllers } = nodes[node - 1];
    let (replicas, in_sync) = if nodes.len() > 1 { (3, 2) } else { (1, 1) };
    let mut text = format!(
        "process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controllers}
advertised.listeners=PLAINTEXT://127.0.0.1:{clients}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor={replicas}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
default.replication.factor={replicas}
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.leader.rebalance.enable=false
",
        voters = voters.join(","),
        data = program.home().join("data").display(),
    );
    // Small and quick: a cleaner with little memory, and retention, compaction and the death of a
    // node noticed within seconds, so that tests need not wait for them.
    text.push_str(
        "num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=8388608
log.cleaner.backoff.ms=500
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=500
log.segment.delete.delay.ms=1000
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
",
    );
    for (name, value) in settings {
        writeln!(text, "{name}={value}").expect("a string takes it");
    }
    text
}
