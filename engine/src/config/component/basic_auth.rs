//! `extensions.basicauth`: users and passwords that senders have to show (`htpasswd`), or the one that backends are
//! shown (`client_auth`).

use std::path::PathBuf;

use crate::auth::htpasswd;
use crate::config::checked::{AuthenticatorKind, BasicClientSettings, HtpasswdSettings, Secret, SecretSource};
use crate::config::section::{Field, Idle, Section};

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<AuthenticatorKind> {
    let section = field.section()?;
    let server = section.field("htpasswd").filter(|field| !field.node.is_null());
    let client = section.field("client_auth").filter(|field| !field.node.is_null());
    match (server, client) {
        (Some(server), None) => htpasswd(&server),
        (None, Some(client)) => client_auth(&client),
        (Some(_), Some(client)) => {
            client.error(
                "both `htpasswd` and `client_auth` are given",
                "define two extensions: `basicauth/server` and `basicauth/client`",
            );
            None
        }
        (None, None) => {
            section.error(
                "there are no credentials",
                "add `htpasswd: {file: path}` for a receiver, or `client_auth: {username: name, password: text}` for an \
                 exporter",
            );
            None
        }
    }
}

fn htpasswd(field: &Field<'_>) -> Option<AuthenticatorKind> {
    let section = field.section()?;
    let file = section.text("file").map(PathBuf::from);
    let written = section.field("inline");
    let inline = written.as_ref().and_then(|field| field.text()).filter(|text| !text.is_empty());
    if file.is_none() && inline.is_none() {
        field.error("there are no users", "add `file:` with the path of an htpasswd file, or `inline:` with its text");
        return None;
    }
    if let (Some(field), Some(text)) = (&written, &inline)
        && let Err(problem) = htpasswd::Users::read(text)
    {
        field.error(problem, "make entries with `htpasswd -nB NAME` (bcrypt)");
        return None;
    }
    Some(AuthenticatorKind::BasicServer(HtpasswdSettings { file, inline: inline.map(Secret::new) }))
}

fn client_auth(field: &Field<'_>) -> Option<AuthenticatorKind> {
    let section = field.section()?;
    section.unsupported(
        "aws_secrets_manager",
        Idle::Zero,
        "passwords from AWS Secrets Manager",
        "mount the secret as a file and name it in `password_file`",
    );
    let username = secret(&section, "username", "username_file");
    let password = secret(&section, "password", "password_file");
    if let (SecretSource::Inline(name), Some(field)) = (&username, section.field("username"))
        && name.reveal().contains(':')
    {
        field.error("a user name has no colon: it ends there in the header", "remove the colon");
        return None;
    }
    Some(AuthenticatorKind::BasicClient(BasicClientSettings { username, password }))
}

/// The file wins, as in the Collector.
fn secret(section: &Section<'_>, text_key: &'static str, file_key: &'static str) -> SecretSource {
    let text = section.text(text_key);
    match section.text(file_key) {
        Some(path) => {
            if text.is_some()
                && let Some(field) = section.field(text_key)
            {
                field.warning(format!("has no effect beside `{file_key}`"), "remove it");
            }
            SecretSource::File(PathBuf::from(path))
        }
        None => SecretSource::Inline(Secret::new(text.unwrap_or_default())),
    }
}
