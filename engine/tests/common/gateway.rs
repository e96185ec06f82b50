//! The gateway as its users run it: the program, a configuration file, its pages, a signal, its last words.
//!
//! Every port is 0 in the configuration, so that the kernel chooses; the first lines on standard error say which, and
//! come when the gateway is ready. A gateway that a test forgets to stop is killed.

use super::{PATIENCE, http, wait_for};
use engine::shard::runtime;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

/// How the gateway under test runs.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    pub shards: usize,
    /// `epoll` or `io_uring`.
    pub runtime: &'static str,
    pub shutdown_timeout: &'static str,
}

impl Engine {
    /// So many shards on epoll, which every machine has.
    pub const fn epoll(shards: usize) -> Engine {
        Engine { shards, runtime: "epoll", shutdown_timeout: "60s" }
    }

    /// So many shards on io_uring; nothing, and a line that says so, where the kernel or the container forbids it.
    pub fn io_uring(shards: usize) -> Option<Engine> {
        match runtime::probe_io_uring() {
            Ok(()) => Some(Engine { runtime: "io_uring", ..Engine::epoll(shards) }),
            Err(why) => {
                eprintln!("skipped on io_uring: {why}");
                None
            }
        }
    }
}

/// What one test's gateway is made of, beside its engine. Every text is YAML in flow style.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    pub engine: Engine,
    /// Keys of `protocols.grpc` and `protocols.http`, beside the endpoint.
    pub grpc: &'a str,
    pub http: &'a str,
    /// Id and settings.
    pub extensions: Vec<(&'a str, String)>,
    /// Id and settings, in the pipeline's order.
    pub processors: Vec<(&'a str, String)>,
    /// Id and settings.
    pub exporters: Vec<(&'a str, String)>,
    /// What senders are promised.
    pub ack: &'a str,
}

impl<'a> Setup<'a> {
    pub fn new(engine: Engine) -> Setup<'a> {
        let (extensions, processors, exporters) = Default::default();
        Setup { engine, grpc: "", http: "", extensions, processors, exporters, ack: "received" }
    }

    pub fn ack(self, ack: &'a str) -> Self {
        Setup { ack, ..self }
    }

    pub fn extension(mut self, id: &'a str, settings: impl Into<String>) -> Self {
        self.extensions.push((id, settings.into()));
        self
    }

    pub fn processor(mut self, id: &'a str, settings: impl Into<String>) -> Self {
        self.processors.push((id, settings.into()));
        self
    }

    /// An exporter to `address`, in plain text and without compression; `more` are further keys.
    pub fn otlp(mut self, id: &'a str, address: SocketAddr, more: &str) -> Self {
        let settings = format!("{{endpoint: '{address}', tls: {{insecure: true}}, compression: none, {more}}}");
        self.exporters.push((id, settings));
        self
    }

    /// The whole configuration.
    pub fn text(&self) -> String {
        let section = |components: &[(&str, String)]| {
            components.iter().map(|(id, settings)| format!("  {id}: {settings}\n")).collect::<String>()
        };
        let ids =
            |components: &[(&'a str, String)]| components.iter().map(|(id, _)| *id).collect::<Vec<_>>().join(", ");
        let Engine { shards, runtime, shutdown_timeout } = self.engine;
        let (grpc, http) = (self.grpc, self.http);
        let processors =
            if self.processors.is_empty() { " {}\n".to_owned() } else { format!("\n{}", section(&self.processors)) };
        let extensions =
            if self.extensions.is_empty() { " {}\n".to_owned() } else { format!("\n{}", section(&self.extensions)) };
        format!(
            "extensions:{extensions}receivers:\n  otlp:\n    protocols:\n      grpc: {{endpoint: '127.0.0.1:0', {grpc}}}\n      http: \
             {{endpoint: '127.0.0.1:0', {http}}}\nprocessors:{processors}exporters:\n{}service:\n  extensions: [{}]\n  engine: {{cores: \
             {shards}, pin: false, runtime: {runtime}, shutdown_timeout: {shutdown_timeout}, admin: '127.0.0.1:0'}}\n  \
             telemetry:\n    metrics: {{address: '127.0.0.1:0', level: detailed}}\n  pipelines:\n    traces:\n      \
             ack: {}\n      receivers: [otlp]\n      processors: [{}]\n      exporters: [{}]\n",
            section(&self.exporters),
            ids(&self.extensions),
            self.ack,
            ids(&self.processors),
            ids(&self.exporters)
        )
    }

    /// Starts it, and returns when it is ready.
    pub fn start(&self) -> Gateway {
        Gateway::start(&self.text(), &[])
    }
}

/// A gateway that runs.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    listening: Option<std::thread::JoinHandle<()>>,
    /// Where it takes OTLP/gRPC.
    pub grpc: SocketAddr,
    /// Where it takes OTLP/HTTP.
    pub http: SocketAddr,
    metrics: SocketAddr,
    /// Where its admin page is.
    pub admin: SocketAddr,
    configuration: tempfile::NamedTempFile,
}

/// What is left of a gateway that has stopped.
#[derive(Debug)]
pub struct Ending {
    pub status: ExitStatus,
    /// The ledger in one sentence: its last line.
    pub sentence: String,
    /// All it ever said.
    pub said: String,
}

impl Ending {
    /// The end of a gateway that lost nothing.
    pub fn assert_nothing_lost(&self) {
        assert_eq!(self.status.code(), Some(0), "{}", self.said);
        assert!(self.sentence.ends_with("; nothing lost."), "{}", self.said);
    }

    /// The number right before `words` in the sentence; 0 if they are not there.
    pub fn number_before(&self, words: &str) -> u64 {
        let Some(at) = self.sentence.find(words) else { return 0 };
        let number = self.sentence[..at].trim_end().rsplit([' ', '(']).next().unwrap_or_default();
        number.replace(',', "").parse().unwrap_or_else(|_| panic!("no number before {words:?}: {}", self.sentence))
    }
}

impl Gateway {
    /// A gateway over a whole configuration whose ports are 0, with these variables. Returns when it is ready.
    pub fn start(configuration: &str, environment: &[(&str, &str)]) -> Gateway {
        let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a temporary file");
        file.write_all(configuration.as_bytes()).expect("a temporary file can be written");
        Gateway::launch(file, Vec::new(), environment, configuration)
    }

    /// Starts it from a file as it is, but for `sets` (`key=value`), and returns when it is ready.
    pub fn of_file(path: &Path, sets: &[&str]) -> Gateway {
        Gateway::of_files(path, &[], sets)
    }

    /// The same with further files that are merged over the first.
    pub fn of_files(path: &Path, over: &[&Path], sets: &[&str]) -> Gateway {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("a temporary file can be written");
        let over = over.iter().flat_map(|path| ["--config".to_owned(), path.display().to_string()]);
        let sets = sets.iter().flat_map(|set| ["--set".to_owned(), (*set).to_owned()]);
        Gateway::launch(file, over.chain(sets).collect(), &[], &text)
    }

    fn launch(
        file: tempfile::NamedTempFile,
        arguments: Vec<String>,
        environment: &[(&str, &str)],
        configuration: &str,
    ) -> Gateway {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tracegate"))
            .arg("--config")
            .arg(file.path())
            .envs(environment.iter().copied())
            .args(arguments)
            .env("NO_COLOR", "1")
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway starts");
        let stderr = child.stderr.take().expect("it is piped");
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let listening = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                heard.lock().expect("nobody panics with it").push(line);
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut gateway = Gateway {
            child,
            said,
            listening: Some(listening),
            grpc: nowhere,
            http: nowhere,
            metrics: nowhere,
            admin: nowhere,
            configuration: file,
        };
        wait_for("a gateway that is up", || gateway.hear_addresses(configuration));
        gateway
    }

    /// Reads the first lines; there once `Runs on` has been said, which stands behind all addresses.
    fn hear_addresses(&mut self, configuration: &str) -> Option<()> {
        let said = self.said();
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("the gateway ended with {status}:\n{}\nconfiguration:\n{configuration}", self.said());
        }
        let (addresses, _) = said.split_once("  Runs on\n")?;
        let after = |label: &str| {
            let line = addresses.lines().find_map(|line| line.trim_start().strip_prefix(label));
            let line = line.unwrap_or_else(|| panic!("no {label} in {said}")).trim_start();
            let line = line.strip_prefix("http://").or_else(|| line.strip_prefix("https://")).unwrap_or(line);
            let end = line.find([' ', '/']).unwrap_or(line.len());
            line[..end].parse().unwrap_or_else(|_| panic!("no address in {line:?}"))
        };
        self.grpc = after("OTLP/gRPC");
        self.http = after("OTLP/HTTP");
        self.metrics = after("metrics");
        self.admin = after("admin");
        Some(())
    }

    /// Where an extension listens, as the first lines say.
    pub fn address_of(&self, extension: &str) -> SocketAddr {
        let said = self.said();
        let line = said.lines().find_map(|line| line.trim_start().strip_prefix(extension));
        let line = line.map(str::trim_start);
        let url = line.and_then(|line| line.strip_prefix("http://").or_else(|| line.strip_prefix("https://")));
        let address = url.and_then(|url| url.split('/').next()).and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("no address of {extension} in {said}"))
    }

    /// Where it shows its metrics.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    /// All it has said so far.
    pub fn said(&self) -> String {
        let lines = self.said.lock().expect("nobody panics with it");
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Both books, as the admin page shows them.
    pub fn ledger(&self) -> Ledger {
        let page = http::page(self.admin, "/ledger");
        Ledger(serde_json::from_str(&page).unwrap_or_else(|error| panic!("{error}: {page}")))
    }

    /// An admin page that there is.
    pub fn admin_page(&self, path: &str) -> String {
        http::page(self.admin, path)
    }

    /// Where a command asks it.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Every series of `/metrics`: name with its labels, and the value.
    pub fn metrics(&self) -> Metrics {
        let page = http::page(self.metrics, "/metrics");
        let lines = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Metrics(lines.map(|(series, value)| (series.to_owned(), value.parse().expect("a number"))).collect())
    }

    /// Resident bytes that no file backs, as the kernel counts them.
    pub fn own_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux shows it");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
        kibibytes << 10
    }

    /// Writes another configuration over the one that it was started with.
    pub fn rewrite(&self, configuration: &str) {
        std::fs::write(self.configuration.path(), configuration).expect("a temporary file can be written");
    }

    /// Tells it to read its configuration again.
    pub fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).expect("the gateway still runs");
    }

    /// Tells it to stop.
    pub fn terminate(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("the gateway still runs");
    }

    /// Tells it to stop and waits until it has.
    pub fn stop(self) -> Ending {
        self.terminate();
        self.ended()
    }

    /// Ends it at once, as the kernel does when memory is short: it has no last word.
    pub fn kill(self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::KILL).expect("the gateway still runs");
        drop(self.ended());
    }

    /// Waits until it has ended.
    pub fn ended(mut self) -> Ending {
        let status = wait_for("the end of the gateway", || self.child.try_wait().expect("it is our child"));
        if let Some(listening) = self.listening.take() {
            listening.join().expect("the thread that listens does not panic");
        }
        let said = self.said();
        let sentence = said.lines().last().unwrap_or_default().to_owned();
        Ending { status, sentence, said }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the gateway has said:\n{}", self.said());
        }
        // It has ended already unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The admin page `/ledger`.
#[derive(Clone, Debug)]
pub struct Ledger(serde_json::Value);

impl Ledger {
    pub fn is_balanced(&self) -> bool {
        self.0["balanced"].as_bool().expect("a boolean")
    }

    /// A term of the intake book, over all receivers and transports.
    pub fn intake(&self, term: &str) -> u64 {
        self.sum("intake", |_| true, term)
    }

    /// A term of one transport's intake.
    pub fn intake_over(&self, transport: &str, term: &str) -> u64 {
        self.sum("intake", |book| book["transport"] == transport, term)
    }

    /// A term of the account of one exporter.
    pub fn account(&self, exporter: &str, term: &str) -> u64 {
        self.sum("accounts", |book| book["exporter"] == exporter, term)
    }

    fn sum(&self, books: &str, chosen: impl Fn(&serde_json::Value) -> bool, term: &str) -> u64 {
        let books = self.0[books].as_array().expect("a list of books");
        let number = |book: &serde_json::Value| book[term].as_u64().unwrap_or_else(|| panic!("no {term}: {book}"));
        books.iter().filter(|book| chosen(book)).map(number).sum()
    }
}

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// The sum of all series of this name whose labels hold all of `labels` (each `name="value"`).
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.of(name)
            .filter(|(series, _)| labels.iter().all(|label| series.contains(label)))
            .map(|(_, value)| value)
            .sum()
    }

    /// Every series of this name, with its labels as they stand in the page.
    pub fn series(&self, name: &str) -> Vec<&str> {
        self.of(name).map(|(series, _)| series).collect()
    }

    fn of(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        let bare = |series: &str| series.split('{').next() == Some(name);
        self.0.iter().filter(move |(series, _)| bare(series)).map(|(series, value)| (series.as_str(), *value))
    }
}

/// Waits until the books balance and nothing is in flight: all that was accepted has left or was decided.
pub fn wait_until_empty(gateway: &Gateway, exporters: &[&str]) -> Ledger {
    let what = format!("an empty gateway within {PATIENCE:?}");
    wait_for(&what, || {
        let ledger = gateway.ledger();
        let in_flight: u64 = exporters.iter().map(|exporter| ledger.account(exporter, "in_flight")).sum();
        (ledger.is_balanced() && in_flight == 0 && ledger.intake("unanswered") == 0).then_some(ledger)
    })
}
