//! What became of configurations, certificates and keys that changed while the gateway ran.

use crate::config::checked::MetricsLevel::{Basic, Normal};
use crate::telemetry::cells::Kind;

metrics! {
    RELOADS: "Reloads", "the configuration and the files it names",
        "";
    for the gateway {
        TLS_RELOADS: Kind::Counter, Normal, "tracegate_tls_reloads",
            "times", [],
            "Times that changed certificates, keys or authorities were taken into use.";
        TLS_FAILED_RELOADS: Kind::Counter, Normal, "tracegate_tls_failed_reloads",
            "times", [],
            "Times that changed certificates, keys or authorities could not be used, and the old ones stayed.";
        CONFIG_RELOADS: Kind::Counter, Basic, "tracegate_config_reloads",
            "times", [],
            "Times that a changed configuration was applied while the gateway ran.";
        CONFIG_FAILED_RELOADS: Kind::Counter, Basic, "tracegate_config_failed_reloads",
            "times", [],
            "Times that a changed configuration had errors or could not be read, and the old one stayed.";
        CONFIG_REFUSED_RELOADS: Kind::Counter, Basic, "tracegate_config_refused_reloads",
            "times", [],
            "Times that a changed configuration held what only a restart applies, and the old one stayed.";
        CONFIG_IS_CURRENT: Kind::Gauge, Basic, "tracegate_config_is_current",
            "0 or 1", [],
            "1 if the configuration in force is the one that was read last, 0 if that one waits or was not taken.";
        CONFIG_GENERATION: Kind::Gauge, Basic, "tracegate_config_generation",
            "number", [],
            "Number of the configuration in force: 1 at the start, one more with each that is applied.";
        CONFIG_APPLIED_TIME: Kind::Gauge, Basic, "tracegate_config_last_applied_timestamp_seconds",
            "seconds", [],
            "When the configuration in force was applied, in seconds since 1970.";
    }
}
