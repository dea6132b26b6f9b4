//! Clients that write and read registers and lists, and write down what they are told.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Statement};

use super::history::{Act, Event, Key, Nanos, Outcome, Read, Role, Session, Via};
use crate::session::{Login, eventually, rows};

/// The tables, and a function that says who answers: bound to a node, and anything but immutable, only behind Howdah's back. Its argument
/// is for the planner, which would call it once and for all without one.
pub const OBJECTS: &str = "
    CREATE TABLE register (k int PRIMARY KEY, version int NOT NULL, value bigint NOT NULL);
    CREATE TABLE list (k int PRIMARY KEY, items bigint[] NOT NULL);
    CREATE FUNCTION served_by(int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
        $$BEGIN RETURN current_setting('cluster_name') || ' ' || pg_is_in_recovery()::text; END$$;
    GRANT ALL ON register, list TO PUBLIC;";

const SET_REGISTER: &str = "INSERT INTO register VALUES ($1, 1, $2) ON CONFLICT (k) DO UPDATE \
    SET version = register.version + 1, value = excluded.value RETURNING version::text";
const APPEND: &str = "INSERT INTO list VALUES ($1, ARRAY[$2::bigint]) ON CONFLICT (k) DO UPDATE \
    SET items = list.items || excluded.items RETURNING cardinality(items)::text";
/// `version value,value…`, and who answered.
const READ_REGISTER: &str =
    "SELECT (SELECT version::text || ' ' || value::text FROM register WHERE k = $1), served_by($1)";
const READ_LIST: &str = "SELECT (SELECT cardinality(items)::text || ' ' || array_to_string(items, ',') FROM list \
    WHERE k = $1), served_by($1)";

/// How many registers there are.
const REGISTERS: u64 = 6;
/// Keys of lists start here.
const LISTS: Key = 1000;
/// About how long a list grows before the next is begun.
const LIST_LENGTH: u64 = 40;
/// An operation that takes longer hangs: no fault lasts nearly as long.
const HANGS: Duration = Duration::from_secs(45);

/// Waits until reads that come to Howdah at `port` go to replicas.
pub async fn settle(port: u16) {
    let client = Login::app(port).connect().await.expect("the application may log in");
    let sql = READ_REGISTER.replace("$1", "0");
    eventually("replicas answer", Duration::from_secs(20), async || {
        rows(&client, &sql).await.is_ok_and(|answer| answer.iter().all(|row| understand(row).role == Role::Replica))
    })
    .await;
}

/// What all clients of a run share.
#[derive(Debug)]
pub struct Ground {
    /// When the run began.
    pub start: Instant,
    /// When it ends at the earliest.
    pub end: Instant,
    /// Whether every fault has happened; before that it does not end, however slow the machine is.
    pub struck: AtomicBool,
    /// Howdah's port.
    pub howdah: u16,
    /// The present primary's.
    pub primary: AtomicU16,
    /// What happened so far.
    pub history: Mutex<Vec<Event>>,
    sessions: AtomicU32,
    values: AtomicU64,
    appends: AtomicU64,
}

impl Ground {
    /// For a run that begins now.
    pub fn new(howdah: u16, primary: u16, lasts: Duration) -> Self {
        let start = Instant::now();
        Self {
            start,
            end: start + lasts,
            struck: AtomicBool::new(false),
            howdah,
            primary: AtomicU16::new(primary),
            history: Mutex::default(),
            sessions: AtomicU32::new(0),
            values: AtomicU64::new(0),
            appends: AtomicU64::new(0),
        }
    }

    /// Whether the run still goes on.
    pub fn goes_on(&self) -> bool {
        !self.struck.load(Ordering::SeqCst) || Instant::now() < self.end
    }

    fn now(&self) -> Nanos {
        u64::try_from(self.start.elapsed().as_nanos()).expect("shorter than five centuries")
    }
}

/// What a client is like.
#[derive(Clone, Copy, Debug)]
pub struct Habit {
    /// Which way it goes.
    pub via: Via,
    /// The protocol it speaks.
    pub protocol: Protocol,
    /// How many of a hundred operations are writes.
    pub writes: u64,
    /// Longest pause between operations, in microseconds.
    pub pause: u64,
}

/// How statements are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A Query message.
    Simple,
    /// Parse, Bind, Execute of the unnamed statement in one go.
    Unnamed,
    /// Bind, Execute of a named statement.
    Prepared,
}

impl Habit {
    /// The `index`th client's of those that go through Howdah: readers, writers and what lies between, in all protocols.
    pub fn of(index: usize) -> Self {
        let protocols = [Protocol::Simple, Protocol::Unnamed, Protocol::Prepared];
        let writes = [0, 50, 20, 5];
        Self {
            via: Via::Howdah,
            protocol: protocols[index % protocols.len()],
            writes: writes[index % writes.len()],
            pause: 4000,
        }
    }

    /// A writer's that Howdah does not know of.
    pub const DIRECT: Self = Self { via: Via::Direct, protocol: Protocol::Simple, writes: 100, pause: 20_000 };
}

/// Chance that can be had again: `SplitMix64`.
#[derive(Clone, Copy, Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Operates until the run ends; a connection that had an error is made anew.
pub async fn client(ground: &Ground, habit: Habit, mut chance: Chance) {
    while ground.goes_on() {
        let port = match habit.via {
            Via::Howdah => ground.howdah,
            Via::Direct => ground.primary.load(Ordering::SeqCst),
        };
        let Ok(client) = Login::app(port).connect().await else {
            // Nobody may be there: a direct writer whose primary is down.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let session = ground.sessions.fetch_add(1, Ordering::SeqCst);
        let connection = Connection { client, statements: HashMap::new(), protocol: habit.protocol };
        let mut of_client = OfClient { ground, session, habit, connection };
        while ground.goes_on() && of_client.operate(&mut chance).await.is_ok() {
            tokio::time::sleep(Duration::from_micros(chance.below(habit.pause))).await;
        }
    }
}

struct OfClient<'a> {
    ground: &'a Ground,
    session: Session,
    habit: Habit,
    connection: Connection,
}

/// Something went wrong: this connection is not used again.
struct Over;

/// What stands around a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    No,
    Yes,
}

impl OfClient<'_> {
    async fn operate(&mut self, chance: &mut Chance) -> Result<(), Over> {
        let list = chance.below(3) == 0;
        let block = if chance.below(8) == 0 { Block::Yes } else { Block::No };
        if chance.below(100) < self.habit.writes {
            let value = i64::try_from(self.ground.values.fetch_add(1, Ordering::SeqCst)).expect("few") + 1;
            let (key, sql) = if list {
                (LISTS + small(self.ground.appends.fetch_add(1, Ordering::SeqCst) / LIST_LENGTH), APPEND)
            } else {
                (small(chance.below(REGISTERS)), SET_REGISTER)
            };
            self.write(key, sql, value, block).await
        } else {
            // The list that grows now, or the one before.
            let newest = small(self.ground.appends.load(Ordering::SeqCst) / LIST_LENGTH);
            let (key, sql) = if list {
                (LISTS + newest.saturating_sub(small(chance.below(2))), READ_LIST)
            } else {
                (small(chance.below(REGISTERS)), READ_REGISTER)
            };
            self.read(key, sql, block).await
        }
    }

    async fn write(&mut self, key: Key, sql: &'static str, value: i64, block: Block) -> Result<(), Over> {
        let called = self.ground.now();
        let attempt = tokio::time::timeout(HANGS, self.connection.write(sql, key, value, block)).await;
        let outcome = attempt.unwrap_or_else(|_| panic!("a write hangs, called at {called} ns"));
        self.record(called, key, Act::Write(value, outcome));
        if matches!(outcome, Outcome::Done(_)) { Ok(()) } else { Err(Over) }
    }

    async fn read(&mut self, key: Key, sql: &'static str, block: Block) -> Result<(), Over> {
        let called = self.ground.now();
        let attempt = tokio::time::timeout(HANGS, self.connection.read(sql, key, block)).await;
        let answer = attempt.unwrap_or_else(|_| panic!("a read hangs, called at {called} ns")).map_err(|_| Over)?;
        let [row] = &answer[..] else { panic!("{sql}: one row, not {answer:?}") };
        self.record(called, key, Act::Read(understand(row)));
        Ok(())
    }

    fn record(&self, called: Nanos, key: Key, act: Act) {
        let returned = self.ground.now();
        let event = Event { session: self.session, via: self.habit.via, called, returned, key, act };
        self.ground.history.lock().expect("not poisoned").push(event);
    }
}

fn small(number: u64) -> Key {
    Key::try_from(number).expect("few")
}

/// `version value,value…`, nothing when there is no such key, and who answered.
fn understand(row: &[Option<String>]) -> Read {
    let state = row[0].as_deref().unwrap_or("0 ");
    let (version, values) = state.split_once(' ').expect("two words");
    let (node, in_recovery) = row[1].as_deref().and_then(|who| who.split_once(' ')).expect("two words");
    Read {
        version: version.parse().expect("a count"),
        values: values.split(',').filter(|value| !value.is_empty()).map(|value| value.parse().expect("ours")).collect(),
        node: node.to_owned(),
        role: if in_recovery == "true" { Role::Replica } else { Role::Primary },
    }
}

// === Statements ===

struct Connection {
    client: Client,
    statements: HashMap<&'static str, Statement>,
    protocol: Protocol,
}

impl Connection {
    async fn write(&mut self, sql: &'static str, key: Key, value: i64, block: Block) -> Outcome {
        if block == Block::Yes && rows(&self.client, "BEGIN").await.is_err() {
            return Outcome::Failed;
        }
        let done = match self.ask(sql, key, Some(value)).await {
            Ok(answer) => answer[0][0].as_ref().and_then(|version| version.parse().ok()).expect("a version"),
            // Nothing is committed without COMMIT.
            Err(error) => return if block == Block::Yes { Outcome::Failed } else { outcome(&error) },
        };
        if block == Block::Yes
            && let Err(error) = rows(&self.client, "COMMIT").await
        {
            return outcome(&error);
        }
        Outcome::Done(done)
    }

    async fn read(&mut self, sql: &'static str, key: Key, block: Block) -> Result<Vec<Row>, Error> {
        if block == Block::Yes {
            rows(&self.client, "BEGIN READ ONLY").await?;
        }
        let answer = self.ask(sql, key, None).await?;
        if block == Block::Yes {
            rows(&self.client, "COMMIT").await?;
        }
        Ok(answer)
    }

    /// The rows, all columns as text.
    async fn ask(&mut self, sql: &'static str, key: Key, value: Option<i64>) -> Result<Vec<Row>, Error> {
        let key = i32::try_from(key).expect("few");
        let values: Vec<(&(dyn ToSql + Sync), Type)> = match &value {
            Some(value) => vec![(&key, Type::INT4), (value, Type::INT8)],
            None => vec![(&key, Type::INT4)],
        };
        let answer = match self.protocol {
            Protocol::Simple => {
                let sql = sql.replace("$1", &key.to_string()).replace("$2", &value.unwrap_or_default().to_string());
                return rows(&self.client, &sql).await;
            }
            Protocol::Unnamed => self.client.query_typed(sql, &values).await?,
            Protocol::Prepared => {
                if !self.statements.contains_key(sql) {
                    let types: Vec<Type> = values.iter().map(|(_, of)| of.clone()).collect();
                    let statement = self.client.prepare_typed(sql, &types).await?;
                    self.statements.insert(sql, statement);
                }
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|(value, _)| *value).collect();
                self.client.query(&self.statements[sql], &values).await?
            }
        };
        Ok(answer.iter().map(|row| (0..row.len()).map(|column| row.get(column)).collect()).collect())
    }
}

/// One row's columns.
type Row = Vec<Option<String>>;

/// What an error says of a write that was sent: only an answer of the server's that is not about its connection is certain.
fn outcome(error: &Error) -> Outcome {
    let certain = error.code().is_some_and(|code| {
        let code = code.code();
        !code.starts_with("08") && !["57P01", "57P02"].contains(&code)
    });
    if certain { Outcome::Failed } else { Outcome::Unknown }
}
