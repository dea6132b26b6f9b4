//! A client's settings on their way to its server, in one write with the client's own first messages.
//!
//! The statements of the difference go in extended messages without a Sync behind them. A server passes over all that
//! follows a failed extended message until the next Sync, simple queries too (`ignore_till_sync`,
//! src/backend/tcop/postgres.c): should a setting be refused, or the transaction around them not begin or not commit,
//! then nothing of the client's is run. A COMMIT takes effect when it is executed, not with the next Sync
//! (`exec_execute_message`), so that the client's statement finds itself outside a transaction, as it should.

use super::carried::{Reported, STRANGE};
use super::encode::Upstream;
use super::settings::Difference;
use super::{Note, Session};
use crate::protocol::frontend;
use crate::protocol::replies::{Kind, Whose};

/// Of an isolation level that a standby can do, whatever the client has made its default.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

impl Session {
    /// Sends what makes the server carry the client's settings.
    pub fn bring(&mut self, difference: &Difference, up: &mut Upstream<'_>) {
        for sql in std::iter::once(BEGIN).chain(difference.iter()) {
            run(sql, Note::Bringing, up);
        }
        run("COMMIT", Note::Brought, up);
        up.carried.unnamed = Some(STRANGE);
        up.carried.reported = Reported::Later;
    }
}

fn run(sql: &str, done: Note, up: &mut Upstream<'_>) {
    up.out.make(|out| {
        frontend::put_parse(out, b"", sql.as_bytes(), &[0, 0]);
        frontend::put_run(out);
    });
    up.replies.expect(Kind::Parse, Whose::Ours, Some(Note::Bringing));
    up.replies.expect(Kind::Bind, Whose::Ours, Some(Note::Bringing));
    up.replies.expect(Kind::Execute, Whose::Ours, Some(done));
}
