//! What an operator wants, as signals say it: SIGHUP reloads, SIGTERM drains, SIGINT and SIGQUIT end now.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// That the configuration is read again.
    Reload,
    /// That nobody new is let in and Howdah ends when the last client has left.
    Close,
    /// That clients end their transactions and Howdah then ends.
    Drain,
    /// That Howdah ends now.
    Stop,
}

#[derive(Debug)]
pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// The next signal. Cancel safe.
    pub(super) async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.hangup.recv() => Wanted::Reload,
            _ = self.terminate.recv() => Wanted::Drain,
            _ = self.interrupt.recv() => Wanted::Stop,
            _ = self.quit.recv() => Wanted::Stop,
        }
    }
}
