//! One file per SHOW: which columns it has and what stands in them.
//!
//! PgBouncer 1.25's columns come first, in its order, so that what reads PgBouncer's console reads
//! this one; Howdah's own follow. Pure: a [`State`] in, rows out.

mod clients;
mod config;
mod databases;
mod listeners;
mod lists;
mod mem;
mod node_pools;
mod nodes;
mod pins;
mod pools;
mod servers;
mod state;
pub mod stats;
mod time;
mod users;
mod version;

use super::command::Show;
use super::rows::{Column, Row};
use super::state::State;

/// The columns of a table.
#[must_use]
pub fn columns(show: Show) -> Vec<Column> {
    match show {
        Show::Clients => clients::columns(),
        Show::Config => config::COLUMNS.to_vec(),
        Show::Databases => databases::COLUMNS.to_vec(),
        Show::Listeners => listeners::COLUMNS.to_vec(),
        Show::Lists => lists::COLUMNS.to_vec(),
        Show::Mem => mem::COLUMNS.to_vec(),
        Show::NodePools => node_pools::COLUMNS.to_vec(),
        Show::Nodes => nodes::COLUMNS.to_vec(),
        Show::Pins => pins::COLUMNS.to_vec(),
        Show::PinTotals => pins::TOTALS_COLUMNS.to_vec(),
        Show::Pools => pools::COLUMNS.to_vec(),
        Show::Servers => servers::columns(),
        Show::State => state::COLUMNS.to_vec(),
        Show::Stats => stats::COLUMNS.to_vec(),
        Show::StatsAverages => stats::AVERAGES_COLUMNS.to_vec(),
        Show::StatsTotals => stats::TOTALS_COLUMNS.to_vec(),
        Show::Totals => stats::LIST_COLUMNS.to_vec(),
        Show::Users => users::COLUMNS.to_vec(),
        Show::Version => version::COLUMNS.to_vec(),
    }
}

/// Its rows.
#[must_use]
pub fn rows(show: Show, state: &State) -> Vec<Row> {
    match show {
        Show::Clients => clients::rows(state),
        Show::Config => config::rows(state),
        Show::Databases => databases::rows(state),
        Show::Listeners => listeners::rows(state),
        Show::Lists => lists::rows(state),
        Show::Mem => mem::rows(state),
        Show::NodePools => node_pools::rows(state),
        Show::Nodes => nodes::rows(state),
        Show::Pins => pins::rows(state),
        Show::PinTotals => pins::totals_rows(state),
        Show::Pools => pools::rows(state),
        Show::Servers => servers::rows(state),
        Show::State => state::rows(state),
        Show::Stats => stats::rows(state),
        Show::StatsAverages => stats::averages_rows(state),
        Show::StatsTotals => stats::totals_rows(state),
        Show::Totals => stats::list_rows(state),
        Show::Users => users::rows(state),
        Show::Version => version::rows(state),
    }
}

/// The text of SHOW HELP.
pub(super) const HELP: &str = "Console usage
\tSHOW HELP|VERSION|CONFIG|DATABASES|USERS|POOLS|NODE_POOLS|NODES|CLIENTS|SERVERS
\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS|LISTS|STATE|MEM|PINS|PIN_TOTALS|LISTENERS
\tEXPLAIN ROUTE [IN <db>] [AS <user>] <statement>
\tPAUSE [<db>]
\tRESUME [<db>]
\tRECONNECT [<db>]
\tKILL <db>
\tKILL_CLIENT <client_id>
\tRELOAD
\tSHUTDOWN
\tSHUTDOWN WAIT_FOR_CLIENTS|WAIT_FOR_SERVERS";

#[cfg(test)]
pub(super) mod tests;
