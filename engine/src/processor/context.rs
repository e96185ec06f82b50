//! Values of actions that come from a request's sender.

use crate::config::checked::ContextSource;
use crate::pipeline::client::Client;

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
