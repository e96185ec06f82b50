//! `bearertokenauth`: a token in a header, asked of senders or shown to backends.

use super::backend::BackendHeaders;
use super::shared::{Shared, View, read_file};
use super::{Denied, are_equal};
use crate::config::checked::{BearerTokenSettings, TokenSource};
use http::{HeaderName, HeaderValue};

/// The tokens of one extension, each as a whole header value.
#[derive(Debug)]
pub(super) struct Bearer {
    header: HeaderName,
    values: Shared<Vec<HeaderValue>>,
}

/// One shard's look at them, for senders.
#[derive(Debug)]
pub struct BearerCheck {
    header: HeaderName,
    values: View<Vec<HeaderValue>>,
}

impl Bearer {
    /// Reads the tokens. The error names the file.
    pub(super) fn new(settings: &BearerTokenSettings) -> Result<Bearer, String> {
        let header =
            HeaderName::from_bytes(settings.header.as_bytes()).expect("a checked configuration has sound names");
        let scheme = settings.scheme.clone();
        let values = match &settings.tokens {
            TokenSource::Inline(tokens) => {
                let tokens = tokens.iter().map(|token| value_of(&scheme, token.reveal()));
                Shared::fixed(tokens.collect::<Result<_, _>>()?)
            }
            TokenSource::File(path) => {
                let path = path.clone();
                Shared::from_files(move || {
                    let text = read_file(&path)?;
                    // An empty token would let everybody in who sends the scheme alone.
                    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                    let values = lines.map(|line| value_of(&scheme, line)).collect::<Result<Vec<_>, _>>();
                    let values = values.map_err(|error| format!("{}: {error}", path.display()))?;
                    match values.is_empty() {
                        true => Err(format!("{} holds no token; write one a line", path.display())),
                        false => Ok(values),
                    }
                })?
            }
        };
        Ok(Bearer { header, values })
    }

    pub(super) fn has_files(&self) -> bool {
        self.values.can_change()
    }

    pub(super) fn read_again(&self) -> Result<bool, String> {
        self.values.read_again()
    }

    pub(super) fn check(&self) -> BearerCheck {
        BearerCheck { header: self.header.clone(), values: self.values.view() }
    }

    /// Backends are shown the first token.
    pub(super) fn show(&self) -> BackendHeaders {
        BackendHeaders::first_of(self.header.clone(), self.values.view())
    }
}

fn value_of(scheme: &str, token: &str) -> Result<HeaderValue, String> {
    let text = if scheme.is_empty() { token.to_owned() } else { format!("{scheme} {token}") };
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| "a token has a character that no header may have; remove it".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

impl BearerCheck {
    /// The header that holds the token, in small letters.
    pub fn header(&self) -> &str {
        self.header.as_str()
    }

    /// Whether one of the tokens was shown.
    pub fn check(&self, shown: Option<&[u8]>) -> Result<(), Denied> {
        let Some(shown) = shown.filter(|shown| !shown.is_empty()) else {
            let header = &self.header;
            return Err(Denied::Credential(format!("missing or empty authorization header: {header}")));
        };
        // All are looked at, so that the time does not say which one matched.
        let (values, _) = self.values.latest();
        let matching = values.iter().filter(|value| are_equal(value.as_bytes(), shown)).count();
        match matching {
            0 => Err(Denied::Credential("scheme or token does not match".to_owned())),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::Secret;

    fn settings(tokens: TokenSource) -> BearerTokenSettings {
        BearerTokenSettings { header: "authorization".into(), scheme: "Bearer".into(), tokens }
    }

    fn inline(tokens: &[&str]) -> TokenSource {
        TokenSource::Inline(tokens.iter().map(|token| Secret::new(*token)).collect())
    }

    #[test]
    fn any_of_the_tokens_lets_in_and_nothing_else_does() {
        let check = Bearer::new(&settings(inline(&["one", "two"]))).unwrap().check();
        for good in ["Bearer one", "Bearer two"] {
            assert_eq!(check.check(Some(good.as_bytes())), Ok(()));
        }
        for bad in ["Bearer", "Bearer ", "one", "bearer one", "Bearer one ", "Bearer onetwo", "Basic one"] {
            let Err(Denied::Credential(said)) = check.check(Some(bad.as_bytes())) else { panic!("{bad}") };
            assert!(!said.contains("one"), "{said}");
        }
        assert!(check.check(None).is_err());
    }

    #[test]
    fn without_a_scheme_the_token_stands_alone() {
        let settings =
            BearerTokenSettings { scheme: String::new(), header: "x-key".into(), ..settings(inline(&["k"])) };
        let check = Bearer::new(&settings).unwrap().check();
        assert_eq!((check.header(), check.check(Some(b"k"))), ("x-key", Ok(())));
    }

    #[test]
    fn a_changed_file_is_in_force_when_it_was_read_again_and_a_broken_one_changes_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        write("");
        let settings = settings(TokenSource::File(file.path().to_owned()));
        assert!(Bearer::new(&settings).unwrap_err().contains("holds no token"));
        write(" old \n\nolder\n");
        let bearer = Bearer::new(&settings).unwrap();
        let check = bearer.check();
        assert_eq!(check.check(Some(b"Bearer older")), Ok(()));
        assert!(check.check(Some(b"Bearer ")).is_err());
        assert_eq!(bearer.read_again(), Ok(false));
        write("new\n");
        assert_eq!(bearer.read_again(), Ok(true));
        assert_eq!(check.check(Some(b"Bearer new")), Ok(()));
        assert!(check.check(Some(b"Bearer old")).is_err());
        write("\n");
        assert!(bearer.read_again().is_err());
        assert_eq!(check.check(Some(b"Bearer new")), Ok(()));
    }

    #[test]
    fn secrets_are_not_in_debug_output() {
        let settings = settings(inline(&["hidden"]));
        let bearer = Bearer::new(&settings).unwrap();
        assert!(!format!("{settings:?} {bearer:?} {:?}", bearer.check()).contains("hidden"));
    }
}
