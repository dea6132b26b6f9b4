//! A session beside the client's, on the primary or on a standby, with the same settings.

use std::fmt::Write as _;

use howdah_integration::session::{Login, Rows};
use howdah_integration::wire::{self, Message, Wire};

use crate::ledger::Why;

/// What can be seen of a session: what its transaction has written, who it is, and how it is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State(Rows);

/// An answer, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The rows, in their order or sorted.
    pub(crate) rows: Vec<Vec<u8>>,
    /// SQLSTATE and message.
    pub(crate) error: Option<(String, String)>,
}

/// A session that is made to follow another.
pub(crate) struct Twin {
    wire: Wire,
    state: Option<State>,
}

// === impl State ===

impl State {
    /// What tells the state: one row, then one for each setting that is not as the server's own.
    pub(crate) const QUERY: &str = "SELECT pg_catalog.pg_current_xact_id_if_assigned()::text, session_user::text, \
         pg_catalog.current_setting('role'), pg_catalog.current_setting('transaction_isolation'), \
         CASE WHEN pg_catalog.pg_my_temp_schema() = 0 THEN 'false' ELSE EXISTS ( \
         SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = pg_catalog.pg_my_temp_schema() \
         UNION ALL SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = pg_catalog.pg_my_temp_schema() \
         UNION ALL SELECT FROM pg_catalog.pg_type t WHERE t.typnamespace = pg_catalog.pg_my_temp_schema())::text END; \
         SELECT s.name, s.setting FROM pg_catalog.pg_settings s WHERE s.source NOT IN ('default', 'configuration file', \
         'override', 'command line', 'environment variable') AND s.context IN ('user', 'superuser') \
         AND s.name NOT LIKE 'transaction\\_%' ORDER BY 1";

    pub(crate) fn of(messages: &[Message]) -> Option<Self> {
        let rows: Rows = messages.iter().filter(|message| message.tag == b'D').map(|row| values(&row.body)).collect();
        (rows.first()?.len() == 5).then_some(Self(rows))
    }

    fn word(&self, column: usize) -> Option<&str> {
        self.0[0][column].as_deref()
    }

    /// Whether its transaction has written.
    pub(crate) fn has_written(&self) -> bool {
        self.word(0).is_some()
    }

    /// Why other sessions do not see all that this one sees, if they do not.
    pub(crate) fn is_its_own(&self) -> Option<Why> {
        if self.has_written() {
            Some(Why::Written)
        } else if self.word(4) == Some("true") {
            Some(Why::Temporary)
        } else {
            (self.word(3) == Some("serializable")).then_some(Why::Serializable)
        }
    }

    /// The statements that put a new session there.
    fn script(&self) -> String {
        let literal = |value: &str| format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
        let mut script =
            String::from("ROLLBACK; RESET SESSION AUTHORIZATION; RESET ALL; SELECT pg_advisory_unlock_all();");
        for row in &self.0[1..] {
            if let [Some(name), Some(value)] = row.as_slice() {
                let _ = write!(script, "SELECT pg_catalog.set_config({}, {}, false);", literal(name), literal(value));
            }
        }
        let name = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let _ = write!(script, "SET SESSION AUTHORIZATION {};", name(self.word(1).unwrap_or("postgres")));
        match self.word(2) {
            Some("none") | None => script,
            Some(role) => script + &format!("SET ROLE {};", name(role)),
        }
    }
}

// === impl Answer ===

impl Answer {
    /// What `messages` hold of an answer to `text`.
    pub(crate) fn new(text: &[u8], messages: &[Message]) -> Self {
        let mut rows: Vec<Vec<u8>> =
            messages.iter().filter(|message| matches!(message.tag, b'D' | b'd')).map(|row| row.body.clone()).collect();
        let is_ordered = text.to_ascii_lowercase().windows(8).any(|words| words == b"order by");
        if !is_ordered {
            rows.sort();
        }
        let error = messages.iter().find(|message| message.tag == b'E').map(|message| {
            let code = wire::error_code(std::slice::from_ref(message)).unwrap_or_default();
            let text = wire::describe(message);
            (code, text.split(" M=").nth(1).unwrap_or_default().to_owned())
        });
        Self { rows, error }
    }

    /// Whether a standby has refused because it is one.
    pub(crate) fn is_refusal(&self) -> bool {
        self.error.as_ref().is_some_and(|(code, text)| code == "25006" || text.contains("recovery"))
    }
}

// === impl Twin ===

impl Twin {
    /// In `database` of the node at `port`.
    pub(crate) async fn start(port: u16, database: &str) -> Self {
        let login = Login::superuser(port).database(database);
        let wire = Wire::connect_with(&login, &[("options", "-c statement_timeout=10s -c lock_timeout=2s")]).await;
        Self { wire, state: None }
    }

    /// What `text` gives in a session that is in `state`; nothing of it remains. `None` if it cannot be put there.
    pub(crate) async fn answer(&mut self, text: &[u8], state: &State) -> Option<Answer> {
        if self.state.as_ref() != Some(state) {
            self.state = None;
            for statement in state.script().split_inclusive(';') {
                let said = self.wire.query(statement).await;
                // A setting that only the primary takes, or a role that came and went.
                if wire::error_code(&said).is_some() {
                    return None;
                }
            }
            self.state = Some(state.clone());
        }
        let mut body = text.to_vec();
        body.push(0);
        let (begin, end) = (wire::query("BEGIN"), wire::query("ROLLBACK"));
        self.wire.send(&[begin, wire::message(b'Q', &body), end].concat()).await;
        self.wire.until_ready().await;
        let messages = self.wire.until_ready().await;
        self.wire.until_ready().await;
        Some(Answer::new(text, &messages))
    }
}

/// The values of a DataRow.
pub(crate) fn values(mut body: &[u8]) -> Vec<Option<String>> {
    let mut values = Vec::new();
    body = body.get(2..).unwrap_or_default();
    while let Some((length, rest)) = body.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (value, after) = rest.split_at(length.unwrap_or(0));
        values.push(length.map(|_| String::from_utf8_lossy(value).into_owned()));
        body = after;
    }
    values
}
