//! Values of actions and statements that come from a request's sender, and the chance that statements are given.

use crate::config::checked::ContextSource;
use crate::pipeline::client::Client;
use ottl::{Ask, Chance, Environment, Sender};

/// Puts into `values` what `sources` name, as texts; several values of a header have `;` between them, as in the Collector.
pub(super) fn fill_in(values: &mut Vec<Option<String>>, sources: &[ContextSource], client: Option<&Client>) {
    values.clear();
    values.extend(sources.iter().map(|source| value_of(source, client)));
}

fn value_of(source: &ContextSource, client: Option<&Client>) -> Option<String> {
    match source {
        ContextSource::Metadata(key) => {
            let values = client?.metadata(key);
            let texts: Vec<_> = values.iter().map(|value| String::from_utf8_lossy(value)).collect();
            (!texts.is_empty()).then(|| texts.join(";"))
        }
        ContextSource::Auth(name) => client?.auth(name).map(str::to_owned),
        ContextSource::Address => client?.address().map(|address| address.to_string()),
    }
}

/// What statements and conditions see beside their item; each processor on each shard has one, with chance of its own.
pub(super) fn environment() -> Environment {
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).expect("the system has random numbers");
    Environment { chance: Chance::of(seed), ..Environment::default() }
}

/// Fills in what statements ask of the sender of a batch.
pub(super) fn tell_sender(sender: &mut Sender, asks: &[Ask], client: Option<&Client>) {
    if asks.is_empty() {
        return;
    }
    *sender = Sender::default();
    let Some(client) = client else { return };
    for ask in asks {
        match ask {
            Ask::Metadata(key) => {
                let values = client.metadata(key);
                if !values.is_empty() {
                    sender.metadata.push((key.clone(), values.iter().map(|value| value.to_vec()).collect()));
                }
            }
            Ask::Auth(name) => sender.auth.extend(client.auth(name).map(|value| (name.clone(), value.to_owned()))),
            Ask::Address => sender.address = client.address().map(|address| address.to_string()),
        }
    }
}

/// What the statements and conditions of a processor ask, each once.
pub(super) fn asked<'a>(all: impl Iterator<Item = &'a [Ask]>) -> Vec<Ask> {
    let mut asks: Vec<Ask> = Vec::new();
    for ask in all.flatten() {
        if !asks.contains(ask) {
            asks.push(ask.clone());
        }
    }
    asks
}
