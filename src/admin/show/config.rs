//! SHOW CONFIG: the settings in force, by their paths.

use super::super::rows::{Column, Row, Value, text};
use super::super::state::{Change, Setting, State};

pub(super) const COLUMNS: &[Column] = &[text("key"), text("value"), text("default"), text("changeable")];

pub(super) fn rows(state: &State) -> Vec<Row> {
    state.config.iter().map(row).collect()
}

fn row(setting: &Setting) -> Row {
    let changeable = match setting.change {
        Change::Reload => "yes",
        Change::Restart => "no",
    };
    vec![Value::text(&setting.key), Value::text(&setting.value), Value::text(&setting.default), Value::text(changeable)]
}
