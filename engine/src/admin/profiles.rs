//! `/debug/pprof/...`: which profile a request gets, and who gets none.
//!
//! The paths are Go's, because runbooks have them. At the `pprof` extension's address whoever reaches it is answered, as by
//! a Collector; at the metrics address, which scrapers reach from outside, this machine only: a profile costs CPU time and
//! shows function names.

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::oneshot;

use super::server::Patience;
use super::{Face, Shards, View};
use crate::config::checked::ExtensionKind;
use crate::profile::cpu::Recording;
use crate::profile::heap::{self, Shown};
use crate::profile::{Permit, tasks::Tasks};

/// How long a CPU profile takes if nothing is said, as in Go.
const SECONDS_DEFAULT: u64 = 30;
/// And at most: one profile keeps others waiting.
const SECONDS_MAX: u64 = 120;
/// How long names of functions may take, also in a build without optimisation.
const NAMES_TIME_MAX: Duration = Duration::from_secs(60);
/// Threads that were started since are looked for so often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

const ROOT: &str = "/debug/pprof";
const TEXT: &str = "text/plain; charset=utf-8";
const FILE: &str = "application/octet-stream";

/// What the root shows.
const INDEX: &str = "\
Profiles of this gateway, for `go tool pprof` (http://ADDRESS/debug/pprof/heap, or a file that was fetched):

  /debug/pprof/heap                 memory in use, by who allocated it; a sample, one in 512 KiB
  /debug/pprof/allocs               the same, showing everything that was allocated since the start
  /debug/pprof/profile?seconds=30   where CPU time goes, 1 to 120 s; by thread: -tagfocus=thread=shard-0
  /debug/pprof/goroutine?debug=1    tasks of each shard, by kind, as text; without debug=1 for `go tool pprof`

One at a time; while nobody asks, only the heap is sampled.
";

/// An answer to a request for a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    /// What a browser calls it when it saves it.
    pub(super) file: Option<&'static str>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn text(status: u16, text: impl Into<String>) -> Answer {
        Answer { status, content_type: TEXT, file: None, body: text.into().into_bytes() }
    }

    /// A sentence instead of a profile.
    fn none(status: u16, why: impl Into<String>) -> Answer {
        Answer::text(status, why.into() + "\n")
    }

    fn file(name: &'static str, body: Vec<u8>) -> Answer {
        Answer { status: 200, content_type: FILE, file: Some(name), body }
    }
}

/// Whether a path at this address is a profile's.
pub(super) fn serves<S>(view: &View<S>, face: Face, path: &str) -> bool {
    match face {
        Face::Metrics => path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        Face::Admin => false,
        Face::Extension(number) => matches!(view.extensions[number], (_, ExtensionKind::Pprof(_))),
    }
}

/// The profile at `target`, a path and perhaps a query, for `peer`. Dropping the future ends it.
pub(super) async fn answer<S: Shards>(
    view: &View<S>,
    face: Face,
    peer: IpAddr,
    target: &str,
    patience: &Patience,
) -> Answer {
    if face == Face::Metrics && !peer.to_canonical().is_loopback() {
        return Answer::none(
            403,
            "the metrics address gives profiles to this machine only: ask at 127.0.0.1 (kubectl exec, kubectl \
             port-forward), or at the address of the pprof extension",
        );
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let name = path.strip_prefix(ROOT).map(|rest| rest.trim_start_matches('/'));
    match name {
        Some("") => Answer::text(200, INDEX),
        Some("goroutine") => tasks(view, query).await,
        Some("heap") => in_use("heap", Shown::InUse, query, patience).await,
        Some("allocs") => in_use("allocs", Shown::Allocated, query, patience).await,
        Some("profile") => cpu(query, patience).await,
        Some("block" | "mutex") => {
            Answer::none(404, "shards wait for nothing and have no locks: there is nothing to show")
        }
        _ => Answer::none(404, format!("no such profile; {ROOT}/ says what there is")),
    }
}

/// The value of a key in a query.
fn value<'q>(query: &'q str, key: &str) -> Option<&'q str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == key).map(|(_, value)| value)
}

async fn tasks<S: Shards>(view: &View<S>, query: &str) -> Answer {
    let Ok(tasks) = tokio::time::timeout(view.answer_wait, view.shards.tasks()).await else {
        return Answer::none(503, format!("a shard did not answer within {} s", view.answer_wait.as_secs()));
    };
    match value(query, "debug") {
        None | Some("0") => Answer::file("goroutine", Tasks::encode(&tasks)),
        Some(_) => Answer::text(200, tasks.text()),
    }
}

async fn in_use(name: &'static str, shown: Shown, query: &str, patience: &Patience) -> Answer {
    if value(query, "debug").is_some_and(|debug| debug != "0") {
        return Answer::none(
            400,
            format!("{name} has no text form: leave debug out and read it with `go tool pprof -top`"),
        );
    }
    let Some(permit) = Permit::take() else { return taken() };
    patience.extend(NAMES_TIME_MAX);
    named(name, permit, move || heap::profile(shown).encode()).await
}

async fn cpu(query: &str, patience: &Patience) -> Answer {
    let seconds = match value(query, "seconds") {
        None => SECONDS_DEFAULT,
        Some(text) => match text.parse() {
            Ok(seconds) if (1..=SECONDS_MAX).contains(&seconds) => seconds,
            _ => {
                return Answer::none(
                    400,
                    format!("seconds is a whole number from 1 to {SECONDS_MAX}, not {text:.20?}"),
                );
            }
        },
    };
    let Some(permit) = Permit::take() else { return taken() };
    patience.extend(Duration::from_secs(seconds) + NAMES_TIME_MAX);
    let mut recording = match Recording::begin(permit) {
        Ok(recording) => recording,
        Err(why) => return Answer::none(503, why),
    };
    for _ in 0..seconds {
        tokio::time::sleep(LOOK_AGAIN).await;
        // A thread that cannot be recorded now may be next time; the others are.
        let _ = recording.find_threads();
    }
    let (profile, permit) = recording.end();
    named("profile", permit, move || profile.encode()).await
}

fn taken() -> Answer {
    Answer::none(409, "another profile is being made; a second one would show the first: ask again when it has ended")
}

/// Lets a thread find names and write the file: this thread has connections to accept.
async fn named(name: &'static str, permit: Permit, encode: impl FnOnce() -> Vec<u8> + Send + 'static) -> Answer {
    let (done, encoded) = oneshot::channel();
    let work = move || {
        let file = encode();
        // Before the client can ask for the next one.
        drop(permit);
        // Nobody waits if the client has left.
        let _ = done.send(file);
    };
    let started = std::thread::Builder::new().name("profile".to_owned()).spawn(work);
    match (started, encoded.await) {
        (Ok(_), Ok(file)) => Answer::file(name, file),
        (Err(error), _) => Answer::none(503, format!("the thread that names functions cannot start: {error}")),
        (Ok(_), Err(_)) => Answer::none(500, "the profile could not be written"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::pages::tests::{Fixed, view};
    use super::*;

    const PPROF: Face = Face::Extension(3);
    const HERE: &str = "127.0.0.1";

    fn ask(face: Face, peer: &str, target: &str) -> (u16, String) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (view, patience): (View<Fixed>, _) = (view(), Patience::default());
        let answer = runtime.block_on(answer(&view, face, peer.parse().unwrap(), target, &patience));
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    }

    #[test]
    fn profiles_are_at_their_extension_and_at_the_metrics_address() {
        let view = view();
        for (face, path, expected) in [
            (PPROF, "/", true),
            (PPROF, "/debug/pprof/heap", true),
            (Face::Metrics, "/debug/pprof/heap", true),
            (Face::Metrics, "/debug/pprof", true),
            (Face::Metrics, "/debug/pproforma", false),
            (Face::Metrics, "/metrics", false),
            (Face::Admin, "/debug/pprof/heap", false),
            (Face::Extension(2), "/debug/pprof/heap", false),
        ] {
            assert_eq!(serves(&view, face, path), expected, "{face:?} {path}");
        }
    }

    #[test]
    fn the_metrics_address_gives_profiles_to_this_machine_only() {
        for (peer, expected) in [("127.0.0.1", 200), ("127.9.9.9", 200), ("::1", 200), ("::ffff:127.0.0.1", 200)] {
            assert_eq!(ask(Face::Metrics, peer, "/debug/pprof/goroutine?debug=1").0, expected, "{peer}");
        }
        for peer in ["10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1"] {
            for path in ["/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile?seconds=1"] {
                let (status, body) = ask(Face::Metrics, peer, path);
                assert_eq!(status, 403, "{peer} {path}");
                assert!(body.contains("ask at 127.0.0.1"));
            }
        }
        assert_eq!(ask(PPROF, "10.0.0.1", "/debug/pprof/").0, 200, "whoever reaches the extension, as in a Collector");
    }

    #[test]
    fn what_cannot_be_profiled_is_said_in_a_sentence() {
        for (target, status, words) in [
            ("/debug/pprof/profile?seconds=0", 400, "from 1 to 120, not \"0\""),
            ("/debug/pprof/profile?seconds=121", 400, "from 1 to 120"),
            ("/debug/pprof/profile?seconds=-1&x=y", 400, "from 1 to 120"),
            ("/debug/pprof/profile?seconds=abcdefghijklmnopqrstuvwxyz", 400, "not \"abcdefghijklmnopqrst"),
            ("/debug/pprof/heap?debug=1", 400, "go tool pprof -top"),
            ("/debug/pprof/mutex", 404, "no locks"),
            ("/debug/pprof/trace", 404, "/debug/pprof/ says what there is"),
            ("/", 404, "/debug/pprof/ says what there is"),
            ("/debug/pprof/", 200, "/debug/pprof/profile?seconds=30"),
        ] {
            let (found, body) = ask(PPROF, HERE, target);
            assert_eq!(found, status, "{target}");
            assert!(body.contains(words), "{target}: {body}");
        }
    }

    #[test]
    fn tasks_are_text_for_people_and_a_file_for_programs() {
        let (status, text) = ask(PPROF, HERE, "/debug/pprof/goroutine?debug=1");
        assert_eq!((status, text.lines().next()), (200, Some("goroutine profile: total 7")));
        assert!(text.contains("engine::connect"), "{text}");
        assert!(!ask(PPROF, HERE, "/debug/pprof/goroutine").1.contains("engine"), "compressed");
    }
}
