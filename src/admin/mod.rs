//! The admin console: the virtual database `howdah`, also known as `pgbouncer`.
//!
//! Bytes of client messages in, bytes of replies out, and now and then an [`Action`] that `app`
//! performs. This room reads what it shows from a [`State`] and holds no handle on anything that
//! runs: it could not stop a pool if it wanted to.

pub mod command;
pub mod console;
pub mod parse;
pub mod rows;
pub mod show;
pub mod state;
mod trivial;

pub use command::{Action, Command, Show, ShutdownMode};
pub use console::{Console, Step};
pub use parse::parse;
pub use state::State;
