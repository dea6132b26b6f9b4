//! What is asked of a node and what its answers mean. One connection to one incarnation of one node.
//!
//! Everything asked here is allowed to a role with no rights but `pg_monitor`; without that, the
//! state and timeline of WAL receivers stay unknown and the control file's timeline is used.
//! Knows nothing of roles beyond what the node says of itself.

use std::time::Duration;

use super::position::Geometry;
use super::roles::{Claim, Kind, SystemId};
use super::tail::Written;
use crate::protocol::sqlstate::SqlState;
use crate::server::connect::{ConnectError, Login, connect};
use crate::server::query::{Direct, QueryError};
use crate::types::{Lsn, Timeline};

/// A connection to a node that has said who it is.
#[derive(Debug)]
pub(super) struct Probe {
    direct: Direct,
    timeout: Duration,
    system: SystemId,
    geometry: Geometry,
    version: u32,
}

/// Everything a node says in one round trip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) claim: Claim,
    pub(super) version: u32,
    pub(super) position: Position,
}

/// Where a node stands in the WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// A primary: where its WAL ends.
    Primary(Written),
    /// A standby.
    Standby(Standby),
}

/// What a standby says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standby {
    /// `None` when it has replayed nothing from a stream or archive yet.
    pub(super) replayed: Option<Lsn>,
    pub(super) received: Option<Lsn>,
    /// State of the WAL receiver; `None` when there is none, or it must not be seen.
    pub(super) receiver: Option<String>,
    pub(super) replay: ReplayState,
}

/// Whether a standby replays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplayState {
    /// It does.
    Running,
    /// Somebody has asked it to pause.
    Paused,
}

/// Why a node could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Query(#[from] QueryError),
    #[error("it took longer than monitor.timeout ({} ms)", .0.as_millis())]
    TimedOut(Duration),
    #[error("its answer to `{0}` makes no sense")]
    Senseless(&'static str),
    /// It is not what it was when it was last looked at.
    #[error("it has changed its role")]
    Changed,
}

type Row = Vec<Option<String>>;

const INTRODUCE: &str = "SELECT current_setting('server_version_num'), c.system_identifier, \
    i.bytes_per_wal_segment, i.wal_block_size FROM pg_control_system() c, pg_control_init() i";

/// What a primary must not be asked stands behind CASE, as does what only a primary may be: the functions are
/// volatile, so nothing is evaluated in advance. The replay position comes before the timeline that
/// is being received: a standby that changes its timeline in between is then seen on the new one.
macro_rules! look {
    ($paused:literal) => {
        concat!(
            "SELECT pg_is_in_recovery(), ",
            "CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END, ",
            "CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_insert_lsn()) END, ",
            "pg_last_wal_replay_lsn(), pg_last_wal_receive_lsn(), ",
            "CASE WHEN pg_is_in_recovery() THEN ",
            $paused,
            " END, ",
            "(SELECT received_tli FROM pg_stat_wal_receiver), (SELECT status FROM pg_stat_wal_receiver), ",
            "greatest((SELECT timeline_id FROM pg_control_checkpoint()), ",
            "(SELECT min_recovery_end_timeline FROM pg_control_recovery())), ",
            "CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END"
        )
    };
}

/// Since PostgreSQL 14.
const LOOK_14: &str = look!("pg_get_wal_replay_pause_state() <> 'not paused'");
const LOOK_10: &str = look!("pg_is_wal_replay_paused()");

const SAMPLE: &str = "SELECT pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn()";

/// Makes a primary flush its WAL, unless it has flushed up to `end` meanwhile.
///
/// Before PostgreSQL 17 only a commit can be asked for that. An empty message is the least that it can
/// have to commit; where WAL is decoded, subscribers could see it, so there it is a transaction id only,
/// which wakes the WAL writer (`XLogSetAsyncXactLSN`) and has it flush within `wal_writer_delay`.
/// No commit of ours is to wait for standbys, nor not to flush at all.
fn flush(end: Lsn) -> String {
    format!(
        "SELECT set_config('synchronous_commit', 'local', true), \
         CASE WHEN pg_current_wal_flush_lsn() >= '{end}' THEN NULL \
         WHEN current_setting('wal_level') = 'logical' THEN txid_current()::text \
         ELSE pg_logical_emit_message(true, 'howdah', '')::text END"
    )
}

const REPLAYED: &str =
    "SELECT pg_last_wal_replay_lsn(), pg_is_in_recovery(), (SELECT received_tli FROM pg_stat_wal_receiver)";

impl Probe {
    /// Connects, logs in and asks who is there, all within `timeout`, which later questions have too.
    pub(super) async fn open(login: &Login, timeout: Duration) -> Result<Self, ProbeError> {
        let opening = async {
            let mut direct = Direct::new(connect(login).await?);
            let rows = direct.query(INTRODUCE, timeout).await?;
            Ok::<_, ProbeError>((direct, rows))
        };
        let (direct, rows) =
            tokio::time::timeout(timeout, opening).await.map_err(|_| ProbeError::TimedOut(timeout))??;
        let (version, system, geometry) = introduction(&rows).ok_or(ProbeError::Senseless(INTRODUCE))?;
        Ok(Self { direct, timeout, system, geometry, version })
    }

    /// Waits until the server says something unasked, closes the connection or breaks it. Cancel safe.
    pub(super) async fn stirs(&self) {
        // An error is news as well: the next question will find it.
        let _ = self.direct.readable().await;
    }

    /// Asks everything.
    pub(super) async fn look(&mut self) -> Result<Look, ProbeError> {
        let sql = if self.version >= 140_000 { LOOK_14 } else { LOOK_10 };
        let rows = self.direct.query(sql, self.timeout).await?;
        let (kind, timeline, position) = looked(&rows, self.geometry).ok_or(ProbeError::Senseless("look"))?;
        Ok(Look { claim: Claim { system: self.system, kind, timeline }, version: self.version, position })
    }

    /// Asks a primary where its WAL ends.
    pub(super) async fn sample(&mut self) -> Result<Written, ProbeError> {
        let rows = self.direct.query(SAMPLE, self.timeout).await?;
        let row = rows.first().ok_or(ProbeError::Senseless(SAMPLE))?;
        written(row, 0, 1, self.geometry).ok_or(ProbeError::Senseless(SAMPLE))
    }

    /// Has a primary flush its WAL up to `end`.
    pub(super) async fn flush(&mut self, end: Lsn) -> Result<(), ProbeError> {
        self.direct.query(&flush(end), self.timeout).await?;
        Ok(())
    }

    /// Asks a standby that is on `timeline` how far it has replayed.
    pub(super) async fn replayed(&mut self, timeline: Option<Timeline>) -> Result<Option<Lsn>, ProbeError> {
        let rows = self.direct.query(REPLAYED, self.timeout).await?;
        let row = rows.first().ok_or(ProbeError::Senseless(REPLAYED))?;
        let receiving = number(row, 2).map(Timeline);
        if text(row, 1) != Some("t") || (receiving.is_some() && receiving != timeline) {
            return Err(ProbeError::Changed);
        }
        Ok(lsn(row, 0))
    }
}

// === Answers ===

fn introduction(rows: &[Row]) -> Option<(u32, SystemId, Geometry)> {
    let row = rows.first()?;
    let geometry = Geometry { segment: number(row, 2)?, block: number(row, 3)? };
    // A bigint: identifiers above 2^63 are shown negative.
    let system: i64 = number(row, 1)?;
    let sound = geometry.segment > 0 && geometry.block > 0;
    sound.then_some((number(row, 0)?, SystemId(system.cast_unsigned()), geometry))
}

fn looked(rows: &[Row], geometry: Geometry) -> Option<(Kind, Option<Timeline>, Position)> {
    let row = rows.first()?;
    if text(row, 0)? == "f" {
        // A WAL file's name starts with its timeline in hexadecimal (XLogFileName).
        let timeline = u32::from_str_radix(text(row, 2)?.get(..8)?, 16).ok()?;
        let position = Position::Primary(written(row, 1, 9, geometry)?);
        return Some((Kind::Primary, Some(Timeline(timeline)), position));
    }
    let standby = Standby {
        replayed: lsn(row, 3),
        received: lsn(row, 4),
        receiver: text(row, 7).map(str::to_owned),
        replay: if text(row, 5)? == "t" { ReplayState::Paused } else { ReplayState::Running },
    };
    let timeline = number(row, 6).max(number(row, 8)).map(Timeline);
    Some((Kind::Standby, timeline, Position::Standby(standby)))
}

fn written(row: &Row, next: usize, flushed: usize, geometry: Geometry) -> Option<Written> {
    Some(Written { end: geometry.end_of_record(lsn(row, next)?), flushed: lsn(row, flushed)? })
}

fn text(row: &Row, column: usize) -> Option<&str> {
    row.get(column)?.as_deref()
}

fn lsn(row: &Row, column: usize) -> Option<Lsn> {
    text(row, column)?.parse().ok()
}

fn number<T: std::str::FromStr>(row: &Row, column: usize) -> Option<T> {
    text(row, column)?.parse().ok()
}

impl ProbeError {
    /// Whether the server said that it is starting up or shutting down (57P03).
    pub(super) fn is_starting(&self) -> bool {
        matches!(self, Self::Connect(ConnectError::Server { report, .. }) if report.code == SqlState::CANNOT_CONNECT_NOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row whose columns are separated by `|`; nothing between is NULL.
    fn rows(text: &str) -> Vec<Row> {
        vec![text.split('|').map(|value| (!value.is_empty()).then(|| value.to_owned())).collect()]
    }

    const USUAL: Geometry = Geometry { segment: 16 << 20, block: 8192 };

    #[test]
    fn a_primary_says_where_its_wal_ends() {
        let looked = looked(&rows("f|0/4002018|0000000A0000000000000004||||||1|0/4001000"), USUAL);
        let written = Written { end: "0/4002000".parse().unwrap(), flushed: "0/4001000".parse().unwrap() };
        assert_eq!(looked, Some((Kind::Primary, Some(Timeline(10)), Position::Primary(written))));
    }

    #[test]
    fn a_standby_says_how_far_it_is() {
        let standby = |received: Option<&str>, receiver: Option<&str>, replay| {
            Position::Standby(Standby {
                replayed: Some("0/5".parse().unwrap()),
                received: received.map(|lsn| lsn.parse().unwrap()),
                receiver: receiver.map(str::to_owned),
                replay,
            })
        };
        for (row, timeline, position) in [
            ("t|||0/5|0/6|f|3|streaming|2", Some(3), standby(Some("0/6"), Some("streaming"), ReplayState::Running)),
            // Without a WAL receiver, or without pg_monitor: the control file.
            ("t|||0/5|0/6|t|||2", Some(2), standby(Some("0/6"), None, ReplayState::Paused)),
            ("t|||0/5||f||waiting|", None, standby(None, Some("waiting"), ReplayState::Running)),
        ] {
            let expected = Some((Kind::Standby, timeline.map(Timeline), position));
            assert_eq!(looked(&rows(row), USUAL), expected, "{row}");
        }
    }

    #[test]
    fn answers_that_make_no_sense_are_none() {
        for row in [
            "",
            "t",
            "f|0/5|",
            "f|x|000000010000000000000004||||||1",
            "f|0/5|zz||||||1",
            "f|0/5|000000010000000000000004||||||1|",
        ] {
            assert_eq!(looked(&rows(row), USUAL), None, "{row}");
        }
        assert_eq!(looked(&[], USUAL), None);
        for row in ["150000|7|16777216|0", "150000|7|0|8192", "150000|x|16777216|8192", "150000"] {
            assert_eq!(introduction(&rows(row)), None, "{row}");
        }
        let expected = Some((150_000, SystemId(u64::MAX), USUAL));
        assert_eq!(introduction(&rows("150000|-1|16777216|8192")), expected);
    }
}
