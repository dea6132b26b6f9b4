//! The moment by which something must be done.
//!
//! Knows the clock only.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, error::Elapsed, timeout_at};

/// A moment in the future, or one that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// `duration` from now.
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        let now = Instant::now();
        // A duration too long for the clock is as good as a century.
        Self(now.checked_add(duration).unwrap_or_else(|| now + Duration::from_secs(100 * 365 * 86_400)))
    }

    /// How much time is left; zero when it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Drives `future` until then. Cancel safe when `future` is.
    pub async fn run<F: Future>(self, future: F) -> Result<F::Output, Elapsed> {
        timeout_at(self.0, future).await
    }

    /// The same for I/O: running out of time is [`io::ErrorKind::TimedOut`].
    pub async fn io<T>(self, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        timeout_at(self.0, future).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_what_takes_too_long() {
        let deadline = Deadline::after(Duration::from_secs(1));
        assert_eq!(deadline.run(async { 1 }).await.unwrap(), 1);
        let error = deadline.io(std::future::pending::<io::Result<()>>()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(deadline.remaining(), Duration::ZERO);
        assert!(Deadline::after(Duration::MAX).remaining() > Duration::from_secs(86_400));
    }
}
