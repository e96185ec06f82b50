//! Passwords that take long to check, checked beside the shards.
//!
//! The one idea: one thread for the whole process and a short queue. bcrypt takes some 50 ms on purpose; on a shard that
//! would hold up every connection, and with a thread per request anybody could take all cores by guessing.

use super::htpasswd::Password;
use std::sync::mpsc::{SyncSender, sync_channel};
use tokio::sync::oneshot;

/// Checks that may wait: some seconds of work. Beyond it senders are told to come back.
const WAITING_MAX: usize = 64;

struct Job {
    known: Password,
    shown: String,
    answer: oneshot::Sender<bool>,
}

/// The thread's inbox. Cloning shares it.
#[derive(Clone)]
pub(super) struct Verifier(SyncSender<Job>);

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    /// Starts the thread; it ends with the last handle.
    pub(super) fn start() -> Result<Verifier, String> {
        let (inbox, jobs) = sync_channel::<Job>(WAITING_MAX);
        let work = move || {
            for job in jobs {
                // Who asked may be gone: then nobody wants the answer, and nothing is computed for it.
                if !job.answer.is_closed() {
                    let _ = job.answer.send(job.known.is(&job.shown));
                }
            }
        };
        let started = std::thread::Builder::new().name("passwords".to_owned()).spawn(work);
        started.map_err(|error| format!("no thread to check passwords: {error}"))?;
        Ok(Verifier(inbox))
    }

    /// Whether this is the password; `None` if too many wait already.
    pub(super) async fn check(&self, known: &Password, shown: &str) -> Option<bool> {
        let (answer, answered) = oneshot::channel();
        let job = Job { known: known.clone(), shown: shown.to_owned(), answer };
        self.0.try_send(job).ok()?;
        answered.await.ok()
    }
}
