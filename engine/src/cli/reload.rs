//! The configuration of a running gateway: read again when its files change or a signal asks, compared, applied or refused.
//!
//! ```text
//! SIGHUP ------------------\
//! files, every second -----> read --errors--> failed   \
//!  (two equal looks)            \--compare--> refused   >  the old one stays in force, said once, counted
//!                                        \--> waiting  /
//!                                         \-> applied: every shard, between two batches
//! ```
//!
//! The one idea: all or nothing. What is wrong, or cannot be changed while the gateway runs, is found before the first shard
//! hears of it. Looks compare bytes, not times of change, so a symbolic link that is swapped (as Kubernetes does it) and a
//! file that is written over are seen alike; a file must look the same twice, so that none is read half written.

use super::ConfigArguments;
use crate::admin::{ConfigurationView, View};
use crate::config::change::{Change, Tree};
use crate::config::checked::Config;
use crate::config::{self, Diagnostic, Loaded, Source};
use crate::shard::assemble::Declared;
use crate::shard::fleet::Fleet;
use crate::shard::reconfigure::Successor;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often files are looked at, and how often what waits is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Errors of a configuration that are logged; the rest is counted.
const ERRORS_LOGGED_MAX: usize = 20;

/// Where a configuration is read from, whenever it is.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) arguments: ConfigArguments,
    /// Gives what references in values name.
    pub(super) look_up: fn(&str) -> Option<String>,
    pub(super) machine: config::Machine,
}

/// Texts by the names of their files; `None` of a file that cannot be read. Those of `${file:...}` have the scheme.
type Texts = BTreeMap<String, Option<Vec<u8>>>;

/// A configuration, with the texts it was read from.
pub(super) struct Reading {
    pub(super) loaded: Loaded,
    texts: Texts,
}

impl Origin {
    /// Reads everything anew. Blocks. The error is that of a text that cannot be read.
    pub(super) fn read(&self) -> Result<Reading, String> {
        let sources = self.arguments.sources()?;
        let referenced = RefCell::new(Texts::new());
        let environment = |name: &str| {
            let found = (self.look_up)(name);
            if name.starts_with("file:") {
                let bytes = found.clone().map(String::into_bytes);
                referenced.borrow_mut().insert(name.to_owned(), bytes);
            }
            found
        };
        let loaded = config::load(&sources, &environment, &self.machine);
        let mut texts = referenced.into_inner();
        for (given, source) in self.arguments.config.iter().zip(sources) {
            if let (Some(_), Source::File { text, .. }) = (config::file_of(given), source) {
                texts.insert(given.clone(), Some(text.into_bytes()));
            }
        }
        Ok(Reading { loaded, texts })
    }

    /// The same files as they are now.
    fn look(&self, known: &Texts) -> Texts {
        let read = |name: &String| match self.arguments.config.contains(name) {
            true => match config::read_sources(&[name], &[]).ok().and_then(|mut sources| sources.pop()) {
                Some(Source::File { text, .. }) => Some(text.into_bytes()),
                _ => None,
            },
            false => (self.look_up)(name).map(String::into_bytes),
        };
        known.keys().map(|name| (name.clone(), read(name))).collect()
    }
}

/// What runs, and how it is changed.
pub(super) struct Reload {
    origin: Origin,
    fleet: Rc<Fleet>,
    view: Rc<View<Rc<Fleet>>>,
    running: Running,
    /// Files as they were when they were read last.
    seen: Texts,
    /// Other files than `seen`, if the last look found some.
    unsettled: Option<Texts>,
    /// Read, good, and without room.
    waiting: Option<Next>,
    told: ConfigurationView,
    hangups: Signal,
}

/// The configuration in force.
struct Running {
    config: Arc<Config>,
    declared: Arc<Declared>,
    tree: Tree,
}

/// One that may come into force.
struct Next {
    config: Arc<Config>,
    tree: Tree,
    change: Change,
}

impl Reload {
    /// From now on SIGHUP does not end the process. `reading` is what `config` and `declared` were made from.
    pub(super) fn new(
        origin: Origin,
        reading: Reading,
        config: Arc<Config>,
        declared: Arc<Declared>,
        fleet: Rc<Fleet>,
        view: Rc<View<Rc<Fleet>>>,
    ) -> Result<Reload, String> {
        let hangups = signal(SignalKind::hangup()).map_err(|error| format!("signals cannot be received: {error}"))?;
        let tree = reading.loaded.tree().ok_or("what runs was read from texts")?;
        let running = Running { config, declared, tree };
        let state = "applied".to_owned();
        let told = ConfigurationView { generation: 1, applied_unix_ms: unix_ms(), state, ..Default::default() };
        view.tell(told.clone());
        let (seen, unsettled, waiting) = (reading.texts, None, None);
        Ok(Reload { origin, fleet, view, running, seen, unsettled, waiting, told, hangups })
    }

    /// Follows files and signals for as long as it is polled.
    pub(super) async fn follow(mut self) {
        loop {
            let asked = tokio::select! {
                asked = self.hangups.recv() => asked.is_some(),
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            if asked || (self.running.config.engine.watches_files && self.have_settled()) {
                self.read_again(asked).await;
            } else if let Some(next) = self.waiting.take() {
                self.apply(next).await;
            }
        }
    }

    /// Whether the files are others than those read last, and look as they did the last time.
    fn have_settled(&mut self) -> bool {
        let now = self.origin.look(&self.seen);
        if now == self.seen {
            self.unsettled = None;
            return false;
        }
        let settled = self.unsettled.as_ref() == Some(&now);
        self.unsettled = Some(now);
        settled
    }

    async fn read_again(&mut self, asked: bool) {
        let looked = self.unsettled.take();
        self.waiting = None;
        let origin = self.origin.clone();
        let reading = tokio::task::spawn_blocking(move || origin.read()).await;
        let reading = match reading {
            Ok(Ok(reading)) => reading,
            Ok(Err(message)) => {
                // What cannot be read is told once, too.
                self.seen = looked.unwrap_or_else(|| self.origin.look(&self.seen));
                tracing::error!(message, "The configuration cannot be read again; the old one stays in force.");
                return self.failed(message);
            }
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        self.seen = reading.texts;
        let (tree, loaded) = (reading.loaded.tree(), reading.loaded);
        let (Some(tree), Some(config)) = (tree, loaded.config) else {
            return self.has_errors(&loaded.diagnostics);
        };
        let change = Change::between((&self.running.tree, &self.running.config), (&tree, &config));
        if let Some(message) = change.needs_restart() {
            tracing::error!(message, "The changed configuration is not applied; the old one stays in force.");
            return self.refused(message);
        }
        if !change.is_any {
            if asked {
                tracing::info!("The configuration is the one in force.");
            }
            return self.is_current();
        }
        self.apply(Next { config: Arc::new(config), tree, change }).await;
    }

    async fn apply(&mut self, next: Next) {
        let Next { config, tree, change } = next;
        if change.processors.is_empty() {
            tracing::info!("The configuration has changed; nothing that runs is concerned.");
            (self.running.config, self.running.tree) = (config, tree);
            return self.is_current();
        }
        let declared = match self.running.declared.following(&self.running.config, &config) {
            Ok(declared) => Arc::new(declared),
            Err(message) => {
                tracing::error!(message, "The changed configuration is not applied; the old one stays in force.");
                return self.refused(message);
            }
        };
        let (processors, schema) = (change.processors.clone(), declared.schema.clone());
        let successor = Successor { config: Arc::clone(&config), declared: Arc::clone(&declared), processors };
        if !self.fleet.reconfigure(&Arc::new(successor)).await {
            self.waits();
            self.waiting = Some(Next { config, tree, change });
            return;
        }
        let ids = change.processors.iter().map(|&number| config.processors[number].id.to_string());
        let changed = ids.collect::<Vec<_>>().join(", ");
        self.view.reconfigured(schema, &config);
        self.running = Running { config, declared, tree };
        self.told.generation += 1;
        self.told.reloads += 1;
        self.told.applied_unix_ms = unix_ms();
        tracing::info!(changed, generation = self.told.generation, "The changed configuration is in force.");
        self.is_current();
    }

    fn is_current(&mut self) {
        self.tell("applied", String::new());
    }

    fn waits(&mut self) {
        if self.told.state != "waiting" {
            let message = "traces of four generations of sampling rules are pending; the changed configuration is applied \
                           when those of the oldest are decided";
            tracing::warn!("{message}");
            self.tell("waiting", message.to_owned());
        }
    }

    fn failed(&mut self, message: String) {
        self.told.failed_reloads += 1;
        self.tell("failed", message);
    }

    fn refused(&mut self, message: String) {
        self.told.refused_reloads += 1;
        self.tell("refused", message);
    }

    fn has_errors(&mut self, diagnostics: &[Diagnostic]) {
        let errors: Vec<String> = diagnostics.iter().filter(|it| it.is_error()).map(said).collect();
        for error in errors.iter().take(ERRORS_LOGGED_MAX) {
            tracing::error!(error, "The changed configuration has an error.");
        }
        tracing::error!(errors = errors.len(), "The changed configuration is not applied; the old one stays in force.");
        let first = errors.first().cloned();
        // A fragment has no errors.
        let mut message = first.unwrap_or_else(|| "`service` is missing: this is a part of a configuration".to_owned());
        if errors.len() > 1 {
            message.push_str(&format!(" (and {} more)", errors.len() - 1));
        }
        self.failed(message);
    }

    fn tell(&mut self, state: &str, message: String) {
        (self.told.state, self.told.message) = (state.to_owned(), message);
        self.view.tell(self.told.clone());
    }
}

/// A diagnostic on one line.
fn said(diagnostic: &Diagnostic) -> String {
    let Diagnostic { place, path, message, help, .. } = diagnostic;
    let separator = if path.is_empty() { "" } else { ": " };
    format!("{place}: {path}{separator}{message}; {help}")
}

fn unix_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn gateway(wait: &str) -> String {
        format!(
            "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nprocessors: {{batch: {{timeout: {wait}}}}}\nexporters: {{nop: }}\n\
             service: {{pipelines: {{traces: {{receivers: [otlp], processors: [batch], exporters: [nop]}}}}}}\n"
        )
    }

    fn origin(path: &Path) -> Origin {
        let arguments = ConfigArguments { config: vec![path.display().to_string()], set: Vec::new() };
        Origin { arguments, look_up: config::look_up, machine: config::Machine { memory_bytes: 1 << 30 } }
    }

    #[test]
    fn a_symbolic_link_that_is_swapped_is_seen_though_no_file_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let in_folder = |name: &str| folder.path().join(name);
        for (name, wait) in [("v1", "1s"), ("v2", "2s")] {
            std::fs::create_dir(in_folder(name)).unwrap();
            std::fs::write(in_folder(name).join("gateway.yaml"), gateway(wait)).unwrap();
        }
        std::os::unix::fs::symlink("v1", in_folder("..data")).unwrap();
        std::os::unix::fs::symlink("..data/gateway.yaml", in_folder("gateway.yaml")).unwrap();
        let origin = origin(&in_folder("gateway.yaml"));
        let reading = origin.read().unwrap();
        assert!(reading.loaded.config.is_some());
        assert!(origin.look(&reading.texts) == reading.texts);
        std::os::unix::fs::symlink("v2", in_folder("next")).unwrap();
        std::fs::rename(in_folder("next"), in_folder("..data")).unwrap();
        assert!(origin.look(&reading.texts) != reading.texts);
        let again = origin.read().unwrap();
        let (old, new) = (reading.loaded, again.loaded);
        let (old_tree, new_tree) = (old.tree().unwrap(), new.tree().unwrap());
        let change = Change::between((&old_tree, &old.config.unwrap()), (&new_tree, &new.config.unwrap()));
        assert_eq!((change.processors, change.restart), (vec![0], Vec::new()));
    }

    #[test]
    fn files_that_values_name_are_looked_at_and_a_missing_one_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let (path, wait) = (folder.path().join("gateway.yaml"), folder.path().join("wait"));
        std::fs::write(&wait, "1s").unwrap();
        std::fs::write(&path, gateway(&format!("'${{file:{}}}'", wait.display()))).unwrap();
        let origin = origin(&path);
        let reading = origin.read().unwrap();
        assert!(reading.loaded.config.is_some(), "{}", config::render(&reading.loaded.diagnostics, false));
        std::fs::write(&wait, "2s").unwrap();
        assert!(origin.look(&reading.texts) != reading.texts);
        std::fs::write(&wait, "1s").unwrap();
        assert!(origin.look(&reading.texts) == reading.texts);
        std::fs::remove_file(&path).unwrap();
        assert!(origin.look(&reading.texts) != reading.texts);
        assert!(origin.read().is_err());
    }
}
