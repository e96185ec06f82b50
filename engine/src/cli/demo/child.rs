//! The gateway of the demo: this program once more, as a child process with a configuration of its own.
//!
//! ```text
//! start --ports that the kernel chooses--> runs --kill--> gone --the same ports, else fresh ones--> runs --stop--> ended
//! ```
//!
//! The one idea: it is a gateway like any other, found by what it says when it starts. It ends with the demo, however the
//! demo ends: the kernel ends a child that asked for it when its parent is gone.

use super::shop::{Reason, SLOW_THRESHOLD_MS, TENANT_KEPT};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// For a start, and for a drain: generous, because a demo may run on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at something that cannot tell when it changes.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Lines of the child that are remembered, for the case that it fails.
const LINES_MAX: usize = 100;
/// How long the child's samplers and queues have for a drain.
const DRAIN_SECONDS: u64 = 60;

/// What a gateway of the demo is made of.
#[derive(Clone, Debug)]
pub(super) struct Blueprint {
    /// Holds the configuration and the queues.
    pub(super) folder: PathBuf,
    /// Where everything goes.
    pub(super) sink: SocketAddr,
}

/// A gateway that runs. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Gateway {
    blueprint: Blueprint,
    child: Child,
    said: Arc<Mutex<VecDeque<String>>>,
    listening: Option<JoinHandle<()>>,
    ports: Ports,
}

/// Where a gateway is to listen.
#[derive(Clone, Copy, Debug)]
struct Ports {
    grpc: SocketAddr,
    http: SocketAddr,
    admin: SocketAddr,
    metrics: SocketAddr,
}

impl Ports {
    /// The kernel chooses.
    fn any() -> Ports {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Ports { grpc: any, http: any, admin: any, metrics: any }
    }
}

/// In the child, before anything else: ends it with its parent. The error is for a person.
pub(super) fn end_with_parent(parent: u32) -> Result<(), String> {
    let set = set_parent_process_death_signal(Some(Signal::KILL));
    set.map_err(|error| format!("the kernel does not tie this process to its parent: {error}"))?;
    // It may have ended before that call.
    match getppid() {
        Some(found) if found.as_raw_nonzero().get().unsigned_abs() == parent => Ok(()),
        _ => Err("the demo that started this gateway has ended".to_owned()),
    }
}

impl Gateway {
    /// Starts one, and returns when it is ready. The error is for a person.
    pub(super) fn start(blueprint: Blueprint) -> Result<Gateway, String> {
        Gateway::launch(blueprint, Ports::any())
    }

    /// Ends it at once, as the kernel does when memory is short: it has no last word. `gone` is called when it has ended.
    /// Then the next one is started, on the same ports if they are still free.
    pub(super) fn kill_and_start(&mut self, gone: impl FnOnce()) -> Result<(), String> {
        let (ports, blueprint) = (self.ports, self.blueprint.clone());
        self.child.kill().map_err(|error| format!("the gateway cannot be killed: {error}"))?;
        self.child.wait().map_err(|error| format!("the gateway does not end: {error}"))?;
        gone();
        *self = Gateway::launch(blueprint.clone(), ports).or_else(|_| Gateway::launch(blueprint, Ports::any()))?;
        Ok(())
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its admin page.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.ports.admin)
    }

    /// Where it takes OTLP/HTTP.
    pub(super) fn http(&self) -> SocketAddr {
        self.ports.http
    }

    /// How it ended, if it has, with what it said.
    pub(super) fn has_ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(format!("the gateway ended with {status}:\n{}", self.said()))
    }

    /// Tells it to drain, and waits for its end: the status and its last line, which is the ledger.
    pub(super) fn stop(&mut self) -> Result<(ExitStatus, String), String> {
        // It may have ended by itself, which its status tells.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let status = wait_for(|| self.child.try_wait().ok().flatten());
        let status = status.ok_or_else(|| format!("the gateway does not end:\n{}", self.said()))?;
        self.hear_out();
        let sentence = self.said.lock().expect("nobody panics with it").back().cloned();
        Ok((status, sentence.unwrap_or_default()))
    }

    fn launch(blueprint: Blueprint, ports: Ports) -> Result<Gateway, String> {
        let configuration = blueprint.folder.join("gateway.yaml");
        std::fs::write(&configuration, text(&blueprint, ports))
            .map_err(|error| format!("{}: {error}", configuration.display()))?;
        let program = std::env::current_exe().map_err(|error| format!("this program does not find itself: {error}"))?;
        let mut child = Command::new(program)
            .args(["demo", "--gateway-of"])
            .arg(std::process::id().to_string())
            .arg("--config")
            .arg(&configuration)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A Ctrl-C in the terminal is for the demo, which stops its gateway itself.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("the gateway cannot be started: {error}"))?;
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let stderr = child.stderr.take().expect("it is piped");
        let heard = Arc::clone(&said);
        let listening = std::thread::spawn(move || listen(stderr, &heard));
        let mut gateway = Gateway { blueprint, child, said, listening: Some(listening), ports };
        let up = wait_for(|| gateway.has_ended().map(Err).or_else(|| gateway.addresses().map(Ok)));
        gateway.ports = up.unwrap_or_else(|| Err(format!("the gateway is not ready in time:\n{}", gateway.said())))?;
        Ok(gateway)
    }

    /// From its first lines, once it is ready.
    fn addresses(&self) -> Option<Ports> {
        let said = self.said();
        let (first, _) = said.split_once("  Runs on\n")?;
        let after = |label: &str| {
            let line = first.lines().find_map(|line| line.trim_start().strip_prefix(label))?.trim_start();
            let line = line.strip_prefix("http://").unwrap_or(line);
            line[..line.find([' ', '/']).unwrap_or(line.len())].parse().ok()
        };
        Some(Ports {
            grpc: after("OTLP/gRPC")?,
            http: after("OTLP/HTTP")?,
            admin: after("admin")?,
            metrics: after("metrics")?,
        })
    }

    fn said(&self) -> String {
        self.said.lock().expect("nobody panics with it").iter().map(|line| format!("{line}\n")).collect()
    }

    /// Waits for the rest of what an ended child has said.
    fn hear_out(&mut self) {
        if let Some(listening) = self.listening.take() {
            drop(listening.join());
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It has ended already unless something failed.
        drop(self.child.kill());
        drop(self.child.wait());
        self.hear_out();
    }
}

fn listen(stderr: std::process::ChildStderr, heard: &Mutex<VecDeque<String>>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let mut said = heard.lock().expect("nobody panics with it");
        if said.len() == LINES_MAX {
            said.pop_front();
        }
        said.push_back(line);
    }
}

/// Looks until there is something, or patience ends.
pub(super) fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = look();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Everything is archived as it came, and what a policy wants is kept; both ways have queues on disk.
fn text(blueprint: &Blueprint, ports: Ports) -> String {
    let Blueprint { folder, sink } = blueprint;
    let queue = queue_folder(folder);
    let queue = queue.display();
    let exporter = |path: &str| {
        format!(
            "{{endpoint: 'http://{sink}/{path}', compression: none, timeout: 30s, retry_on_failure: \
             {{initial_interval: 200ms, max_interval: 1s, max_elapsed_time: 0s}}, sending_queue: \
             {{storage: file_storage/demo, queue_size: 10000}}}}"
        )
    };
    let policy = |reason: Reason| {
        let name = reason.name();
        match reason {
            Reason::Error => format!("{{name: {name}, type: status_code, status_code: {{status_codes: [ERROR]}}}}"),
            Reason::Slow => {
                format!("{{name: {name}, type: latency, latency: {{threshold_ms: {SLOW_THRESHOLD_MS}}}}}")
            }
            Reason::Tenant => format!(
                "{{name: {name}, type: string_attribute, string_attribute: {{key: app.tenant, values: \
                 [{TENANT_KEPT}]}}}}"
            ),
        }
    };
    let policies = Reason::ALL.map(policy).join(", ");
    let (archive, kept) = (exporter("archive"), exporter("kept"));
    let Ports { grpc, http, admin, metrics } = ports;
    format!(
        "# The gateway of `tracegate demo`.
extensions:
  file_storage/demo: {{directory: '{queue}', create_directory: true, timeout: 60s}}
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: '{grpc}'}}, http: {{endpoint: '{http}'}}}}}}
processors:
  tail_sampling: {{decision_wait: 2s, policies: [{policies}]}}
exporters:
  otlphttp/archive: {archive}
  otlphttp/kept: {kept}
  memory: {{}}
service:
  extensions: [file_storage/demo]
  engine: {{cores: 2, pin: false, admin: '{admin}', shutdown_timeout: {DRAIN_SECONDS}s}}
  telemetry: {{metrics: {{address: '{metrics}'}}}}
  pipelines:
    traces: {{receivers: [otlp], processors: [tail_sampling], exporters: [otlphttp/kept, memory]}}
    traces/archive: {{receivers: [otlp], exporters: [otlphttp/archive]}}
"
    )
}

fn queue_folder(folder: &Path) -> PathBuf {
    folder.join("queue")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Machine, Source};

    #[test]
    fn its_configuration_is_one_without_a_complaint() {
        let blueprint = Blueprint { folder: "/tmp/demo".into(), sink: "127.0.0.1:4".parse().unwrap() };
        let source = Source::File { name: "demo".to_owned(), text: text(&blueprint, Ports::any()) };
        let loaded = config::load(&[source], &|_| None, &Machine { memory_bytes: 1 << 30 });
        assert_eq!(config::render(&loaded.diagnostics, false), "");
        assert_eq!(loaded.config.unwrap().pipelines.len(), 2);
    }
}
