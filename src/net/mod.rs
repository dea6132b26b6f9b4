//! Sockets, TLS and buffers. Knows bytes, not messages.

pub mod stream;
