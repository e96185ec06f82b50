//! `extensions.bearertokenauth`: a token that senders have to show, or that backends are shown.

use std::path::PathBuf;

use crate::config::checked::{AuthenticatorKind, BearerTokenSettings, Secret, TokenSource};
use crate::config::section::{Field, Section};

const HEADER: &str = "authorization";
const SCHEME: &str = "Bearer";
/// Every request is compared with each.
const TOKENS_MAX: usize = 256;

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<AuthenticatorKind> {
    let section = field.section()?;
    let header = section.field("header").and_then(|field| header(&field)).unwrap_or_else(|| HEADER.to_owned());
    // An empty scheme is one: the token then stands alone.
    let scheme = section.field("scheme").filter(|field| !field.node.is_null()).and_then(|field| field.text());
    let scheme = scheme.unwrap_or_else(|| SCHEME.to_owned());
    let tokens = tokens(&section)?;
    if let Some(field) = section.field("scheme")
        && http::HeaderValue::from_str(&scheme).is_err()
    {
        field.error("the scheme has a character that no header may have", "write a word such as `Bearer`");
        return None;
    }
    Some(AuthenticatorKind::BearerToken(BearerTokenSettings { header, scheme, tokens }))
}

fn header(field: &Field<'_>) -> Option<String> {
    let text = field.text().filter(|text| !text.is_empty())?;
    if http::HeaderName::from_bytes(text.as_bytes()).is_err() {
        field.expected("the name of a header", "write a name such as `authorization` or `x-api-key`");
        return None;
    }
    Some(text.to_ascii_lowercase())
}

fn tokens(section: &Section<'_>) -> Option<TokenSource> {
    let one = section.field("token").filter(|field| !field.node.is_null());
    let many = section.field("tokens").filter(|field| !field.node.is_null());
    let file = section.text("filename");
    if let (Some(field), Some(_)) = (&one, &many) {
        field.error("both `token` and `tokens` are given", "put all of them into `tokens`");
        return None;
    }
    if let Some(path) = file {
        for field in [&one, &many].into_iter().flatten() {
            field.warning("has no effect beside `filename`: the file's tokens are used", "remove it");
        }
        return Some(TokenSource::File(PathBuf::from(path)));
    }
    let fields = one.into_iter().chain(many.iter().flat_map(|field| field.items()));
    let mut tokens = Vec::new();
    for field in fields {
        let text = field.text()?;
        if text.is_empty() || http::HeaderValue::from_str(&text).is_err() {
            let message = if text.is_empty() {
                "the token is empty"
            } else {
                "the token has a character that no header may have"
            };
            field.error(message, "write the token, as in `token: ${env:TOKEN}`");
            return None;
        }
        tokens.push(Secret::new(text));
    }
    if tokens.is_empty() {
        section.error("there is no token", "add `token: ${env:TOKEN}`, a list `tokens:`, or `filename:`");
        return None;
    }
    if tokens.len() > TOKENS_MAX {
        section.error(format!("more than {TOKENS_MAX} tokens"), "remove those that nobody uses");
        return None;
    }
    Some(TokenSource::Inline(tokens))
}
