//! SHOW MEM: memory by kind.

use super::super::rows::{Column, Row, Value, int, text};
use super::super::state::{Memory, State};

pub(super) const COLUMNS: &[Column] = &[text("name"), int("size"), int("used"), int("free"), int("memtotal")];

pub(super) fn rows(state: &State) -> Vec<Row> {
    state.memory.iter().map(row).collect()
}

fn row(memory: &Memory) -> Row {
    let total = memory.size.saturating_mul(memory.used.saturating_add(memory.free));
    vec![
        Value::text(&memory.name),
        Value::count(memory.size),
        Value::count(memory.used),
        Value::count(memory.free),
        Value::count(total),
    ]
}
