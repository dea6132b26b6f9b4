//! One client connection, from the first byte to the last.
//!
//! This room puts the others together: it reads batches, asks the session what they need and the router
//! where that is to be had, borrows a server and has the relay do the work. It decides nothing about SQL,
//! positions or pools itself.

pub mod answer;
mod attach;
mod audit;
pub mod authenticate;
mod batch;
mod bring;
pub mod counters;
pub mod directory;
mod exchange;
pub mod explain;
mod farewell;
mod freshness;
pub mod listener;
mod listening;
pub mod lookup;
mod pinning;
mod ready;
mod refusal;
mod replication;
mod roaming;
pub mod services;
mod signals;
pub mod startup;
mod task;
