//! A Prometheus text page (format 0.0.4) -> its samples: what another program says about itself.
//!
//! The idea: a page is somebody else's, so it is bounded, and the first line that is no sample is an error that shows the
//! line; a web page that is no metrics page must not look like a gateway at rest. Comments are skipped, timestamps are
//! read and dropped. Pure: text in, samples out.

/// Most samples of one page. A large Collector has some thousand.
const SAMPLES_MAX: usize = 500_000;
/// Bytes of a wrong line that a message repeats.
const SHOWN_BYTES_MAX: usize = 80;

/// One line of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name with all its suffixes.
    pub name: String,
    /// In the order of the page.
    pub labels: Vec<(String, String)>,
    /// May be NaN or infinite.
    pub value: f64,
}

/// Reads a page. The error names the first line that is no sample.
pub fn parse(page: &str) -> Result<Vec<Sample>, String> {
    let mut samples = Vec::new();
    for (number, line) in page.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if samples.len() == SAMPLES_MAX {
            return Err(format!("it has more than {SAMPLES_MAX} samples"));
        }
        let sample = sample(line).ok_or_else(|| {
            let shown: String = line.chars().take(SHOWN_BYTES_MAX).collect();
            format!("line {} is no sample of a metric: {shown:?}", number + 1)
        })?;
        samples.push(sample);
    }
    Ok(samples)
}

fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(|character: char| !is_name(character))?;
    let (name, rest) = line.split_at(name_end);
    if !name.starts_with(|first: char| first.is_ascii_alphabetic() || "_:".contains(first)) {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words.next()?.parse().ok()?;
    // A timestamp in milliseconds may follow, and nothing else.
    let stamped = words.next().is_none_or(|stamp| stamp.parse::<i64>().is_ok());
    (stamped && words.next().is_none()).then(|| Sample { name: name.to_owned(), labels, value })
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_:".contains(character)
}

/// Labels up to and with the closing brace, and what follows it.
fn labels(mut text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once('=')?;
        let (value, rest) = quoted(rest.trim_start())?;
        labels.push((name.trim().to_owned(), value));
        text = rest.trim_start();
        // A comma may stand behind the last label too.
        text = match text.strip_prefix(',') {
            Some(rest) => rest,
            None if text.starts_with('}') => text,
            None => return None,
        };
    }
}

/// Text in quotes with `\\`, `\"` and `\n` undone, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.strip_prefix('"')?.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            // One quote was taken before the first index.
            '"' => return Some((value, &text[at + 2..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_escapes_timestamps_and_comments_are_read() {
        let page = "# HELP a Help.\n# TYPE a counter\na 1\n\nb{x=\"1\",y=\"a \\\"q\\\" \\\\ \\n}, é\",} 2.5e3 1700000000000\nc{} NaN\n\
                    d_bucket{le=\"+Inf\"} +Inf\n";
        let samples = parse(page).unwrap();
        let names: Vec<&str> = samples.iter().map(|sample| sample.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d_bucket"]);
        assert_eq!(samples[1].labels[1], ("y".to_owned(), "a \"q\" \\ \n}, é".to_owned()));
        assert_eq!(samples[1].value, 2500.0);
        assert!(samples[2].value.is_nan() && samples[3].value.is_infinite());
    }

    #[test]
    fn what_is_no_metrics_page_says_which_line() {
        for wrong in ["<html>", "a", "a b", "a{x=1} 2", "a{x=\"1} 2", "a{x=\"1\"y=\"2\"} 2", "a 1 2 3", "1a 2", "a 1 x"]
        {
            let error = parse(&format!("fine 1\n{wrong}\n")).unwrap_err();
            assert!(error.starts_with("line 2 "), "{error}");
        }
    }

    #[test]
    fn our_own_page_is_read() {
        let samples = parse(include_str!("golden/exposition.txt")).unwrap();
        assert!(samples.iter().any(|sample| sample.name == "otelcol_receiver_accepted_spans" && sample.value == 100.0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_panics(text in "[a{}=\"\\\\,\\n 1e#é+-]{0,60}|\\PC{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn any_label_value_survives(value in "\\PC{0,20}") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            let samples = parse(&format!("a{{x=\"{escaped}\"}} 1")).unwrap();
            prop_assert_eq!(&samples[0].labels[0].1, &value);
        }
    }
}
