//! Sockets, TLS and buffers. Knows bytes, not messages.

pub mod buffer;
pub mod certificate;
pub mod deadline;
pub mod listen;
pub mod stream;
pub mod tls;
pub mod trust;
pub mod wire;
