//! The gateway as a child process: built if needed, given a configuration and free ports, kept on one core, watched
//! through its metrics, ended by SIGTERM. The harness knows its command line and its addresses, nothing else.

mod build;
mod config;
mod metrics;
mod user_file;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::measure::pin_this_thread;

pub(crate) use build::release_binary;
pub(crate) use config::{Configuration, ExporterEndpoint, PassThrough, PolicySet, QueueWork, Runtime, Work};
pub(crate) use metrics::{Metrics, scrape};
pub(crate) use user_file::read_user_file;

/// How long a gateway may take to answer on its metrics address.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a drain may take: the gateway's own 25 s and some.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);

/// How much longer both may take behind a tool that counts: valgrind makes everything fifty times slower.
const WRAPPED_FACTOR: u32 = 10;

/// How often a start or an end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where a gateway listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// OTLP/gRPC.
    pub(crate) grpc: SocketAddr,
    /// OTLP/HTTP.
    pub(crate) http: SocketAddr,
    /// Prometheus text.
    pub(crate) metrics: SocketAddr,
    /// Admin pages.
    pub(crate) admin: SocketAddr,
}

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// The gateway's binary.
    pub(crate) binary: PathBuf,
    /// Placed before the binary on the command line: a tool that counts, or nothing.
    pub(crate) wrapper: Vec<String>,
    /// What it does, where it listens and where it sends.
    pub(crate) configuration: Configuration,
    /// The cores it is kept on.
    pub(crate) cores: Vec<usize>,
}

/// A gateway that runs. Dropping it kills it.
pub(crate) struct Gateway {
    child: Child,
    /// Its configuration and its output.
    folder: PathBuf,
    addresses: Addresses,
    /// On how long a start and a drain may take.
    patience: u32,
}

/// How a gateway ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit status; `None` if it had to be killed.
    pub(crate) status: Option<ExitStatus>,
    /// Standard output and standard error.
    pub(crate) output: String,
}

impl Addresses {
    /// Loopback ports that were free a moment ago.
    pub(crate) fn free() -> io::Result<Addresses> {
        // Held together, so that they differ.
        let listeners: Vec<TcpListener> =
            (0..4).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<io::Result<_>>()?;
        let address = |at: usize| listeners[at].local_addr();
        Ok(Addresses { grpc: address(0)?, http: address(1)?, metrics: address(2)?, admin: address(3)? })
    }
}

impl Gateway {
    /// Starts a gateway and waits until its metrics and its receiver answer.
    pub(crate) async fn start(launch: &Launch) -> io::Result<Gateway> {
        let addresses = launch.configuration.addresses;
        let folder = run_folder()?;
        let config = launch.configuration.write(&folder)?;
        let log = std::fs::File::create(folder.join("gateway.log"))?;
        let patience = if launch.wrapper.is_empty() { 1 } else { WRAPPED_FACTOR };
        let mut words = launch.wrapper.iter().cloned();
        let mut command = match words.next() {
            None => Command::new(&launch.binary),
            Some(tool) => {
                let mut command = Command::new(tool);
                command.args(words).arg(&launch.binary);
                command
            }
        };
        command.args(config);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = spawn_on_cores(command, launch.cores.clone())?;
        let mut gateway = Gateway { child, folder, addresses, patience };
        gateway.wait_until_ready().await?;
        Ok(gateway)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to drain and waits for its end. Others on this thread, the sink above all, go on meanwhile.
    pub(crate) async fn stop(mut self) -> io::Result<Ended> {
        let pid = Pid::from_child(&self.child);
        let deadline = Instant::now() + STOP_TIMEOUT * self.patience;
        if self.child.try_wait()?.is_none() {
            kill_process(pid, Signal::TERM)?;
        }
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => break None,
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        Ok(Ended { status, output: self.output() })
    }

    /// Ends it at once, as the kernel does when memory is short: it has no last word.
    /// Gives back what it had said.
    pub(crate) fn kill(mut self) -> io::Result<String> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(self.output())
    }

    async fn wait_until_ready(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT * self.patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the gateway ended at start ({status}):\n{}", self.output())));
            }
            let answers = scrape(self.addresses.metrics).await.is_ok()
                && tokio::net::TcpStream::connect(self.addresses.grpc).await.is_ok();
            if answers {
                return Ok(());
            }
            if Instant::now() > deadline {
                let output = self.output();
                return Err(io::Error::other(format!("the gateway does not answer on its metrics address:\n{output}")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.folder.join("gateway.log")).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.runs() {
            // Only when a run fails halfway: a clean run has stopped it.
            drop(self.child.kill());
            drop(self.child.wait());
        }
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// A child inherits the cores of the thread that starts it: a thread of its own is pinned first, and no code has to run
/// between fork and exec.
fn spawn_on_cores(mut command: Command, cores: Vec<usize>) -> io::Result<Child> {
    let start = std::thread::spawn(move || {
        pin_this_thread(&cores)?;
        command.spawn()
    });
    start.join().map_err(|_| io::Error::other("starting the gateway panicked"))?
}

/// A new folder for one gateway.
pub(crate) fn run_folder() -> io::Result<PathBuf> {
    let unique = fastrand::u64(..);
    let folder = std::env::temp_dir().join(format!("bench-harness-{}-{unique:016x}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
