//! SHOW VERSION.

use super::super::rows::{Column, Row, Value, text};
use super::super::state::State;

pub(super) const COLUMNS: &[Column] = &[text("version")];

pub(super) fn rows(state: &State) -> Vec<Row> {
    vec![vec![Value::Text(format!("Howdah {}", state.snapshot.version))]]
}
