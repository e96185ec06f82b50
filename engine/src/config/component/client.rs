//! What exporters share: TLS, headers, compression, retry. The queue is in [`super::sending_queue`].

use codecs::compression::Compression;

use super::tls;
use crate::config::checked::{NameSettings, RetrySettings, TlsClientSettings};
use crate::config::section::{Field, Idle, Section};
use crate::config::yaml::Value;

const SECOND_NS: u64 = 1_000_000_000;
const RETRY: RetrySettings = RetrySettings {
    initial_interval_ns: 5 * SECOND_NS,
    randomization_factor: 0.5,
    multiplier: 1.5,
    max_interval_ns: 30 * SECOND_NS,
    max_elapsed_ns: 300 * SECOND_NS,
};
/// Most headers of one exporter.
const HEADERS_MAX: usize = 128;

/// `retry_on_failure`; `None` if it is disabled.
pub(crate) fn retry(exporter: &Section<'_>) -> Option<RetrySettings> {
    retry_from(exporter, RETRY.initial_interval_ns)
}

/// [`retry`] with another first delay where none is written.
pub(crate) fn retry_from(exporter: &Section<'_>, initial_interval_ns: u64) -> Option<RetrySettings> {
    let section = exporter.section_or_empty("retry_on_failure");
    let enabled = section.boolean("enabled", true);
    let retry = RetrySettings {
        initial_interval_ns: section.duration_ns("initial_interval", initial_interval_ns),
        randomization_factor: section.float("randomization_factor", RETRY.randomization_factor),
        multiplier: section.float("multiplier", RETRY.multiplier),
        max_interval_ns: section.duration_ns("max_interval", RETRY.max_interval_ns),
        max_elapsed_ns: section.duration_ns("max_elapsed_time", RETRY.max_elapsed_ns),
    };
    if !enabled {
        return None;
    }
    if !(0.0..=1.0).contains(&retry.randomization_factor)
        && let Some(field) = section.field("randomization_factor")
    {
        field.error("the random share of a delay is from 0 to 1", "write a number such as `0.5`");
    }
    if retry.multiplier < 1.0
        && let Some(field) = section.field("multiplier")
    {
        field.warning("delays would shrink; counts as 1", "write 1 or more");
    }
    let elapsed = retry.max_elapsed_ns;
    if elapsed > 0 && (elapsed < retry.initial_interval_ns || elapsed < retry.max_interval_ns) {
        let message = "gives up before the longest delay is over";
        let help = "raise it above `initial_interval` and `max_interval`, or write 0 to retry for ever";
        match section.field("max_elapsed_time") {
            Some(field) => field.error(message, help),
            None => section.error(format!("`max_elapsed_time` (300s by default) {message}"), help),
        }
    }
    Some(RetrySettings { multiplier: retry.multiplier.max(1.0), ..retry })
}

/// `resolve_interval`. `balancer_name` is gRPC's alone.
pub(crate) fn names(exporter: &Section<'_>) -> NameSettings {
    let names = NameSettings::default();
    let interval_ns = exporter.duration_ns("resolve_interval", names.interval_ns);
    if (1..SECOND_NS).contains(&interval_ns)
        && let Some(field) = exporter.field("resolve_interval")
    {
        field.error("name servers would be asked more than once a second", "write 1s or more, or 0 for never");
    }
    NameSettings { interval_ns, ..names }
}

/// `headers`: a map, or a list of `{name, value}`.
pub(crate) fn headers(exporter: &Section<'_>) -> Vec<(String, String)> {
    headers_of(exporter, "headers")
}

/// Headers below `key`, as a map or as a list of `name` and `value`.
pub(crate) fn headers_of(section: &Section<'_>, key: &'static str) -> Vec<(String, String)> {
    let Some(field) = section.field(key) else {
        return Vec::new();
    };
    let mut headers: Vec<(String, String)> = Vec::new();
    if let Value::List(_) = field.node.value {
        for item in field.items() {
            let Some(section) = item.section() else {
                continue;
            };
            let name = section.text("name");
            let value = section.field("value");
            match (name, value) {
                (Some(name), Some(value)) => headers.extend(header(&name, &value)),
                _ => item.error("`name` and `value` are needed", "write `- {name: x-scope-orgid, value: team}`"),
            }
        }
    } else if let Some(section) = field.section() {
        for (name, value) in section.entries() {
            headers.extend(header(name, &value));
        }
        section.keys_are_names();
    }
    if headers.len() > HEADERS_MAX {
        field.error(format!("more than {HEADERS_MAX} headers"), "remove some; others refuse messages with that many");
    }
    headers
}

/// One header, checked by the rules of HTTP; names are lower case, as HTTP/2 wants them.
fn header(name: &str, value: &Field<'_>) -> Option<(String, String)> {
    let text = value.text()?;
    let name_is_valid = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
    if !name_is_valid {
        value.report.error(
            &value.key_place,
            &value.path,
            "this cannot be the name of a header",
            "use letters, digits and `-`",
        );
        return None;
    }
    if http::HeaderValue::from_str(&text).is_err() {
        value.error("the value has a character that no header may have", "remove line ends and control characters");
        return None;
    }
    Some((name.to_ascii_lowercase(), text))
}

/// Whether a header belongs to the protocol: nothing configured may set it.
pub(crate) fn is_own_header(name: &str) -> bool {
    crate::transport::client::OWN_HEADERS.contains(&name) || name.starts_with("grpc-")
}

/// What gRPC exporters can compress with; `snappy` is its framing format there.
pub(crate) const GRPC_COMPRESSIONS: [(&str, Compression); 5] = [
    ("gzip", Compression::Gzip),
    ("zstd", Compression::Zstd),
    ("snappy", Compression::SnappyFramed),
    ("none", Compression::None),
    ("", Compression::None),
];
/// What HTTP exporters can compress with.
pub(crate) const HTTP_COMPRESSIONS: [(&str, Compression); 9] = [
    ("gzip", Compression::Gzip),
    ("zstd", Compression::Zstd),
    ("zlib", Compression::Zlib),
    ("deflate", Compression::Deflate),
    ("snappy", Compression::Snappy),
    ("x-snappy-framed", Compression::SnappyFramed),
    ("lz4", Compression::Lz4),
    ("none", Compression::None),
    ("", Compression::None),
];

/// `compression`, one of `known`, and `compression_params.level`.
pub(crate) fn compression(exporter: &Section<'_>, known: &[(&str, Compression)]) -> (Compression, Option<i32>) {
    let written = exporter.field("compression").filter(|field| !field.node.is_null());
    let mut compression = Compression::Gzip;
    if let Some(field) = written
        && let Some(text) = field.text()
    {
        match known.iter().find(|(name, _)| *name == text) {
            Some((_, found)) => compression = *found,
            None => {
                let names: Vec<&str> = known.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
                field.expected(&format!("one of {}", names.join(", ")), "write the word in small letters");
            }
        }
    }
    let level = exporter
        .section("compression_params")
        .and_then(|section| section.field("level").and_then(|field| level(&field, compression)));
    (compression, level)
}

fn level(field: &Field<'_>, compression: Compression) -> Option<i32> {
    let codec = compression.name();
    let range = match compression {
        Compression::None => {
            field.warning("has no effect without compression", "remove it");
            return None;
        }
        Compression::Snappy | Compression::SnappyFramed | Compression::Lz4 => {
            field.warning(format!("has no effect with {codec}, which has no levels"), "remove it");
            return None;
        }
        // 0 and -1 are the Collector's ways to say nothing.
        Compression::Gzip | Compression::Zlib | Compression::Deflate => -1..=9,
        Compression::Zstd => -1..=22,
    };
    let level = field.int(range)?;
    if level <= 0 {
        return None;
    }
    i32::try_from(level).ok().filter(|level| *level > 0).or_else(|| {
        field.expected(&format!("a level of {codec}"), "remove it for the default");
        None
    })
}

/// `tls` of an exporter.
pub(crate) struct Tls {
    pub(crate) settings: TlsClientSettings,
    /// Plain text is asked for, and no CA speaks against it.
    pub(crate) insecure: bool,
}

/// Reads `tls`; defaults where it is absent.
pub(crate) fn tls(exporter: &Section<'_>) -> Tls {
    let section = exporter.section_or_empty("tls");
    let ca = tls::pem(&section, "ca_file", "ca_pem");
    let cert = tls::pem(&section, "cert_file", "cert_pem");
    let key = tls::pem(&section, "key_file", "key_pem");
    match (&cert, &key) {
        (Some(_), None) => {
            section.error("a client certificate is given without its key", "add `key_file` or `key_pem`")
        }
        (None, Some(_)) => section.error("a key is given without its certificate", "add `cert_file` or `cert_pem`"),
        _ => {}
    }
    let insecure = section.boolean("insecure", false);
    if insecure
        && ca.is_some()
        && let Some(field) = section.field("insecure")
    {
        field.warning("has no effect beside a CA: TLS is used", "remove `insecure`, or the CA for plain text");
    }
    let policy = tls::policy(&section);
    Tls {
        insecure: insecure && ca.is_none(),
        settings: TlsClientSettings {
            ca,
            include_system_roots: section.boolean("include_system_ca_certs_pool", false),
            cert,
            key,
            insecure_skip_verify: section.boolean("insecure_skip_verify", false),
            server_name: section.text("server_name_override"),
            policy,
        },
    }
}

/// Keys of network clients that both protocols have and that are not built.
pub(crate) fn keys_not_built(exporter: &Section<'_>) {
    let buffers = "remove it: buffers size themselves";
    exporter.no_effect("read_buffer_size", Idle::Zero, buffers);
    exporter.no_effect("write_buffer_size", Idle::Int(512 << 10), buffers);
    exporter.unsupported("middlewares", Idle::Zero, "middlewares", "remove it");
}
