//! Stand-in.
use std::time::Instant;

use super::startup::Arrived;
use crate::auth::{Authenticated, Users};
use crate::config::model::AuthMethod;
use crate::protocol::error::Report;
/// Run.
pub async fn run(_: &mut Arrived, _: AuthMethod, _: &Users, user: &str, _: Instant) -> Result<Authenticated, Report> {
    Ok(Authenticated::trusted(user.into()))
}
