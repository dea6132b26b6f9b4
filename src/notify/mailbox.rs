//! Notifications that wait for one client: in order, and no more than may be.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::sync::Notify;

use crate::protocol::backend::message;
use crate::protocol::tag::backend as tag;

/// What a notification costs beyond its text, in bytes.
const OVERHEAD: usize = 64;

/// One notification.
#[derive(Debug, PartialEq, Eq)]
pub struct Notification {
    /// The body of its message: the sender's process, the channel, the payload.
    body: BytesMut,
    /// Where the channel ends in the body.
    channel: usize,
    /// Its number among all that the hub has had.
    pub(super) number: u64,
}

impl Notification {
    /// The notification with this message's body; `None` when it is none.
    #[must_use]
    pub(super) fn open(body: BytesMut, number: u64) -> Option<Self> {
        let channel = body.get(4..)?.iter().position(|&byte| byte == 0)? + 4;
        Some(Self { body, channel, number })
    }

    /// Its channel.
    #[must_use]
    pub fn channel(&self) -> &[u8] {
        &self.body[4..self.channel]
    }

    /// The server process that sent it.
    #[must_use]
    pub fn process_id(&self) -> i32 {
        self.body.first_chunk().map_or(0, |bytes| i32::from_be_bytes(*bytes))
    }

    /// Its number among all that the hub has had.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Appends it to `out` as a `NotificationResponse` from `process_id`.
    pub fn encode(&self, process_id: i32, out: &mut BytesMut) {
        message(out, tag::NOTIFICATION_RESPONSE, |out| {
            out.put_i32(process_id);
            out.put_slice(&self.body[4..]);
        });
    }
}

/// Something that waits for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A notification.
    Notification(Arc<Notification>),
    /// Here some may be missing; with the number of the hub's next notification.
    Gap(u64),
}

/// What was in a mailbox.
#[derive(Debug, PartialEq, Eq)]
pub enum Mail {
    /// This, the oldest first.
    Items(VecDeque<Item>),
    /// More than may be: it was thrown away.
    TooMuch,
}

/// A client's mailbox.
#[derive(Debug)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    /// Most bytes.
    limit: usize,
    /// The client has taken what there was.
    emptied: Notify,
}

#[derive(Debug)]
struct Inner {
    mail: Mail,
    bytes: usize,
    /// Wakes the client.
    waker: Option<Waker>,
    patience: Patience,
}

/// Whether a mailbox that fills is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// It is: its client may just not have had the time.
    Some,
    /// It was, and its client has taken nothing.
    None,
}

/// Whether a mailbox took something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    /// It did, and is half full: it is better to wait a little.
    Fills,
    /// It is full, and has just become so.
    Overflowed,
    /// It has been full for a while.
    No,
}

impl Mailbox {
    /// An empty one, for at most `limit` bytes.
    #[must_use]
    pub(super) fn new(limit: usize) -> Self {
        let mail = Mail::Items(VecDeque::new());
        let inner = Inner { mail, bytes: 0, waker: None, patience: Patience::Some };
        Self { inner: Mutex::new(inner), limit, emptied: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, item: Item) -> Taken {
        let mut inner = self.lock();
        let size = match &item {
            Item::Notification(notification) => notification.body.len() + OVERHEAD,
            Item::Gap(_) => OVERHEAD,
        };
        let after = inner.bytes + size;
        let fills = after > self.limit / 2 && inner.patience == Patience::Some;
        let taken = match &mut inner.mail {
            Mail::TooMuch => return Taken::No,
            Mail::Items(_) if after > self.limit => {
                inner.mail = Mail::TooMuch;
                Taken::Overflowed
            }
            Mail::Items(items) => {
                items.push_back(item);
                inner.bytes = after;
                if fills { Taken::Fills } else { Taken::Yes }
            }
        };
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        taken
    }

    /// Waits for the client to take what is there, but not for long, and not again before it has taken something.
    pub(super) async fn have_patience(&self, patience: Duration) {
        let emptied = self.emptied.notified();
        if self.lock().bytes > self.limit / 2 && tokio::time::timeout(patience, emptied).await.is_err() {
            self.lock().patience = Patience::None;
        }
    }

    /// Ready when something waits; until then the task is woken by what comes.
    pub fn poll_mail(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.mail != Mail::Items(VecDeque::new()) {
            return Poll::Ready(());
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ready when more came than may wait; until then the task is woken by what comes.
    pub fn poll_too_much(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.mail == Mail::TooMuch {
            return Poll::Ready(());
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// All that waits.
    pub fn take(&self) -> Mail {
        let mut inner = self.lock();
        match &mut inner.mail {
            Mail::TooMuch => Mail::TooMuch,
            Mail::Items(items) => {
                let items = std::mem::take(items);
                inner.bytes = 0;
                inner.patience = Patience::Some;
                self.emptied.notify_waiters();
                Mail::Items(items)
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::notify) fn body(process_id: i32, channel: &str, payload: &str) -> BytesMut {
        let mut body = BytesMut::new();
        body.put_i32(process_id);
        body.put_slice(format!("{channel}\0{payload}\0").as_bytes());
        body
    }

    #[test]
    fn a_notification_is_what_its_message_says() {
        let notification = Notification::open(body(7, "ear", "news"), 3).unwrap();
        assert_eq!((notification.channel(), notification.process_id()), (&b"ear"[..], 7));
        let mut out = BytesMut::new();
        notification.encode(9, &mut out);
        assert_eq!(&out[..], b"A\0\0\0\x11\0\0\0\x09ear\0news\0");
        assert_eq!(Notification::open(BytesMut::from(&b"\0\0\0\x01ear"[..]), 0), None);
        assert_eq!(Notification::open(BytesMut::new(), 0), None);
    }

    #[test]
    fn mail_is_bounded_and_waits_in_order() {
        let one = |payload| Item::Notification(Arc::new(Notification::open(body(1, "a", payload), 1).unwrap()));
        let mailbox = Mailbox::new(2 * (8 + OVERHEAD));
        assert_eq!((mailbox.put(one("1")), mailbox.put(one("2"))), (Taken::Yes, Taken::Fills));
        assert_eq!(mailbox.take(), Mail::Items([one("1"), one("2")].into()));
        assert_eq!(mailbox.take(), Mail::Items(VecDeque::new()));
        assert_eq!((mailbox.put(one("3")), mailbox.put(one("4"))), (Taken::Yes, Taken::Fills));
        assert_eq!((mailbox.put(one("5")), mailbox.put(one("6"))), (Taken::Overflowed, Taken::No));
        assert_eq!((mailbox.take(), mailbox.take()), (Mail::TooMuch, Mail::TooMuch));
    }

    #[tokio::test]
    async fn what_comes_wakes_who_waits() {
        let mailbox = Arc::new(Mailbox::new(1000));
        let waits = Arc::clone(&mailbox);
        let waiting = tokio::spawn(async move { std::future::poll_fn(|cx| waits.poll_mail(cx)).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        mailbox.put(Item::Gap(1));
        waiting.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_mailbox_that_fills_is_waited_for_once() {
        let one = || Item::Notification(Arc::new(Notification::open(body(1, "a", "1"), 1).unwrap()));
        let mailbox = Mailbox::new(10 * (8 + OVERHEAD));
        let fill = || (0..6).map(|_| mailbox.put(one())).last().unwrap();
        let begun = tokio::time::Instant::now();
        let patience = Duration::from_secs(1);
        mailbox.have_patience(patience).await;
        assert_eq!((fill(), begun.elapsed()), (Taken::Fills, Duration::ZERO));
        // A client that takes what there is, and one that does not.
        tokio::join!(mailbox.have_patience(patience), async { mailbox.take() });
        assert_eq!((fill(), begun.elapsed()), (Taken::Fills, Duration::ZERO));
        mailbox.have_patience(patience).await;
        assert_eq!((mailbox.put(one()), begun.elapsed()), (Taken::Yes, patience));
        mailbox.take();
        assert_eq!(fill(), Taken::Fills);
    }
}
