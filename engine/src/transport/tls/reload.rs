//! Configurations that follow their files: read again by the control thread, in force for the next handshake.
//!
//! ```text
//! files --look every second--> same bytes: nothing | others: build --ok--> in force, old sessions stay
//!                                                              \--bad--> the old one stays, said once, counted
//! ```
//!
//! The one idea: a look compares bytes, not times of change, so a symbolic link that is swapped (as Kubernetes does it)
//! and a file that is written over are seen alike. Nothing here runs on a shard: a shard takes a handle of what is in
//! force when a handshake begins, which costs a lock that nobody holds for longer than a copy of that handle.

use super::material::{Sources, Texts};
use super::{TlsClient, TlsServer};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often files are looked at unless `reload_interval` says it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

type Build<T> = Box<dyn Fn(&Texts) -> Result<T, String> + Send + Sync>;

/// What is made of some files. Cloning shares it; it may go to any thread.
pub(super) struct Current<T>(Arc<Inner<T>>);

struct Inner<T> {
    sources: Sources,
    look_every: Duration,
    build: Build<T>,
    value: Mutex<Arc<T>>,
    seen: Mutex<Seen>,
}

/// What the last look saw.
struct Seen {
    fingerprint: [u8; 32],
    /// Why that is not in force.
    error: Option<String>,
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing that was not known before.
    Same,
    /// Other files, which are in force now.
    Replaced,
    /// Files that cannot be used; the old ones stay in force.
    Refused(String),
}

impl<T> Current<T> {
    /// Reads and builds. Blocks. `reload_interval_ns` 0 is the default.
    pub(super) fn new(
        sources: Sources,
        reload_interval_ns: u64,
        build: impl Fn(&Texts) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Current<T>, String> {
        let texts = sources.read()?;
        let value = Mutex::new(Arc::new(build(&texts)?));
        let seen = Mutex::new(Seen { fingerprint: texts.fingerprint(), error: None });
        let look_every = match reload_interval_ns {
            0 => LOOK_EVERY,
            interval_ns => Duration::from_nanos(interval_ns),
        };
        Ok(Current(Arc::new(Inner { sources, look_every, build: Box::new(build), value, seen })))
    }

    /// What is in force.
    pub(super) fn value(&self) -> Arc<T> {
        Arc::clone(&self.0.value.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long from one look to the next; `None` if nothing can change.
    pub(super) fn look_every(&self) -> Option<Duration> {
        self.0.sources.has_files().then_some(self.0.look_every)
    }

    /// Looks at the files. Blocks.
    pub(super) fn look(&self) -> Look {
        let inner = &*self.0;
        let mut seen = inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let built = match inner.sources.read() {
            Err(error) => Err(error),
            Ok(texts) => {
                let fingerprint = texts.fingerprint();
                // A file that could not be read and is there again as it was is news only for the error.
                if fingerprint == seen.fingerprint && seen.error.is_none() {
                    return Look::Same;
                }
                let built = (inner.build)(&texts);
                seen.fingerprint = fingerprint;
                built
            }
        };
        match built {
            Ok(value) => {
                seen.error = None;
                *inner.value.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                Look::Replaced
            }
            Err(error) if seen.error.as_ref() == Some(&error) => Look::Same,
            Err(error) => {
                seen.error = Some(error.clone());
                Look::Refused(error)
            }
        }
    }
}

impl<T> Clone for Current<T> {
    fn clone(&self) -> Current<T> {
        Current(Arc::clone(&self.0))
    }
}

/// Every configuration of the process that follows files. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Certificates(Arc<Inside>);

#[derive(Debug, Default)]
struct Inside {
    watched: Mutex<Vec<(String, Side)>>,
    replaced: AtomicU64,
    refused: AtomicU64,
}

#[derive(Clone, Debug)]
enum Side {
    Client(TlsClient),
    Server(TlsServer),
}

impl Certificates {
    /// Has the files of a client looked at; `who` names its component in the log.
    pub fn watch_client(&self, who: String, tls: TlsClient) {
        self.add(who, Side::Client(tls));
    }

    /// The same for a server.
    pub fn watch_server(&self, who: String, tls: TlsServer) {
        self.add(who, Side::Server(tls));
    }

    fn add(&self, who: String, side: Side) {
        if side.look_every().is_some() {
            self.0.watched.lock().unwrap_or_else(PoisonError::into_inner).push((who, side));
        }
    }

    /// Times that changed files were taken into use.
    pub fn replaced(&self) -> u64 {
        self.0.replaced.load(Ordering::Relaxed)
    }

    /// Times that changed files could not be used.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Looks at the files for as long as it is polled. Runs on the control thread.
    pub async fn watch(self) {
        let watched = self.0.watched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut by_pace: HashMap<Duration, Vec<(String, Side)>> = HashMap::new();
        for (who, side) in watched {
            let pace = side.look_every().expect("only those with files are watched");
            by_pace.entry(pace).or_default().push((who, side));
        }
        let certificates = &self;
        let paces = by_pace.into_iter().map(|(pace, sides)| async move {
            loop {
                tokio::time::sleep(pace).await;
                for (who, side) in &sides {
                    certificates.note(who, side.look());
                }
            }
        });
        futures_util::future::join_all(paces).await;
    }

    fn note(&self, component: &str, look: Look) {
        match look {
            Look::Same => {}
            Look::Replaced => {
                self.0.replaced.fetch_add(1, Ordering::Relaxed);
                tracing::info!(component, "TLS files have changed; new connections use them");
            }
            Look::Refused(error) => {
                self.0.refused.fetch_add(1, Ordering::Relaxed);
                tracing::error!(component, %error, "TLS files have changed and cannot be used; the old ones stay in force");
            }
        }
    }
}

impl Side {
    fn look_every(&self) -> Option<Duration> {
        match self {
            Side::Client(client) => client.look_every(),
            Side::Server(server) => server.look_every(),
        }
    }

    fn look(&self) -> Look {
        match self {
            Side::Client(client) => client.look(),
            Side::Server(server) => server.look(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::PemSource;
    use std::path::PathBuf;

    /// Reads one file as the authority; what begins with "bad" cannot be used.
    fn current(path: PathBuf) -> Result<Current<[u8; 32]>, String> {
        let sources = Sources { authority: Some(("ca", PemSource::File(path.clone()))), ..Sources::default() };
        Current::new(sources, 0, move |texts| {
            let bad = std::fs::read(&path).is_ok_and(|bytes| bytes.starts_with(b"bad"));
            if bad { Err("it is bad".to_owned()) } else { Ok(texts.fingerprint()) }
        })
    }

    #[test]
    fn a_file_that_is_written_over_is_in_force_at_the_next_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "one").unwrap();
        let current = current(path.clone()).unwrap();
        let first = current.value();
        assert_eq!(current.look(), Look::Same);
        std::fs::write(&path, "two").unwrap();
        assert_eq!(current.value(), first, "nothing changes before a look");
        assert_eq!(current.look(), Look::Replaced);
        assert_ne!(current.value(), first);
        assert_eq!(current.look(), Look::Same);
    }

    #[test]
    fn a_symbolic_link_that_is_swapped_is_seen_though_no_file_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let in_folder = |name: &str| folder.path().join(name);
        for (name, text) in [("v1", "one"), ("v2", "two")] {
            std::fs::create_dir(in_folder(name)).unwrap();
            std::fs::write(in_folder(name).join("ca.pem"), text).unwrap();
        }
        std::os::unix::fs::symlink("v1", in_folder("..data")).unwrap();
        let current = current(in_folder("..data").join("ca.pem")).unwrap();
        std::os::unix::fs::symlink("v2", in_folder("next")).unwrap();
        std::fs::rename(in_folder("next"), in_folder("..data")).unwrap();
        assert_eq!(current.look(), Look::Replaced);
    }

    #[test]
    fn a_bad_file_leaves_the_old_one_in_force_and_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "one").unwrap();
        let current = current(path.clone()).unwrap();
        let first = current.value();
        std::fs::write(&path, "bad").unwrap();
        assert_eq!(current.look(), Look::Refused("it is bad".to_owned()));
        assert_eq!(current.look(), Look::Same);
        std::fs::remove_file(&path).unwrap();
        let Look::Refused(error) = current.look() else { panic!("a file that is gone is another problem") };
        assert!(error.contains("tls.ca_file") && error.contains("cannot be read"), "{error}");
        assert_eq!((current.look(), current.value()), (Look::Same, Arc::clone(&first)));
        std::fs::write(&path, "two").unwrap();
        assert_eq!(current.look(), Look::Replaced);
        assert_ne!(current.value(), first);
    }

    #[test]
    fn nothing_is_read_at_start_that_cannot_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(current(path.clone()).err().unwrap().contains("cannot be read"));
        std::fs::write(&path, "bad").unwrap();
        assert_eq!(current(path).err().unwrap(), "it is bad");
    }
}
