//! Sockets, TLS and buffers. Knows bytes, not messages.

pub mod buffer;
pub mod stream;
pub mod tls;
pub mod wire;
