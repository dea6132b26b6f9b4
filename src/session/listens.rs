//! LISTEN and UNLISTEN over the course of transactions: what a client listens to, and will listen to once it commits.
//!
//! As PostgreSQL keeps it (src/backend/commands/async.c): actions wait until the transaction commits, each with the
//! depth of savepoints at which it was taken. Who brings the notifications is not known here.

use std::sync::Arc;

use super::Session;
use super::observe::{Batch, Plan, Step};
use crate::protocol::error::Report;
use crate::protocol::frontend::{self, Bind};
use crate::protocol::sqlstate::SqlState;
use crate::protocol::tag::frontend as tag;
use crate::protocol::text::quote_identifier;
use crate::sql::command::{Command, Parsed};

/// The name of a channel, as PostgreSQL has it after folding and cutting.
pub type Channel = Arc<str>;

/// Something that takes effect when the transaction commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// LISTEN.
    Listen(Channel),
    /// UNLISTEN.
    Unlisten(Channel),
    /// `UNLISTEN *`.
    UnlistenAll,
}

/// What the server that the client has listens to itself. Nobody hears it there, but it is to be asked about, and to
/// be ended before others get the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum OnServer {
    /// Nothing: no LISTEN was sent there.
    #[default]
    Nothing,
    /// Some of what the client listens to.
    Some,
    /// All that the client listens to.
    All,
}

/// What a client listens to.
#[derive(Debug, Default)]
pub struct Listens {
    /// In the order in which it was committed.
    committed: Vec<Channel>,
    /// With the depth of savepoints.
    actions: Vec<(usize, Action)>,
    on_server: OnServer,
}

impl Listens {
    /// The channels that the client listens to, the first first.
    #[must_use]
    pub fn committed(&self) -> &[Channel] {
        &self.committed
    }

    /// Whether the client listens to `channel`.
    #[must_use]
    pub fn has(&self, channel: &[u8]) -> bool {
        self.committed.iter().any(|known| known.as_bytes() == channel)
    }

    /// Channels that it will listen to when the transaction commits, and does not yet.
    fn pending(&self) -> impl Iterator<Item = &Channel> {
        let listened = self.actions.iter().filter_map(|(_, action)| match action {
            Action::Listen(channel) => Some(channel),
            Action::Unlisten(_) | Action::UnlistenAll => None,
        });
        listened.filter(|channel| !self.has(channel.as_bytes()))
    }

    fn act(&mut self, depth: usize, action: Action) {
        self.actions.push((depth, action));
    }

    /// The savepoint that was made at `depth` is released: what was done under it counts as done before it.
    fn release(&mut self, depth: usize) {
        for (at, _) in &mut self.actions {
            *at = depth.min(*at);
        }
    }

    /// The transaction goes back to the savepoint that was made at `depth`.
    fn rollback_to(&mut self, depth: usize) {
        self.actions.retain(|(at, _)| *at <= depth);
    }

    fn commit(&mut self) {
        for (_, action) in std::mem::take(&mut self.actions) {
            match action {
                Action::Listen(channel) if self.has(channel.as_bytes()) => {}
                Action::Listen(channel) => self.committed.push(channel),
                Action::Unlisten(channel) => self.committed.retain(|known| *known != channel),
                Action::UnlistenAll => self.committed.clear(),
            }
        }
    }
}

impl Session {
    /// What the client listens to, or may have begun to.
    #[must_use]
    pub fn listens(&self) -> Option<&Listens> {
        self.listens.as_deref()
    }

    /// The channels that the client may listen to when the transaction commits which `batch` belongs to, and does not
    /// yet; an error if one cannot be told.
    pub fn channels_to_come(&self, batch: Batch<'_>, plan: &Plan) -> Result<Vec<Channel>, Report> {
        let mut channels: Vec<Channel> = self.listens().into_iter().flat_map(Listens::pending).cloned().collect();
        let steps = plan.steps.iter().map(Some).chain(std::iter::repeat(None));
        for ((frame, body), step) in batch.messages().zip(steps).filter(|((frame, _), _)| frame.is_start()) {
            let parsed: &[Parsed] = match (frame.tag, step) {
                (tag::QUERY, Some(Step::Query { statements, .. })) => statements,
                (tag::PARSE, Some(Step::Parse(statement))) => statement.parsed.as_slice(),
                (tag::BIND, _) => {
                    let statement = Bind::open(body).ok().and_then(|bind| self.statement(bind.statement));
                    statement.map_or(&[], |statement| statement.parsed.as_slice())
                }
                (tag::EXECUTE, _) => {
                    let portal = frontend::execute(body).ok().and_then(|name| self.portals.get(name));
                    portal.map_or(&[], |portal| portal.parsed.as_slice())
                }
                _ => &[],
            };
            for Parsed { command, .. } in parsed {
                match command {
                    Command::Listen(channel) => channels.push(channel.as_str().into()),
                    Command::ListenUnread => return Err(unread()),
                    _ => {}
                }
            }
        }
        channels.sort_unstable();
        channels.dedup();
        channels.retain(|channel| self.listens().is_none_or(|listens| !listens.has(channel.as_bytes())));
        Ok(channels)
    }

    /// A LISTEN is about to be sent to the server.
    pub fn will_listen(&mut self) {
        let listens = self.listens.get_or_insert_default();
        listens.on_server = match listens.on_server {
            OnServer::Nothing if listens.committed.is_empty() => OnServer::All,
            OnServer::All => OnServer::All,
            OnServer::Nothing | OnServer::Some => OnServer::Some,
        };
    }

    /// The SQL that has the server listen to all that the client listens to, so that it can be asked about it; none
    /// when it does.
    #[must_use]
    pub fn unknown_channels(&self) -> Option<String> {
        let listens = self.listens().filter(|listens| listens.on_server != OnServer::All)?;
        let listen = |channel: &Channel| format!("LISTEN {}", quote_identifier(channel));
        let sql = listens.committed.iter().map(listen).collect::<Vec<_>>().join(";");
        (!sql.is_empty()).then_some(sql)
    }

    /// The server listens to all that the client listens to.
    pub fn channels_are_known(&mut self) {
        if let Some(listens) = &mut self.listens {
            listens.on_server = OnServer::All;
        }
    }

    /// Whether the server must be told to listen to nothing before others get it.
    #[must_use]
    pub fn must_unlisten(&self) -> bool {
        self.listens().is_some_and(|listens| listens.on_server != OnServer::Nothing)
    }

    /// The server listens to nothing, or is the client's no more.
    pub fn unlistened(&mut self) {
        if let Some(listens) = &mut self.listens {
            listens.on_server = OnServer::Nothing;
            if listens.committed.is_empty() && listens.actions.is_empty() {
                self.listens = None;
            }
        }
    }

    pub(super) fn listen(&mut self, action: Action) {
        let depth = self.ledger.depth();
        if let Some(listens) = &mut self.listens {
            listens.act(depth, action);
        } else if matches!(action, Action::Listen(_)) {
            self.listens.get_or_insert_default().act(depth, action);
        }
    }

    /// To be called before the ledger forgets the savepoint.
    pub(super) fn listens_release(&mut self, savepoint: &str) {
        if let (Some(listens), Some(depth)) = (&mut self.listens, self.ledger.depth_of(savepoint)) {
            listens.release(depth);
        }
    }

    /// To be called before the ledger goes back to the savepoint.
    pub(super) fn listens_rollback_to(&mut self, savepoint: &str) {
        if let (Some(listens), Some(depth)) = (&mut self.listens, self.ledger.depth_of(savepoint)) {
            listens.rollback_to(depth);
        }
    }

    pub(super) fn listens_commit(&mut self) {
        if let Some(listens) = &mut self.listens {
            listens.commit();
        }
    }

    pub(super) fn listens_rollback(&mut self) {
        if let Some(listens) = &mut self.listens {
            listens.actions.clear();
        }
    }
}

fn unread() -> Report {
    Report::error(SqlState::FEATURE_NOT_SUPPORTED, "LISTEN does not understand this way to write a channel's name")
        .hint("Howdah brings the notifications itself: write the name in UTF-8, plainly or in double quotes.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(actions: &[&str]) -> Vec<String> {
        let mut listens = Listens::default();
        let mut depth = 0;
        for action in actions {
            match action.split_once(' ').unwrap_or((action, "")) {
                ("listen", name) => listens.act(depth, Action::Listen(name.into())),
                ("unlisten", "*") => listens.act(depth, Action::UnlistenAll),
                ("unlisten", name) => listens.act(depth, Action::Unlisten(name.into())),
                ("savepoint", _) => depth += 1,
                ("release", to) => {
                    depth = to.parse().unwrap();
                    listens.release(depth);
                }
                ("back", to) => {
                    let to: usize = to.parse().unwrap();
                    listens.rollback_to(to);
                    depth = to + 1;
                }
                ("commit", _) => {
                    listens.commit();
                    depth = 0;
                }
                ("rollback", _) => listens.actions.clear(),
                _ => panic!("{action}"),
            }
        }
        listens.committed.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_commits_counts() {
        for (actions, expected) in [
            (&["listen a"][..], &[][..]),
            (&["listen b", "listen a", "listen b", "commit"], &["b", "a"]),
            (&["listen a", "rollback", "commit"], &[]),
            (&["listen a", "commit", "unlisten a", "rollback"], &["a"]),
            (&["listen a", "commit", "unlisten a", "listen a", "commit"], &["a"]),
            (&["listen a", "listen b", "unlisten *", "listen c", "commit"], &["c"]),
            (&["listen a", "savepoint", "listen b", "back 0", "listen c", "commit"], &["a", "c"]),
            (&["savepoint", "listen b", "release 0", "savepoint", "listen c", "back 0", "commit"], &["b"]),
            (&["savepoint", "savepoint", "listen b", "release 1", "back 0", "commit"], &[]),
            (&["savepoint", "listen a", "savepoint", "listen b", "back 1", "commit"], &["a"]),
        ] {
            assert_eq!(after(actions), expected, "{actions:?}");
        }
    }

    #[test]
    fn what_is_to_come_is_what_is_not_there_yet() {
        let mut listens = Listens::default();
        listens.act(0, Action::Listen("a".into()));
        listens.commit();
        listens.act(0, Action::Listen("a".into()));
        listens.act(0, Action::Listen("b".into()));
        assert_eq!(listens.pending().map(|channel| &**channel).collect::<Vec<_>>(), ["b"]);
    }
}
