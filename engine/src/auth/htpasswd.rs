//! htpasswd texts: users and what their passwords hash to.
//!
//! Kinds of hashes: bcrypt (`$2y$`, `$2a$`, `$2b$`), `{SHA}`, `{SSHA}`, and the password itself. Apache's MD5 (`$apr1$`)
//! and the crypt kinds (`$1$`, `$5$`, `$6$`) are refused by name. Pure: never reads a file, never prints a hash.

use super::are_equal;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN, digest};
use codecs::grpc::base64;
use std::collections::HashMap;

/// Most users of one extension.
const USERS_MAX: usize = 10_000;
/// Costliest bcrypt hash: each step doubles the time, and 2^16 rounds take seconds.
const BCRYPT_COST_MAX: u32 = 16;

/// Users by name.
#[derive(Default, PartialEq, Eq)]
pub struct Users(HashMap<String, Password>);

// Hashes are secrets: they can be guessed at leisure.
impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} users", self.0.len())
    }
}

/// What is known of a password.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// Itself.
    Plain(String),
    /// SHA-1 of it and of the salt behind it.
    Sha1 {
        /// The hash.
        hash: [u8; SHA1_OUTPUT_LEN],
        /// Empty for `{SHA}`.
        salt: Vec<u8>,
    },
    /// bcrypt, which takes long on purpose.
    Bcrypt(String),
}

impl Users {
    /// Reads lines `name:hash`; later ones win. The error names the line and the user, never the hash.
    pub fn read(text: &str) -> Result<Users, String> {
        let mut users = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = format!("line {}", number + 1);
            let (name, password) =
                line.split_once(':').ok_or_else(|| format!("{place}: expected `name:hash`, found no colon"))?;
            let password = Password::read(password).map_err(|problem| format!("{place}, user {name:?}: {problem}"))?;
            users.insert(name.to_owned(), password);
        }
        match users.len() {
            0 => Err("there is no user in it".to_owned()),
            count if count > USERS_MAX => Err(format!("{count} users are more than {USERS_MAX}")),
            _ => Ok(Users(users)),
        }
    }

    /// What is known of this user's password.
    pub fn password(&self, name: &str) -> Option<&Password> {
        self.0.get(name)
    }
}

impl Password {
    fn read(text: &str) -> Result<Password, String> {
        for (prefix, kind) in [("$apr1$", "Apache's MD5"), ("$1$", "MD5"), ("$5$", "SHA-256"), ("$6$", "SHA-512")] {
            if text.starts_with(prefix) {
                return Err(format!("hashes of the kind {kind} (`{prefix}`) are not built yet"));
            }
        }
        if let Some(hash) = text.strip_prefix("{SHA}") {
            let hash = base64::decode(hash.as_bytes()).and_then(|bytes| bytes.try_into().ok());
            let hash = hash.ok_or_else(|| "expected 20 bytes in base64 behind `{SHA}`".to_owned())?;
            return Ok(Password::Sha1 { hash, salt: Vec::new() });
        }
        if let Some(hash) = text.strip_prefix("{SSHA}") {
            let bytes = base64::decode(hash.as_bytes()).unwrap_or_default();
            let parts = bytes.split_first_chunk().map(|(hash, salt)| (*hash, salt.to_vec()));
            let (hash, salt) =
                parts.ok_or_else(|| "expected 20 bytes and a salt in base64 behind `{SSHA}`".to_owned())?;
            return Ok(Password::Sha1 { hash, salt });
        }
        if text.starts_with("$2") {
            let parts: Result<bcrypt::HashParts, _> = text.parse();
            let parts = parts.map_err(|_| "expected a whole bcrypt hash behind `$2`".to_owned())?;
            let cost = parts.get_cost();
            if cost > BCRYPT_COST_MAX {
                return Err(format!(
                    "a bcrypt cost of {cost} is above {BCRYPT_COST_MAX}, and would take seconds to check"
                ));
            }
            return Ok(Password::Bcrypt(text.to_owned()));
        }
        Ok(Password::Plain(text.to_owned()))
    }

    /// Whether this is the password. Takes up to seconds for bcrypt.
    pub fn is(&self, password: &str) -> bool {
        match self {
            Password::Plain(known) => are_equal(known.as_bytes(), password.as_bytes()),
            Password::Sha1 { hash, salt } => {
                let salted = [password.as_bytes(), salt].concat();
                are_equal(digest(&SHA1_FOR_LEGACY_USE_ONLY, &salted).as_ref(), hash)
            }
            Password::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of "secret", made by Apache's htpasswd and by slappasswd.
    const SHA: &str = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=";

    #[test]
    fn each_kind_of_hash_knows_its_password() {
        let bcrypt = bcrypt::hash("secret", 4).unwrap();
        let salted = [digest(&SHA1_FOR_LEGACY_USE_ONLY, b"secretsalt").as_ref(), b"salt"].concat();
        let ssha = format!("{{SSHA}}{}", base64::encode(&salted));
        for hash in [bcrypt.as_str(), &bcrypt.replace("$2b$", "$2y$"), SHA, &ssha, "secret"] {
            let users = Users::read(&format!("# people\n\n ann:{hash} \n")).unwrap();
            let ann = users.password("ann").unwrap();
            assert!(ann.is("secret"), "{hash}");
            for wrong in ["", "Secret", "secret ", "secretsalt"] {
                assert!(!ann.is(wrong), "{hash} {wrong}");
            }
            assert!(users.password("bob").is_none());
        }
    }

    #[test]
    fn the_last_line_of_a_user_wins() {
        let users = Users::read("ann:one\nann:two").unwrap();
        assert!(users.password("ann").unwrap().is("two"));
    }

    #[test]
    fn what_cannot_be_checked_is_refused_with_line_and_user_but_without_the_hash() {
        let wrong = [
            ("", "no user"),
            ("ann", "line 1: expected `name:hash`"),
            ("a:b\nann:$apr1$abc$hidden", "line 2, user \"ann\": hashes of the kind Apache's MD5"),
            ("ann:$6$hidden", "SHA-512"),
            ("ann:{SHA}hidden", "20 bytes"),
            ("ann:{SSHA}hidden", "salt"),
            ("ann:$2y$hidden", "whole bcrypt hash"),
        ];
        for (text, said) in wrong {
            let error = Users::read(text).unwrap_err();
            assert!(error.contains(said) && !error.contains("hidden"), "{error}");
        }
        let costly = bcrypt::hash("x", 4).unwrap().replacen("$04$", "$17$", 1);
        assert!(Users::read(&format!("ann:{costly}")).unwrap_err().contains("above 16"));
    }

    #[test]
    fn no_line_panics() {
        proptest::proptest!(|(text in "(ann|:|\\$2y\\$|\\{SHA\\}|\\{SSHA\\}|[ -~]|\\n){0,20}")| {
            if let Ok(users) = Users::read(&text) {
                users.password("ann");
            }
        });
    }
}
