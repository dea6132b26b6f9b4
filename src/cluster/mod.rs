//! (being built)

pub mod catalog;
