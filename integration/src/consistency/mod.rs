//! Whether reads are as fresh as `routing.consistency` promises, while nodes pause, lag, freeze, die and change roles.
//!
//! ```text
//!   workload ──operations──> Howdah ──> nodes <──faults── nemesis
//!      └──events (one clock)──> History ──> check ──> violations
//! ```
//!
//! A history says of each operation when it was called, when it returned and what it said. `check` is pure: its tests show each
//! of its findings on a history made by hand. A run in which replicas answered too little, or no fault happened, proves
//! nothing and fails ([`run::Findings::idle`]).

pub mod check;
pub mod history;
pub mod nemesis;
pub mod run;
pub mod share;
pub mod workload;
