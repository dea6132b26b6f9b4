//! LISTEN for many clients with few connections: one to the primary for each database and encoding that somebody
//! listens in.
//!
//! ```text
//!   client --LISTEN--> Subscription --> hub <-- listener -- Feed -- PostgreSQL
//!      ^                                 |
//!      +---------- mailbox <-------------+   each notification, to all who listen to its channel
//! ```
//!
//! A client's own server only judges its LISTEN; that nobody else hears what it would bring is the relay's promise.
//! What a client listens to when its transaction commits is the session's business, when it is told the client's.

pub mod hub;
pub mod listener;
pub mod mailbox;
pub mod subscription;
