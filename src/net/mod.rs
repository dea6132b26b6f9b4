//! Sockets, TLS and buffers. Knows bytes, not messages.

pub mod certificate;
pub mod deadline;
pub mod listen;
pub mod stream;
pub mod tls;
pub mod trust;
