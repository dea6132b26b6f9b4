//! The test harness: a real primary with two streaming replicas, Howdah in front, real drivers.
//!
//! ```text
//!   suite ──> Env ──┬── TestCluster ── Node × 3   (initdb'ed template, copied; scram; loopback)
//!                   └── Howdah                    (the built binary, a generated YAML file)
//!   tests/*.rs ──> Env::calls, TestCluster::counters: where a statement ran, as the *nodes* tell it
//! ```
//!
//! The harness knows nothing of Howdah's code: it sees the binary, its configuration file, its
//! sockets and its signals, as a user does. Whatever it started ends with the test process, however
//! that ends (`guard`).
//!
//! | variable | meaning |
//! |---|---|
//! | `PGBIN` | directory of PostgreSQL's binaries; otherwise the newest installed |
//! | `HOWDAH_BIN` | the binary under test; otherwise `howdah` in the build directory |
//! | `HOWDAH_DIRECT=1` | run the driver tests straight against the primary, to test the tests |
//! | `HOWDAH_LOG` | Howdah's log level in tests, `info` otherwise |
//! | `HOWDAH_KEEP=1` | leave data directories and logs behind |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "this crate only runs in tests, and a broken expectation is how a test fails"
)]

pub mod binaries;
pub mod cluster;
pub mod consistency;
pub mod evidence;
pub mod guard;
pub mod howdah;
pub mod memory;
pub mod node;
pub mod ports;
pub mod session;
pub mod settings;
pub mod suite;
pub mod template;
pub mod tools;
pub mod wire;

pub use cluster::TestCluster;
pub use evidence::{Calls, Counters};
pub use howdah::Howdah;
pub use node::Node;
pub use suite::Env;

/// The superuser's name.
pub const SUPERUSER: &str = "postgres";
/// The superuser's password.
pub const SUPERUSER_PASSWORD: &str = "postgres-secret";
/// The role applications use.
pub const APP_USER: &str = "app";
/// Its password.
pub const APP_PASSWORD: &str = "app-secret";
/// The role of Howdah's monitor, member of `pg_monitor`, and of its admin console.
pub const MONITOR_USER: &str = "howdah";
/// Its password.
pub const MONITOR_PASSWORD: &str = "howdah-secret";
/// The applications' database, owned by [`APP_USER`].
pub const APP_DATABASE: &str = "app";
