//! (being built)

pub mod connect;
pub mod query;
pub mod startup;
mod wire;
