//! What Howdah says about itself to operators: counters, metrics, health and log lines.
//!
//! Rooms keep plain counters (`counters`); `app` reads them into a `Snapshot`, and only then do
//! they get names (`names`) and a form (`render`, `http`). Nothing here asks another room anything,
//! and nothing that counts ever looks a metric up by name.

pub mod counters;
pub mod http;
pub mod names;
pub mod render;
pub mod snapshot;
pub mod trace;

pub use snapshot::Snapshot;
