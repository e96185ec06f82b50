//! `tracegate demo`: a gateway at work on this machine, with a load and a backend, and keys that break things.
//!
//! ```text
//! load (thread) --OTLP/HTTP--> gateway (child process) --> archive: everything  --> sink (thread)
//!      |                            |             \------> kept: what a policy wants --^   |
//!      +------- Accounts: what was taken, what arrived ------------------------------------+
//! keys: fail the sink, double the load, kill -9 the gateway        terminal: `top`, and the accounts over it
//! ```
//!
//! The one idea: nothing is staged. The gateway is this program with a configuration file, the queues are on disk, and
//! what is shown as lost or not lost is what the sink has and has not, span by span. Everything ends with the demo; its
//! exit code says whether the balance was even.

mod accounts;
mod child;
mod load;
mod shop;
mod sink;
mod view;

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::top::{self, CONTROL_C, CONTROL_D, LOOK_EVERY, Terminal};
use super::{ConfigArguments, run as gateway};
use crate::admin::overview::Overview;
use crate::config::{self, Machine};
use accounts::{Accounts, Balance};
use child::{Blueprint, Gateway, wait_for};
use load::Load;
use sink::Sink;
use view::{Figures, Summary};

/// Arguments of `tracegate demo`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Keys: f fails the sink and repairs it, d doubles the load and halves it again, k kills the gateway \
                        (kill -9) and starts it again, q ends. Without a terminal the same letters are read from the \
                        input, and a line is printed each second. The exit code is 1 if a span is missing at the end."
)]
pub struct Arguments {
    /// Spans sent a second
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(100..=20_000))]
    pub rate: u32,
    /// Ends by itself after so many seconds; without it `q` ends, or the end of the input
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: Option<u64>,
    /// This process is the gateway of the demo with this process id.
    #[arg(long, hide = true)]
    pub gateway_of: Option<u32>,
}

/// Things that happened, of those shown in the terminal.
const EVENTS_SHOWN: usize = 4;

/// Runs the gateway that the demo with this process id has started.
pub fn run_gateway(parent: u32, sources: ConfigArguments, machine: Machine) -> ExitCode {
    match child::end_with_parent(parent) {
        Ok(()) => gateway::run(sources, config::look_up, machine, false),
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until somebody presses `q`, or for the time given.
pub fn run(sources: &ConfigArguments, arguments: &Arguments) -> ExitCode {
    if *sources != ConfigArguments::default() {
        eprintln!("error: the demo has a configuration of its own; run yours with: tracegate --config FILE");
        return ExitCode::from(2);
    }
    match show(arguments) {
        Ok(summary) => {
            print!("{summary}");
            if summary.is_even() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn show(arguments: &Arguments) -> Result<Summary, String> {
    let mut demo = Demo::start(arguments.rate)?;
    let (sender, keys) = mpsc::channel();
    end_on_signals(sender.clone());
    top::read_keys(sender);
    let watched = io::stdin().is_terminal() && io::stdout().is_terminal();
    let until = arguments.seconds.map(|seconds| demo.began + Duration::from_secs(seconds));
    if watched {
        let terminal = Terminal::enter().map_err(|error| format!("the terminal cannot be used: {error}"))?;
        demo.watch(&keys, &Shown::On(terminal), until)?;
    } else {
        println!("{}", demo.introduction());
        demo.watch(&keys, &Shown::Lines, until)?;
    }
    println!("ending: nothing new is sent, and what is under way arrives");
    demo.finish()
}

/// Signals end the demo as `q` does, so that it takes its gateway and its files with it.
fn end_on_signals(keys: Sender<u8>) {
    std::thread::spawn(move || {
        use tokio::signal::unix::{SignalKind, signal};
        // Without a runtime the kernel ends us, and ends the gateway with us.
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let listen = |kind| signal(kind);
            let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hang_up)) =
                (listen(SignalKind::interrupt()), listen(SignalKind::terminate()), listen(SignalKind::hangup()))
            else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
            // Whoever took them has ended already.
            let _ = keys.send(b'q');
        });
    });
}

/// Where it is shown.
enum Shown {
    On(Terminal),
    /// A line a second.
    Lines,
}

/// What a key did.
enum Pressed {
    End,
    Event(String),
    Nothing,
}

/// See the module. Fields end in their order: the gateway before its folder.
struct Demo {
    gateway: Gateway,
    load: Arc<Load>,
    sending: JoinHandle<()>,
    sink: Arc<Sink>,
    accounts: Arc<Mutex<Accounts>>,
    /// Spans a second, not doubled.
    rate: u32,
    doubled: bool,
    kills: u32,
    /// The last few looks at the gateway that runs now.
    looks: VecDeque<Overview>,
    events: VecDeque<String>,
    began: Instant,
    _folder: Folder,
}

impl Demo {
    fn start(rate: u32) -> Result<Demo, String> {
        let folder = Folder::make().map_err(|error| format!("no folder for the queues can be made: {error}"))?;
        let accounts = Arc::new(Mutex::new(Accounts::default()));
        let (sink, address) = Sink::start(Arc::clone(&accounts))
            .map_err(|error| format!("the sink of the demo cannot listen on loopback: {error}"))?;
        let gateway = Gateway::start(Blueprint { folder: folder.0.clone(), sink: address })?;
        let looks = VecDeque::from([top::look(&gateway.url())?]);
        let (load, sending) = Load::start(Arc::clone(&accounts), gateway.http(), rate)
            .map_err(|error| format!("the load of the demo cannot start: {error}"))?;
        Ok(Demo {
            gateway,
            load,
            sending,
            sink,
            accounts,
            rate,
            doubled: false,
            kills: 0,
            looks,
            events: VecDeque::new(),
            began: Instant::now(),
            _folder: folder,
        })
    }

    fn introduction(&self) -> String {
        format!(
            "A gateway (process {}) takes spans of a shop, archives all of them and keeps the traces that fail, are slow or \
             belong to one tenant.\nIts page: {}/\nKeys: f fails the sink, d doubles the load, k kills the gateway, q ends.",
            self.gateway.pid(),
            self.gateway.url()
        )
    }

    /// Shows it each second, until a key, the time or a full book ends it.
    fn watch(&mut self, keys: &Receiver<u8>, shown: &Shown, until: Option<Instant>) -> Result<(), String> {
        let mut due = Instant::now();
        loop {
            due += LOOK_EVERY;
            while let Some(left) = due.checked_duration_since(Instant::now()) {
                let pressed = match keys.recv_timeout(left) {
                    // Who said how long does not have to keep the input open.
                    Ok(CONTROL_D) if until.is_some() => Pressed::Nothing,
                    Ok(key) => self.press(key)?,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                };
                match pressed {
                    Pressed::End => return Ok(()),
                    Pressed::Nothing => {}
                    Pressed::Event(event) => self.note(event, shown),
                }
            }
            if let Some(why) = self.gateway.has_ended() {
                return Err(why);
            }
            // A look that fails is shown as one that stands still.
            if let Ok(look) = top::look(&self.gateway.url()) {
                top::remember(&mut self.looks, look);
            }
            if self.draw(shown).is_err() || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(());
            }
            if self.accounts().is_full() {
                self.note("the demo remembers no more traces, and ends".to_owned(), shown);
                return Ok(());
            }
        }
    }

    fn press(&mut self, key: u8) -> Result<Pressed, String> {
        Ok(match key {
            b'q' | b'Q' | CONTROL_C | CONTROL_D => Pressed::End,
            b'f' | b'F' => {
                let failing = !self.sink.fails();
                self.sink.fail(failing);
                Pressed::Event(match failing {
                    true => "the sink fails: the queues on disk fill".to_owned(),
                    false => format!("the sink takes again, after {} refusals", self.sink.refused()),
                })
            }
            b'd' | b'D' => {
                self.doubled = !self.doubled;
                let rate = if self.doubled { 2 * self.rate } else { self.rate };
                self.load.set_rate(rate);
                Pressed::Event(format!("the load is {rate} spans/s now"))
            }
            b'k' | b'K' => Pressed::Event(self.kill()?),
            _ => Pressed::Nothing,
        })
    }

    fn kill(&mut self) -> Result<String, String> {
        let (before, began) = (self.gateway.pid(), Instant::now());
        let accounts = Arc::clone(&self.accounts);
        self.gateway.kill_and_start(|| accounts.lock().expect("nobody panics with it").killed())?;
        self.load.set_gateway(self.gateway.http());
        self.kills += 1;
        let after = self.gateway.pid();
        Ok(format!("kill -9 of process {before}; process {after} is ready {} ms later", began.elapsed().as_millis()))
    }

    fn note(&mut self, event: String, shown: &Shown) {
        if let Shown::Lines = shown {
            println!("{event}");
        }
        if self.events.len() == EVENTS_SHOWN {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn draw(&self, shown: &Shown) -> io::Result<()> {
        use std::io::Write as _;
        let figures = self.figures();
        match shown {
            Shown::Lines => writeln!(io::stdout(), "{}", figures.line()),
            Shown::On(terminal) => {
                let mut lines = figures.head(&self.events);
                if let (Some(before), Some(now)) = (self.looks.front(), self.looks.back()) {
                    lines.extend(top::screen(before, now));
                }
                let fails = if self.sink.fails() { "f repairs the sink" } else { "f fails the sink" };
                let doubles = if self.doubled { "d halves the load" } else { "d doubles the load" };
                terminal.show(&lines, &format!("{fails}  {doubles}  k kills the gateway  q ends"))
            }
        }
    }

    fn figures(&self) -> Figures<'_> {
        Figures {
            seconds: self.began.elapsed().as_secs(),
            looks: self.looks.front().zip(self.looks.back()),
            balance: self.accounts().balance(),
            p99: self.load.p99(),
            sink_fails: self.sink.fails(),
            sink_refused: self.sink.refused(),
            kills: self.kills,
            page: format!("{}/", self.gateway.url()),
        }
    }

    fn accounts(&self) -> std::sync::MutexGuard<'_, Accounts> {
        self.accounts.lock().expect("nobody panics with it")
    }

    /// Lets everything under way arrive, stops the gateway, and says how the books stand.
    fn finish(mut self) -> Result<Summary, String> {
        self.sink.fail(false);
        self.load.end();
        if wait_for(|| self.sending.is_finished().then_some(())).is_none() {
            self.load.abandon();
        }
        let settled = wait_for(|| match self.gateway.has_ended() {
            Some(why) => Some(Err(why)),
            None => self.settled().map(Ok),
        });
        let last = settled.transpose()?;
        let (status, ledger) = self.gateway.stop()?;
        let (refused, unanswered) = self.load.sent_again();
        Ok(Summary {
            balance: self.accounts().balance(),
            gateway_balanced: last.is_some() && status.success(),
            cores_per_million: last.as_ref().and_then(view::cores_per_million_since_start),
            ledger,
            refused,
            unanswered,
            sink_refused: self.sink.refused(),
            kills: self.kills,
            p99: self.load.p99(),
        })
    }

    /// The look that finds the gateway empty and its books balanced, once the sink has everything.
    fn settled(&self) -> Option<Overview> {
        let look = top::look(&self.gateway.url()).ok()?;
        let exporters = look.pipelines.iter().flat_map(|pipeline| &pipeline.exporters);
        let in_flight: u64 = exporters.map(|exporter| exporter.in_flight).sum();
        let empty = in_flight == 0 && look.policies.pending == 0 && look.ledger["balanced"] == true;
        let Balance { missing, kept_missing, .. } = if empty { self.accounts().balance() } else { return None };
        (missing == 0 && kept_missing == 0).then_some(look)
    }
}

/// A folder of ours among the temporary files; removed with all that is in it.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn make() -> io::Result<Folder> {
        use std::os::unix::fs::DirBuilderExt;
        let path =
            std::env::temp_dir().join(format!("tracegate-demo-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        // The queues hold what the pipeline sends: for nobody else.
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
