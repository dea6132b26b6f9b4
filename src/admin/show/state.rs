//! SHOW STATE: whether clients get servers.

use super::super::rows::{Column, Row, Value, text};
use super::super::state::State;
use crate::telemetry::snapshot::Phase;

pub(super) const COLUMNS: &[Column] = &[text("key"), text("value")];

pub(super) fn rows(state: &State) -> Vec<Row> {
    let phase = state.snapshot.phase;
    // Howdah has no SUSPEND; the row is there for those who look for it.
    [
        ("active", phase == Phase::Running),
        ("paused", phase == Phase::Paused),
        ("suspended", false),
        ("shutting_down", phase == Phase::ShuttingDown),
    ]
    .map(|(key, holds)| vec![Value::text(key), Value::text(if holds { "yes" } else { "no" })])
    .into()
}
