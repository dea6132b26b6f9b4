//! Stand-in.
use crate::types::UserName;
/// Proof.
#[derive(Debug)]
pub struct Authenticated(UserName);
impl Authenticated {
    /// Stand-in.
    pub fn trusted(user: UserName) -> Self {
        Self(user)
    }
    /// Who.
    pub fn user(&self) -> &UserName {
        &self.0
    }
}
/// Stand-in.
#[derive(Debug, Default)]
pub struct Users;
