//! What makes two server connections interchangeable.

use crate::types::{ClusterName, DatabaseName, NodeName, UserName};

/// One pool: a node, a database on it, and the role that its connections log in with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey {
    /// The cluster the node belongs to.
    pub cluster: ClusterName,
    /// The node.
    pub node: NodeName,
    /// The database, as the server calls it.
    pub database: DatabaseName,
    /// The role, as the server calls it.
    pub user: UserName,
}

impl std::fmt::Display for PoolKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}/{}", self.cluster, self.node, self.database, self.user)
    }
}
