//! Howdah: many clients on few PostgreSQL connections, spread over a primary and its replicas.

pub mod admin;
pub mod app;
pub mod auth;
pub mod cancel;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod net;
pub mod pool;
pub mod protocol;
pub mod relay;
pub mod router;
pub mod server;
pub mod session;
pub mod sql;
pub mod telemetry;
pub mod types;
