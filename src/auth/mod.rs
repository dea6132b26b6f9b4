//! Proving who somebody is: clients to Howdah, and Howdah to servers.
//!
//! Messages, secrets and random bytes in, messages and a verdict out: no socket, no clock, and no
//! source of randomness of its own.

pub mod md5;
pub mod method;
pub mod respond;
pub mod scram_client;
pub mod scram_server;
pub mod users;
pub mod verifier;

pub use method::{AuthError, Authenticated};
pub use users::Users;
