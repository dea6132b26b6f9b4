//! The client's named statements under the client's own names, for a client that looks at them (`pg_prepared_statements`).
//!
//! Servers know statements by names of Howdah's, and those of all clients at once. A client that asks which ones there are is to
//! find its own and no others, so its server is made to have just these, by the client's names. Until it goes back to its
//! pool, messages about statements then reach it as the client wrote them.

use bytes::BytesMut;

use super::carried::Carried;
use super::{Note, Session};
use crate::protocol::frontend::{self, Object};
use crate::protocol::replies::Kind;
use crate::protocol::tag::frontend as tag;

/// Messages that go to a server, and what it owes for each.
#[derive(Debug, Default)]
pub struct Messages {
    /// The messages.
    pub out: BytesMut,
    /// What they are, in the same order.
    pub expected: Vec<(Kind, Option<Note>)>,
}

impl Messages {
    fn query(&mut self, text: &str) {
        frontend::put_query(&mut self.out, text.as_bytes());
        self.expected.push((Kind::Query, None));
    }

    fn close(&mut self, name: &[u8]) {
        frontend::put_object(&mut self.out, tag::CLOSE, Object::Statement, name);
        self.expected.push((Kind::Close, None));
    }

    fn sync(&mut self) {
        frontend::put_sync(&mut self.out);
        self.expected.push((Kind::Sync, None));
    }
}

impl Session {
    /// What has a server drop the statements that it carries, and prepare the client's by the client's names; the oldest first.
    /// It must be in a transaction block. What it refuses, its books must be told ([`Carried::refuses`]).
    ///
    /// Statements outlast the savepoint behind which they were prepared; locks and refusals do not.
    #[must_use]
    pub fn name_statements(&self, carried: &mut Carried) -> Messages {
        let mut messages = Messages::default();
        for name in carried.server_names() {
            messages.close(name.as_bytes());
        }
        messages.sync();
        carried.take_clients_names();
        let mut statements: Vec<_> = self.statements.iter().collect();
        statements.sort_unstable_by_key(|(_, statement)| statement.id);
        for (name, statement) in statements {
            messages.query("SAVEPOINT howdah");
            frontend::put_parse(&mut messages.out, name, &statement.text, &statement.types);
            messages.expected.push((Kind::Parse, Some(Note::SuppliedAs(name.clone()))));
            messages.sync();
            messages.query("ROLLBACK TO howdah; RELEASE howdah");
        }
        messages
    }

    /// What has a server drop the client's statements that it has by the client's names.
    #[must_use]
    pub fn unname_statements(&self, carried: &mut Carried) -> Messages {
        let mut messages = Messages::default();
        for name in self.statements.keys() {
            messages.close(name);
        }
        messages.sync();
        carried.forget_all();
        messages
    }
}
