//! Stand-in.
/// C.
#[derive(Debug, Default)]
pub struct Catalog;
