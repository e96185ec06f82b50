//! What belongs to the whole process and to no shard: its time, its memory, its log.

use crate::config::checked::MetricsLevel::{Basic, Normal};
use crate::telemetry::cells::Kind;

metrics! {
    PROCESS: "The process", "the process",
        "The Collector's `runtime` names describe Go's heap. They are kept for its dashboards and mean what comes \
         closest here.";
    for the gateway {
        PROCESS_UPTIME: Kind::Counter, Basic, "otelcol_process_uptime",
            "seconds", [],
            "Seconds since the process started.";
        PROCESS_CPU_SECONDS: Kind::Counter, Basic, "otelcol_process_cpu_seconds",
            "seconds", [],
            "Seconds of CPU, user and system.";
        PROCESS_MEMORY_RSS: Kind::Gauge, Basic, "otelcol_process_memory_rss",
            "bytes", [],
            "Bytes resident in memory.";
        PROCESS_RUNTIME_TOTAL_ALLOC: Kind::Counter, Basic, "otelcol_process_runtime_total_alloc_bytes",
            "bytes", [],
            "Bytes of fresh pages the kernel gave to the process (minor page faults).",
            "Faults times page size; flat once memory is reused.";
        PROCESS_RUNTIME_HEAP_ALLOC: Kind::Gauge, Basic, "otelcol_process_runtime_heap_alloc_bytes",
            "bytes", [],
            "Bytes of anonymous memory that are resident.",
            "Heap and stacks.";
        PROCESS_RUNTIME_TOTAL_SYS: Kind::Gauge, Basic, "otelcol_process_runtime_total_sys_memory_bytes",
            "bytes", [],
            "Bytes of address space reserved for data.",
            "Touched or not.";
        PROMETHEUS_RESIDENT_MEMORY: Kind::Gauge, Basic, "process_resident_memory_bytes",
            "bytes", [],
            "Bytes resident in memory.",
            "As `otelcol_process_memory_rss`.";
        PROMETHEUS_CPU_SECONDS: Kind::Counter, Basic, "process_cpu_seconds_total",
            "seconds", [],
            "Seconds of CPU, user and system.",
            "As `otelcol_process_cpu_seconds`.";
        PROMETHEUS_START_TIME: Kind::Gauge, Basic, "process_start_time_seconds",
            "seconds", [],
            "Start of the process in seconds since 1970.";
        LOG_LINES_SUPPRESSED: Kind::Counter, Normal, "tracegate_log_lines_suppressed",
            "lines", [],
            "Log lines not written because equal ones were.",
            "`service.telemetry.logs.sampling` bounds them.";
        LOG_LINES_LOST: Kind::Counter, Normal, "tracegate_log_lines_lost",
            "lines", [],
            "Log lines lost because the writer was behind.",
            "The writer is the terminal or disk.";
    }
}
