//! Stand-in.
use std::time::Duration;

use crate::types::Lsn;
/// Route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// P.
    Primary,
    /// R.
    Replica,
}
impl Route {
    /// Parse.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "primary" => Some(Self::Primary),
            "replica" => Some(Self::Replica),
            _ => None,
        }
    }
}
/// Level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// E.
    Eventual,
    /// S.
    Session,
    /// D.
    Database,
    /// S.
    Strong,
}
impl Consistency {
    /// Parse.
    pub fn parse(_: &str) -> Option<Self> {
        None
    }
}
/// Hint.
#[derive(Clone, Debug, Default)]
pub struct Hint {
    /// R.
    pub route: Option<Route>,
    /// C.
    pub consistency: Option<Consistency>,
    /// L.
    pub max_lag: Option<Duration>,
    /// M.
    pub min_lsn: Option<Lsn>,
}
/// Parse.
pub fn parse(_: &[u8]) -> Option<Hint> {
    None
}
/// Dur.
pub fn duration(_: &str) -> Option<Duration> {
    None
}
