//! Conversations with a session in memory.
