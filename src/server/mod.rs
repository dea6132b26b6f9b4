//! (being built)
pub mod connect;
pub mod query;
