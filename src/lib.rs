//! Howdah: many clients on few PostgreSQL connections, spread over a primary and its replicas, while every
//! client believes that it talks to one ordinary server.
//!
//! It does not decode rows, does not rewrite SQL beyond names of prepared statements, does not promote servers and
//! does not guess: what is not certain to be a read goes to the primary.
//!
//! ```text
//!   client --batch--> session --work--> router --target--> pool --lease--> relay <--> server
//!                        ^                 ^                                  |
//!                        |                 +-- view -- cluster (monitors)     |
//!                        +------------------------ replies -------------------+
//! ```
//!
//! The first rooms are those that a query passes; `docs/architecture.md` tells the whole way and which room
//! may know which.

pub mod auth;
pub mod cancel;
pub mod client;
pub mod cluster;
pub mod net;
pub mod notify;
pub mod pool;
pub mod protocol;
pub mod relay;
pub mod router;
pub mod server;
pub mod session;
pub mod sql;

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod telemetry;
pub mod types;
