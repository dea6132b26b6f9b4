//! Now and then, before it is lent again, a server is asked what it carries. If that is not what is believed of it,
//! the next client would see what it has not made: the server is closed, and whoever runs Howdah is told.

use super::task::{Attachment, Client, Held};
use crate::server::own::OwnError;
use crate::session::audit::{QUESTION, leaks};

/// Whether a server is asked what it carries when it goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audit {
    /// It is not.
    No,
    /// It is.
    Due,
}

impl Held {
    /// Decides whether the server is asked this time: once in `pool.audit` loans.
    pub(super) fn choose_audit(&mut self) -> Audit {
        if self.audit == Audit::No {
            let every = self.lease.pool().settings().audit;
            self.lease.loans = self.lease.loans.wrapping_add(1);
            if every != 0 && self.lease.loans.is_multiple_of(every) {
                self.audit = Audit::Due;
            }
        }
        self.audit
    }

    /// The shapes of the statements that it ran last, the last one first.
    fn digests(&self) -> String {
        let known = self.recent.iter().filter(|digest| **digest != 0);
        known.map(|digest| format!("{digest:016x}")).collect::<Vec<_>>().join(" ")
    }
}

impl Client {
    /// Gives a server back that was kept until its client has been answered.
    pub(super) async fn release_late(&mut self) {
        if matches!(&self.attachment, Attachment::Lent(held) if held.audit == Audit::Due || held.scrub.is_some()) {
            Box::pin(self.release()).await;
        }
    }

    /// Asks a server that is about to go back what it carries, and closes it if that is not what is believed.
    pub(super) async fn audit(&self, held: &mut Held) {
        if !held.lease.is_clean() {
            return;
        }
        self.services.counters.audits.increment();
        let rows = match held.lease.run_own(QUESTION, self.limits().cancel_timeout).await {
            Ok(rows) => rows,
            Err(OwnError::Refused(_)) => {
                // A client's time-out, or an encoding in which the answer has no form: nobody knows what is there.
                return held.lease.break_off("does not say what it carries");
            }
            Err(OwnError::Lost | OwnError::Timeout) => return,
        };
        let key = held.lease.pool().key().clone();
        for leak in leaks(&held.lease.carried, key.user.as_str(), &rows) {
            self.services.counters.leaked(leak.kind);
            tracing::warn!(
                pool = %key, server = %held.lease.id, client = %self.info.id, kind = leak.kind.as_str(),
                name = leak.name, statements = held.digests(), "leak: a server carries what it should not, and is closed"
            );
            held.lease.break_off("carries what it should not");
        }
    }
}
