//! `auth.query`: users that the configuration does not list are looked up on the servers.
//!
//! One connection per cluster, made with the monitor's login and kept; those who log in at the same moment take turns.

use tokio::sync::Mutex;

use super::services::Served;
use crate::config::model::User;
use crate::config::secret::Secret;
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::protocol::text::quote_literal;
use crate::router::view::{Role, State, View};
use crate::server::connect::{ConnectError, Login, connect};
use crate::server::query::{Direct, QueryError, Rows};

/// Where users of one cluster are looked up.
#[derive(Debug)]
pub struct Lookup {
    /// How to log in to each node, by index.
    logins: Vec<Login>,
    /// The connection of the last question, and the node it leads to.
    kept: Mutex<Option<(usize, Direct)>>,
}

/// Why a user could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// No node answers.
    #[error("no node is up")]
    NoNode,
    /// The monitor's user was not let in.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// It has not the columns it should have.
    #[error("auth.query must give rows of a user's name and password")]
    Columns,
}

impl LookupError {
    /// What the client is told; the reason is for the log.
    pub fn report(&self, user: &str) -> Report {
        let words = format!("user \"{user}\" could not be looked up");
        Report::fatal(SqlState::CANNOT_CONNECT_NOW, words)
            .hint("See auth.query in Howdah's configuration, and its log.")
    }
}

impl Lookup {
    /// Looks up with these logins, one for each node.
    pub fn new(logins: Vec<Login>) -> Self {
        Self { logins, kept: Mutex::default() }
    }

    /// Asks `query` for `user`; `None` when there is no such user.
    pub async fn find(&self, served: &Served, query: &str, user: &str) -> Result<Option<User>, LookupError> {
        let sql = query.replace("$1", &quote_literal(user));
        let mut kept = self.kept.lock().await;
        let node = choose(&served.cluster.view()).ok_or(LookupError::NoNode)?;
        let login = self.logins.get(node).ok_or(LookupError::NoNode)?;
        let rows = match kept.as_mut() {
            Some((at, direct)) if *at == node && direct.is_usable() => {
                match direct.query(&sql, login.timeout).await {
                    // The server has closed it since: another one may do.
                    Err(QueryError::Io(_)) => None,
                    answer => Some(answer?),
                }
            }
            _ => None,
        };
        let rows = if let Some(rows) = rows {
            rows
        } else {
            let (_, direct) = kept.insert((node, Direct::new(connect(login).await?)));
            direct.query(&sql, login.timeout).await?
        };
        found(rows, user)
    }
}

/// The primary, or else a replica that answers.
fn choose(view: &View) -> Option<usize> {
    let up = |role| view.nodes.iter().position(|node| node.role == role && node.state == State::Up);
    view.primary.or_else(|| up(Role::Replica))
}

/// Makes a user of what the query gave. A row about somebody else is none; a password that cannot be one is none.
fn found(rows: Rows, user: &str) -> Result<Option<User>, LookupError> {
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    let mut columns = row.into_iter();
    let (Some(name), Some(password)) = (columns.next(), columns.next()) else { return Err(LookupError::Columns) };
    if name.as_deref() != Some(user) {
        return Ok(None);
    }
    let password = password.as_deref().and_then(Secret::stored);
    Ok(Some(User { password, ..User::named(user) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_row_about_the_user_counts() {
        let row =
            |name: Option<&str>, password: Option<&str>| vec![name.map(str::to_owned), password.map(str::to_owned)];
        let password = |rows: Rows| {
            found(rows, "u").map(|user| user.map(|user| user.password.map(|secret| secret.expose().to_owned())))
        };
        assert!(matches!(password(Rows::new()), Ok(None)));
        assert!(matches!(password(vec![row(Some("other"), Some("x"))]), Ok(None)));
        assert!(matches!(password(vec![row(None, Some("x"))]), Ok(None)));
        assert!(matches!(password(vec![row(Some("u"), None)]), Ok(Some(None))));
        assert!(matches!(password(vec![row(Some("u"), Some("x"))]), Ok(Some(Some(text))) if text == "x"));
        // What begins like a verifier and is none would pass for a clear password.
        assert!(matches!(password(vec![row(Some("u"), Some("SCRAM-SHA-256$x"))]), Ok(Some(None))));
        assert!(matches!(password(vec![vec![Some("u".to_owned())]]), Err(LookupError::Columns)));
    }
}
