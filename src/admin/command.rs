//! What an operator can ask of the console.

use crate::types::{ClientId, DatabaseName, UserName};

/// One statement on the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Shows a table.
    Show(Show),
    /// SHOW HELP: the list of commands, as a notice.
    Help,
    /// EXPLAIN ROUTE: where a statement would go.
    Explain(Question),
    /// Asks the running system to do something.
    Act(Action),
    /// A question that drivers ask of every server: one row with one value.
    Trivial(Trivial),
    /// A SET that drivers send on connecting: accepted and without effect.
    IgnoredSet,
    /// BEGIN; the console has no transactions, but its client may believe in them.
    Begin,
    /// COMMIT.
    Commit,
    /// ROLLBACK.
    Rollback,
    /// What connection pools and drivers send around the real work (`DISCARD ALL`, `SAVEPOINT`, …): the command tag.
    Ignored(&'static str),
    /// DEALLOCATE of one prepared statement, or all.
    Deallocate(Option<String>),
    /// Nothing but white space and comments.
    Empty,
}

/// What EXPLAIN ROUTE asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The database, as clients name it, when it is named.
    pub database: Option<DatabaseName>,
    /// The user, when one is named.
    pub user: Option<UserName>,
    /// The statement.
    pub statement: String,
}

/// A table that SHOW shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Client connections.
    Clients,
    /// The configuration in force.
    Config,
    /// Databases that clients may name.
    Databases,
    /// Connections that listen for clients.
    Listeners,
    /// How many there are of everything.
    Lists,
    /// Memory.
    Mem,
    /// Pools by database, user and node.
    NodePools,
    /// Nodes of the clusters.
    Nodes,
    /// Pins by reason.
    PinTotals,
    /// Clients that are pinned.
    Pins,
    /// Pools by database and user.
    Pools,
    /// Server connections.
    Servers,
    /// Whether clients get servers.
    State,
    /// Totals and averages by database.
    Stats,
    /// Averages by database.
    StatsAverages,
    /// Totals by database.
    StatsTotals,
    /// Totals of all databases together.
    Totals,
    /// Users that may log in.
    Users,
    /// The version.
    Version,
}

/// A row with one value, for drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trivial {
    /// The column's name.
    pub column: &'static str,
    /// What it holds.
    pub value: TrivialValue,
    /// The command tag without the count of rows.
    pub tag: &'static str,
}

/// The value of a [`Trivial`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrivialValue {
    /// A number.
    Integer(i64),
    /// A text.
    Text(&'static str),
}

/// What the console asks of the running system; `app` performs it and tells the console when it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads the configuration file again and applies what changed.
    Reload,
    /// Keeps clients from getting servers, of one database or all, and waits until none is in use.
    Pause(Option<DatabaseName>),
    /// Ends a pause.
    Resume(Option<DatabaseName>),
    /// Drops every client and server of a database at once and leaves it paused.
    Kill(DatabaseName),
    /// Drops one client.
    KillClient(ClientId),
    /// Closes server connections, of one database or all, as soon as nobody uses them.
    Reconnect(Option<DatabaseName>),
    /// Ends the process.
    Shutdown(ShutdownMode),
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownMode {
    /// At once.
    Immediate,
    /// When all clients have left; new ones are refused.
    WaitForClients,
    /// When all servers are back in their pools.
    WaitForServers,
}

// === impl Action ===

impl Action {
    /// The command tag once it is done.
    #[must_use]
    pub const fn tag(&self) -> &'static str {
        match self {
            Self::Reload => "RELOAD",
            Self::Pause(_) => "PAUSE",
            Self::Resume(_) => "RESUME",
            Self::Kill(_) | Self::KillClient(_) => "KILL",
            Self::Reconnect(_) => "RECONNECT",
            Self::Shutdown(_) => "SHUTDOWN",
        }
    }
}

// === impl Show ===

impl Show {
    /// Every table with the word that names it.
    pub const ALL: &[(&str, Self)] = &[
        ("clients", Self::Clients),
        ("config", Self::Config),
        ("databases", Self::Databases),
        ("listeners", Self::Listeners),
        ("lists", Self::Lists),
        ("mem", Self::Mem),
        ("node_pools", Self::NodePools),
        ("nodes", Self::Nodes),
        ("pin_totals", Self::PinTotals),
        ("pins", Self::Pins),
        ("pools", Self::Pools),
        ("servers", Self::Servers),
        ("state", Self::State),
        ("stats", Self::Stats),
        ("stats_averages", Self::StatsAverages),
        ("stats_totals", Self::StatsTotals),
        ("totals", Self::Totals),
        ("users", Self::Users),
        ("version", Self::Version),
    ];
}
