//! One thing that was looked at: what was expected, what was found, and what to do.
//!
//! The idea: every check ends in the same sentence, so that people and programs read one form. Pure: findings in, text
//! out.

use std::fmt::Write as _;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but less well than it could, or not for long.
    Warning,
    /// It does not work, or spans are lost.
    Problem,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at: `io_uring`, `exporter otlp/tempo`, `receiver otlp (grpc)`.
    pub place: String,
    /// What would be fine; empty if it is.
    pub expected: String,
    /// What is.
    pub found: String,
    /// What to change; empty if nothing.
    pub remedy: String,
}

impl Finding {
    /// A check that found nothing wrong.
    pub fn ok(place: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding {
            level: Level::Ok,
            place: place.into(),
            expected: String::new(),
            found: found.into(),
            remedy: String::new(),
        }
    }

    /// What was expected, found, and what to do.
    pub fn new(level: Level, place: impl Into<String>, [expected, found, remedy]: [String; 3]) -> Finding {
        Finding { level, place: place.into(), expected, found, remedy }
    }
}

/// What a whole examination says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// The worst finding.
    pub level: Level,
    /// What to do first, in a sentence.
    pub conclusion: String,
    /// In the order in which they were looked at.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// Of these findings, with what to do first.
    pub fn new(findings: Vec<Finding>, conclusion: String) -> Examination {
        let level = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
        Examination { level, conclusion, findings }
    }

    /// 1 if there is a problem: what only could be better is no reason to fail a deployment.
    pub fn exit_code(&self) -> u8 {
        u8::from(self.level == Level::Problem)
    }

    /// For people: what is fine in a line, what is not in four.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let Finding { level, place, expected, found, remedy } = finding;
            if *level == Level::Ok {
                let _ = writeln!(text, "{:8} {place}: {found}", level.word());
                continue;
            }
            let _ = writeln!(text, "{:8} {place}", level.word());
            for (word, said) in [("expected", expected), ("found", found), ("do", remedy)] {
                if !said.is_empty() {
                    let _ = writeln!(text, "         {word:8}  {said}");
                }
            }
        }
        let count = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        let (problems, warnings, fine) = (count(Level::Problem), count(Level::Warning), count(Level::Ok));
        let _ = writeln!(text, "\nproblems: {problems}, warnings: {warnings}, ok: {fine}. {}", self.conclusion);
        text
    }

    /// For programs.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("strings and lists of them are always JSON");
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning() -> Finding {
        let said = ["a", "b", "c"].map(str::to_owned);
        Finding::new(Level::Warning, "open files", said)
    }

    #[test]
    fn only_a_problem_fails() {
        let ok = Finding::ok("kernel", "6.1");
        let fine = Examination::new(vec![ok.clone(), warning()], String::new());
        assert_eq!((fine.level, fine.exit_code()), (Level::Warning, 0));
        let problem = Finding { level: Level::Problem, ..warning() };
        assert_eq!(Examination::new(vec![problem, ok], String::new()).exit_code(), 1);
        assert_eq!(Examination::new(Vec::new(), String::new()).exit_code(), 0);
    }

    #[test]
    fn what_is_fine_takes_a_line_and_what_is_not_says_what_to_do() {
        let examination = Examination::new(vec![Finding::ok("kernel", "6.1"), warning()], "Done.".into());
        assert_eq!(
            examination.text(),
            "ok       kernel: 6.1\nwarning  open files\n         expected  a\n         found     b\n         do        \
             c\n\nproblems: 0, warnings: 1, ok: 1. Done.\n"
        );
        let json: serde_json::Value = serde_json::from_str(&examination.json()).unwrap();
        assert_eq!(json["level"], "warning");
        assert_eq!(json["findings"][1]["remedy"], "c");
    }
}
