//! SHOW PINS: why clients keep a server, and how often they did.

use super::super::rows::{Column, Row, Value, int, text};
use super::super::state::State;

pub(super) const COLUMNS: &[Column] = &[text("reason"), int("current"), int("total")];

pub(super) fn rows(state: &State) -> Vec<Row> {
    let row = |pins: &crate::telemetry::snapshot::Pins| {
        vec![Value::text(pins.reason), Value::count(pins.current), Value::count(pins.total)]
    };
    state.snapshot.pins.iter().map(row).collect()
}
