//! The portals whose statements concern the session: most clients never have one, so that they take a word until then.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::registry::Statement;
use crate::sql::command::Parsed;

/// A portal whose statement concerns the session: what it runs, and the `set_config` calls whose arguments its Bind gave.
#[derive(Debug)]
pub(super) struct Portal {
    pub(super) statement: Arc<Statement>,
    pub(super) parsed: Option<Parsed>,
}

type Named = HashMap<Box<[u8]>, Portal, RandomState>;

/// Portals by name.
#[derive(Debug, Default)]
pub(super) struct Portals(Option<Box<Named>>);

impl Portals {
    pub(super) fn get(&self, name: &[u8]) -> Option<&Portal> {
        self.0.as_ref()?.get(name)
    }

    pub(super) fn insert(&mut self, name: &[u8], portal: Portal) {
        self.0.get_or_insert_default().insert(name.into(), portal);
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        if let Some(portals) = &mut self.0 {
            portals.remove(name);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}
