//! The gateway. In the order data flows:
//!
//! `transport -> receiver -> processor -> (connector |) queue -> exporter`, wired by `pipeline`, run by `shard`, described by
//! `config`, counted by `telemetry`, measured by `profile`, shown by `admin`, started by `cli`.

pub mod admin;
pub mod auth;
pub mod cli;
pub mod config;
pub mod connector;
pub mod exporter;
pub mod pipeline;
pub mod processor;
pub mod profile;
pub mod queue;
pub mod receiver;
pub mod shard;
pub mod telemetry;
pub mod transport;
