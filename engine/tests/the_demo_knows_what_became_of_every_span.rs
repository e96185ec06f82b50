//! `tracegate demo`, as a script runs it: keys through its input, what it shows from its output. The backend fails and
//! recovers, the load doubles, the gateway is killed, and at the end every acknowledged span has arrived.

mod common;

use common::wait_for;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

/// A demo that runs. Dropping it kills it, and the kernel its gateway.
struct Demo {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reading: Option<std::thread::JoinHandle<()>>,
}

impl Demo {
    /// Its temporary files lie in `folder`.
    fn start(folder: &Path, arguments: &[&str]) -> Demo {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tracegate"))
            .args(["demo", "--rate", "1000"])
            .args(arguments)
            .env("TMPDIR", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the demo starts");
        let stdout = child.stdout.take().expect("it is piped");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let read = Arc::clone(&lines);
        let reading = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                read.lock().expect("nobody panics with it").push(line);
            }
        });
        Demo { child, lines, reading: Some(reading) }
    }

    fn press(&mut self, key: &str) -> usize {
        let printed = self.lines.lock().expect("nobody panics with it").len();
        self.child.stdin.as_mut().expect("it is piped").write_all(key.as_bytes()).expect("the demo reads its input");
        printed
    }

    /// The first line from number `from` on that is as wanted, with its number.
    fn line(&self, from: usize, what: &str, wanted: impl Fn(&str) -> bool) -> (usize, String) {
        wait_for(what, || {
            let lines = self.lines.lock().expect("nobody panics with it");
            let found = lines.iter().enumerate().skip(from).find(|(_, line)| wanted(line))?;
            Some((found.0, found.1.clone()))
        })
    }

    fn ended(&mut self) -> (ExitStatus, String) {
        let status = wait_for("the end of the demo", || self.child.try_wait().expect("it is our child"));
        self.reading.take().expect("nobody waited before").join().expect("the reader does not panic");
        (status, self.lines.lock().expect("nobody panics with it").join("\n"))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the demo has said:\n{}", self.lines.lock().map(|lines| lines.join("\n")).unwrap_or_default());
        }
        // It has ended already unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The number that stands before `words`.
fn number(line: &str, words: &str) -> Option<u64> {
    let before = line.split(words).next().filter(|before| before.len() < line.len())?;
    let digits = before.rsplit([' ', '(']).next()?;
    digits.replace(',', "").parse().ok()
}

/// Whether a process has ended; a parent that has not asked yet leaves a `Z`.
fn has_ended(pid: u64) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    status.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

#[test]
fn a_failing_sink_a_doubled_load_and_a_kill_lose_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut demo = Demo::start(folder.path(), &[]);
    let kept = |line: &str| line.split("kept ").nth(1).and_then(|rest| number(rest, ":")).unwrap_or_default();
    demo.line(0, "spans that were kept", |line| kept(line) > 0);

    let from = demo.press("f");
    let (from, _) = demo.line(from, "the key", |line| line.starts_with("the sink fails"));
    demo.line(from, "refusals of the sink", |line| {
        line.contains("sink FAILS (") && number(line, " refused)") > Some(0) && number(line, " waiting") > Some(0)
    });
    let from = demo.press("f");
    let (from, line) = demo.line(from, "the key", |line| line.starts_with("the sink takes again, after"));
    assert!(number(&line, " refusals") > Some(0), "{line}");
    let (from, line) = demo.line(from, "the next second", |line| line.contains("sink takes ("));
    let acknowledged = number(&line, " acknowledged");
    assert!(acknowledged > Some(0), "{line}");
    demo.line(from, "what had waited", |line| number(line, " archived") >= acknowledged);

    let from = demo.press("d");
    demo.line(from, "the key", |line| line == "the load is 2000 spans/s now");
    let from = demo.press("k");
    let (from, line) = demo.line(from, "the key", |line| line.starts_with("kill -9 of process"));
    assert!(has_ended(number(&line, ";").expect("the process that was killed")), "{line}");
    let next = number(&line, " is ready").expect("the process that runs");
    let (from, line) = demo.line(from, "the next second", |line| line.contains("killed 1"));
    let acknowledged = number(&line, " acknowledged");
    demo.line(from, "more from the next process", |line| number(line, " acknowledged") > acknowledged);

    demo.press("q");
    let (status, said) = demo.ended();
    assert!(status.success(), "{said}");
    let last = said.split("ending:").nth(1).expect("it says that it ends");
    for expected in ["archived, 0 missing,", "sink: refused", "kill -9: once;", "The balance is even:"] {
        assert!(last.contains(expected), "{expected} is not in {last}");
    }
    let sent = |words| number(last.lines().find(|line| line.starts_with("in: ")).expect("what was sent"), words);
    assert_eq!(sent(" spans sent"), sent(" acknowledged"));
    assert!(kept(last.lines().find(|line| line.starts_with("kept ")).expect("what was kept")) > 0);
    assert!(has_ended(next), "the gateway ends with the demo");
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0, "the queues are gone");
}

#[test]
fn it_ends_by_itself_after_the_time_given_whoever_closes_its_input() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut demo = Demo::start(folder.path(), &["--seconds", "1"]);
    drop(demo.child.stdin.take());
    let (status, said) = demo.ended();
    assert!(status.success() && said.contains("The balance is even:"), "{said}");
}

#[test]
fn a_demo_that_is_killed_takes_its_gateway_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut demo = Demo::start(folder.path(), &[]);
    let (_, line) = demo.line(0, "the gateway's process", |line| line.starts_with("A gateway (process "));
    let gateway = number(&line, ") takes").expect("its number");
    assert!(!has_ended(gateway));
    demo.child.kill().expect("it runs");
    wait_for("the end of the gateway", || has_ended(gateway).then_some(()));
}

#[test]
fn a_configuration_of_ones_own_is_not_for_the_demo() {
    let output = Command::new(env!("CARGO_BIN_EXE_tracegate")).args(["demo", "--config", "mine.yaml"]).output();
    let output = output.expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("tracegate --config FILE"));
}
