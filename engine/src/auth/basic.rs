//! `basicauth`: a user and a password, asked of senders (htpasswd) or shown to backends.
//!
//! A password that takes long to check is checked once per shard: a keyed hash of what was right is remembered until the
//! users change.

use super::backend::BackendHeaders;
use super::htpasswd::{Password, Users};
use super::shared::{Shared, View, read_file};
use super::verifier::Verifier;
use super::{Denied, Identity};
use crate::config::checked::{BasicClientSettings, HtpasswdSettings, SecretSource};
use aws_lc_rs::hmac;
use codecs::grpc::base64;
use http::HeaderValue;
use std::cell::RefCell;
use std::collections::HashSet;

/// Right credentials remembered on each shard; all are forgotten beyond it.
const REMEMBERED_MAX: usize = 4096;

/// `Basic ` and the credentials in base64 (RFC 7617).
pub(crate) fn credentials(username: &str, password: &str) -> String {
    let mut encoded = base64::encode(format!("{username}:{password}").as_bytes());
    while !encoded.len().is_multiple_of(4) {
        encoded.push('=');
    }
    format!("Basic {encoded}")
}

/// The users of one extension.
#[derive(Debug)]
pub(super) struct BasicServer {
    users: Shared<Users>,
    verifier: Verifier,
}

impl BasicServer {
    /// Reads the users. The error names the file, the line and the user.
    pub(super) fn new(settings: &HtpasswdSettings) -> Result<BasicServer, String> {
        let inline = settings.inline.clone();
        let text_of = move || inline.as_ref().map_or("", |inline| inline.reveal()).to_owned();
        let users = match settings.file.clone() {
            None => Shared::fixed(Users::read(&text_of())?),
            Some(path) => Shared::from_files(move || {
                // Inline users come last, and so win.
                let text = format!("{}\n{}", read_file(&path)?, text_of());
                Users::read(&text)
                    .map_err(|error| format!("{}: {error}; make entries with `htpasswd -nB NAME`", path.display()))
            })?,
        };
        Ok(BasicServer { users, verifier: Verifier::start()? })
    }

    pub(super) fn has_files(&self) -> bool {
        self.users.can_change()
    }

    pub(super) fn read_again(&self) -> Result<bool, String> {
        self.users.read_again()
    }

    pub(super) fn check(&self) -> BasicCheck {
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).expect("the system has random numbers");
        BasicCheck {
            users: self.users.view(),
            verifier: self.verifier.clone(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &seed),
            remembered: RefCell::default(),
        }
    }
}

/// One shard's look at the users.
#[derive(Debug)]
pub struct BasicCheck {
    users: View<Users>,
    verifier: Verifier,
    key: hmac::Key,
    remembered: RefCell<Remembered>,
}

/// Keyed hashes of credentials that were right.
#[derive(Debug, Default)]
struct Remembered {
    /// Which users they belong to: how often those had been replaced.
    replacements: u64,
    right: HashSet<[u8; 32]>,
}

impl BasicCheck {
    /// Whether the header names a user with the right password.
    pub async fn check(&self, shown: Option<&[u8]>) -> Result<Identity, Denied> {
        let denied = |why: &str| Denied::Credential(why.to_owned());
        let shown = shown.filter(|shown| !shown.is_empty()).ok_or_else(|| denied("no basic auth provided"))?;
        let (scheme, encoded) = shown.split_at_checked(6).unwrap_or((shown, b""));
        if !scheme.eq_ignore_ascii_case(b"Basic ") {
            return Err(denied("invalid authorization scheme prefix"));
        }
        let decoded = base64::decode(encoded).and_then(|bytes| String::from_utf8(bytes).ok());
        let (name, password) = decoded
            .as_deref()
            .and_then(|text| text.split_once(':'))
            .ok_or_else(|| denied("invalid authorization format"))?;
        if !self.is_right(name, password).await? {
            return Err(denied("invalid credentials"));
        }
        let raw = String::from_utf8_lossy(encoded).into_owned();
        Ok(Identity { username: Some(name.to_owned()), raw: Some(raw) })
    }

    async fn is_right(&self, name: &str, password: &str) -> Result<bool, Denied> {
        let (users, replacements) = self.users.latest();
        let Some(known) = users.password(name) else { return Ok(false) };
        let Password::Bcrypt(_) = known else { return Ok(known.is(password)) };
        let tag = hmac::sign(&self.key, format!("{name}:{password}").as_bytes());
        let tag: [u8; 32] = tag.as_ref().try_into().expect("HMAC with SHA-256 has 32 bytes");
        if self.remembered.borrow_mut().knows(replacements, &tag) {
            return Ok(true);
        }
        let right = self.verifier.check(known, password).await.ok_or(Denied::Busy)?;
        if right {
            self.remembered.borrow_mut().remember(replacements, tag);
        }
        Ok(right)
    }
}

impl Remembered {
    fn knows(&mut self, replacements: u64, tag: &[u8; 32]) -> bool {
        if self.replacements != replacements {
            self.right.clear();
            self.replacements = replacements;
        }
        self.right.contains(tag)
    }

    /// Users may have been replaced while the password was checked: then the answer was about the old ones.
    fn remember(&mut self, replacements: u64, tag: [u8; 32]) {
        if self.replacements == replacements {
            if self.right.len() >= REMEMBERED_MAX {
                self.right.clear();
            }
            self.right.insert(tag);
        }
    }
}

/// The user that backends are shown.
#[derive(Debug)]
pub(super) struct BasicClient {
    value: Shared<Vec<HeaderValue>>,
}

impl BasicClient {
    /// Reads user and password. The error names the file.
    pub(super) fn new(settings: &BasicClientSettings) -> Result<BasicClient, String> {
        let BasicClientSettings { username, password } = settings.clone();
        let is_fixed = matches!((&username, &password), (SecretSource::Inline(_), SecretSource::Inline(_)));
        let read = move || {
            let username = text_of(&username)?;
            if username.contains(':') {
                return Err("a user name has no colon: it ends there in the header".to_owned());
            }
            let mut value =
                HeaderValue::from_str(&credentials(&username, &text_of(&password)?)).expect("base64 is ASCII");
            value.set_sensitive(true);
            Ok(vec![value])
        };
        let value = if is_fixed { Shared::fixed(read()?) } else { Shared::from_files(read)? };
        Ok(BasicClient { value })
    }

    pub(super) fn has_files(&self) -> bool {
        self.value.can_change()
    }

    pub(super) fn read_again(&self) -> Result<bool, String> {
        self.value.read_again()
    }

    pub(super) fn show(&self) -> BackendHeaders {
        BackendHeaders::first_of(http::header::AUTHORIZATION, self.value.view())
    }
}

fn text_of(source: &SecretSource) -> Result<String, String> {
    match source {
        SecretSource::Inline(text) => Ok(text.reveal().to_owned()),
        SecretSource::File(path) => read_file(path).map(|text| text.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::Secret;
    use crate::shard::runtime::{Runtime, run};

    fn server(users: &str) -> BasicServer {
        BasicServer::new(&HtpasswdSettings { file: None, inline: Some(Secret::new(users)) }).unwrap()
    }

    fn check(users: &'static str, shown: Option<&'static str>, expected: Result<&'static str, &'static str>) {
        run(Runtime::Epoll, None, async move {
            let found = server(users).check().check(shown.map(str::as_bytes)).await;
            let found = found.map(|identity| identity.username.unwrap());
            let expected = expected.map(str::to_owned).map_err(|why| Denied::Credential(why.to_owned()));
            assert_eq!(found, expected, "{shown:?}");
        })
        .unwrap();
    }

    #[test]
    fn a_user_with_the_right_password_is_let_in_and_nobody_else() {
        const USERS: &str = "ann:s:ecret\nbob:x";
        check(USERS, Some("Basic YW5uOnM6ZWNyZXQ="), Ok("ann"));
        check(USERS, Some("basic YW5uOnM6ZWNyZXQ="), Ok("ann"));
        // bob with ann's, eve, no colon
        check(USERS, Some("Basic Ym9iOnM6ZWNyZXQ="), Err("invalid credentials"));
        check(USERS, Some("Basic ZXZlOng="), Err("invalid credentials"));
        check(USERS, Some("Basic YW5u"), Err("invalid authorization format"));
        check(USERS, Some("Basic !"), Err("invalid authorization format"));
        check(USERS, Some("Bearer x"), Err("invalid authorization scheme prefix"));
        check(USERS, Some("Bas"), Err("invalid authorization scheme prefix"));
        check(USERS, None, Err("no basic auth provided"));
    }

    #[test]
    fn a_slow_password_is_checked_beside_the_shard_and_remembered() {
        run(Runtime::Epoll, None, async {
            let server = server(&format!("ann:{}", bcrypt::hash("secret", 4).unwrap()));
            let check = server.check();
            for _ in 0..2 {
                assert!(check.check(Some(credentials("ann", "secret").as_bytes())).await.is_ok());
                assert!(check.check(Some(credentials("ann", "wrong").as_bytes())).await.is_err());
                assert_eq!(check.remembered.borrow().right.len(), 1, "only what is right is remembered");
            }
        })
        .unwrap();
    }

    #[test]
    fn users_that_were_replaced_are_forgotten() {
        let mut remembered = Remembered::default();
        remembered.remember(0, [1; 32]);
        assert!(remembered.knows(0, &[1; 32]));
        assert!(!remembered.knows(1, &[1; 32]));
        remembered.remember(0, [1; 32]);
        assert!(!remembered.knows(1, &[1; 32]), "an answer about users that are gone");
    }
}
