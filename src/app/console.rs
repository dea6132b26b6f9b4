//! Stand-in.
use super::signals::Wanted;
use crate::client::listener::{Console, Visit};
use crate::client::services::Services;
use std::sync::Arc;
use tokio::sync::mpsc;
pub(crate) struct Order;
pub(super) struct Desk;
impl Desk {
    pub(super) fn new(_: Arc<Services>, _: mpsc::Sender<Order>) -> Self {
        Self
    }
}
impl Console for Desk {
    fn serve(&self, _: Visit) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async {})
    }
}
impl super::App {
    pub(super) fn obey(&mut self, _: Order) -> Option<Wanted> {
        None
    }
}
