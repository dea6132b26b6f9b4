//! What clients did and were told.

/// One client connection. A connection made anew is another session, hence another client.
pub type Session = u32;
/// A register or a list. Keys of lists and of registers do not meet.
pub type Key = u32;
/// What a write writes; no two operations write the same.
pub type Value = i64;
/// How many writes a key has had: counted by the primary, under the row's lock. 0 is a key that does not exist.
pub type Version = usize;
/// Nanoseconds since the run began, by the one clock of the process that runs all clients.
pub type Nanos = u64;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who.
    pub session: Session,
    /// By which way.
    pub via: Via,
    /// Right before it was sent.
    pub called: Nanos,
    /// Right after its answer was read.
    pub returned: Nanos,
    /// On what.
    pub key: Key,
    /// What was done, and what came of it.
    pub act: Act,
}

/// Which way an operation took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Through Howdah.
    Howdah,
    /// Straight to the primary, as a writer that Howdah does not know of.
    Direct,
}

/// An operation and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A value was written (a register was set, a list appended to).
    Write(Value, Outcome),
    /// A read; one that failed is not recorded.
    Read(Read),
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Committed as this version.
    Done(Version),
    /// Certainly not committed.
    Failed,
    /// Nobody knows: the connection was lost, or 08007.
    Unknown,
}

/// What a read showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The key's version.
    pub version: Version,
    /// The values of the last versions up to that one: one of a register, all of a list.
    pub values: Vec<Value>,
    /// The node that answered.
    pub node: String,
    /// What it was then.
    pub role: Role,
}

/// What a node was when it answered (`pg_is_in_recovery()`, in the statement itself).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The primary.
    Primary,
    /// A standby.
    Replica,
}

impl Event {
    /// Its read, if it is one.
    pub const fn read(&self) -> Option<&Read> {
        match &self.act {
            Act::Read(read) => Some(read),
            Act::Write(..) => None,
        }
    }
}
