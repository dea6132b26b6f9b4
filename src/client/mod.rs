//! (being built)

pub mod authenticate;
pub mod startup;
