//! PostgreSQL's frontend/backend protocol as values: bytes in, spans and decisions out.
//!
//! Nothing here reads a socket or a clock, and nothing here decodes a row. See the PostgreSQL
//! manual, chapter "Frontend/Backend Protocol".

pub mod backend;
pub mod columns;
pub mod error;
pub mod frame;
pub mod frontend;
pub mod outbox;
pub mod replies;
pub mod sqlstate;
pub mod startup;
pub mod tag;
pub mod text;
