//! Sockets, TLS and buffers. Knows bytes, not messages.

pub mod buffer;
pub mod certificate;
pub mod deadline;
pub mod listen;
pub mod stream;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;
pub mod trust;
pub mod wire;
pub mod worker;
