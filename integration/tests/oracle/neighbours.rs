//! Other clients of the same pool, who make sure that a script hardly ever gets the same server twice, and that every
//! server it gets has been somebody else's: with their settings, their role, their prepared statements.
//!
//! They also watch: what a script leaves behind on a server is found by whoever gets that server next. Each knows what
//! its session must look like, asks the server time and again, and complains when it is told anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use howdah_integration::session::Login;
use howdah_integration::wire::{Message, Wire, describe, error_code, first_column};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::script::exchange;

/// How many there are: two for each server.
pub(crate) const COUNT: usize = 4;

/// The one that sets nothing, and so sees all that others have left: settings of its own would hide it.
const WATCHER: usize = COUNT - 1;

/// None takes more turns: whatever happens, they come to an end.
const TURNS: u64 = 1_000_000;

/// How long an answer may take. A script that is stuck is given up before.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two turns, so that a script finds a server free, and not always the same one.
const PAUSE: Duration = Duration::from_millis(1);

/// How often each looks at its session before a script is held to have left nothing.
const LOOKS: u64 = 2;

/// What each sets: a name, then values as they are set and as `pg_settings` shows them. No value is a default.
const SETTINGS: [(&str, [(&str, &str); 3]); 10] = [
    ("application_name", [("'next door'", "next door"), ("'upstairs'", "upstairs"), ("'outside'", "outside")]),
    ("work_mem", [("'1111kB'", "1111"), ("'2222kB'", "2222"), ("'3MB'", "3072")]),
    ("search_path", [("nowhere", "nowhere"), ("pg_catalog, nowhere", "pg_catalog, nowhere"), ("''", "\"\"")]),
    ("DateStyle", [("'German, DMY'", "German, DMY"), ("'SQL, DMY'", "SQL, DMY"), ("'Postgres, YMD'", "Postgres, YMD")]),
    (
        "TimeZone",
        [("'Asia/Tokyo'", "Asia/Tokyo"), ("'America/Lima'", "America/Lima"), ("'Asia/Kathmandu'", "Asia/Kathmandu")],
    ),
    (
        "IntervalStyle",
        [("iso_8601", "iso_8601"), ("sql_standard", "sql_standard"), ("postgres_verbose", "postgres_verbose")],
    ),
    ("extra_float_digits", [("-5", "-5"), ("0", "0"), ("3", "3")]),
    ("statement_timeout", [("'91s'", "91000"), ("'92s'", "92000"), ("'93s'", "93000")]),
    ("default_transaction_read_only", [("on", "on"), ("yes", "on"), ("true", "on")]),
    ("enable_seqscan", [("off", "off"), ("no", "off"), ("false", "off")]),
];

/// What each prepares: a text, the values bound to it, and the first column of what it gives. Scripts use most of
/// them too, since servers know statements by their text.
const TEXTS: [(&str, &str, Option<&str>); 9] = [
    ("SELECT 1", "", Some("1")),
    ("SELECT 2", "", Some("2")),
    ("SELECT $1::int", "7", Some("7")),
    ("SELECT 1 AS n", "", Some("1")),
    ("SELECT 'of the neighbours'", "", Some("of the neighbours")),
    ("SELECT i FROM generate_series(3, 3) i", "", Some("3")),
    ("SELECT * FROM oracle.t WHERE id = 1", "", None),
    ("SELECT count(*) FROM oracle.t", "", None),
    ("SHOW work_mem", "", None),
];

/// Errors of those texts when the scripts' schema is being made anew, or is not the neighbour's to read.
const ABSENT: [&str; 6] = ["42P01", "3F000", "42501", "XX000", "40P01", "55P03"];

/// Errors that a neighbour meets with patience: no server free, or its server was taken from it.
const QUIET: [&str; 9] = ["53300", "53400", "57P01", "57P02", "57P03", "57P05", "08000", "08006", "08007"];

/// What a session is, as the server sees it. What Howdah itself prepares is its own affair.
const LOOK: &str = "SELECT concat_ws('; ', current_user, \
    (SELECT string_agg(name || '=' || setting, ', ' ORDER BY name COLLATE \"C\") FROM pg_settings \
        WHERE source = 'session' AND setting IS DISTINCT FROM reset_val AND name NOT LIKE 'transaction%'), \
    (SELECT 'temporary: ' || string_agg(relname, ', ') FROM pg_class WHERE relnamespace = pg_my_temp_schema()), \
    (SELECT 'prepared: ' || string_agg(name, ', ') FROM pg_prepared_statements WHERE from_sql), \
    (SELECT 'cursors: ' || string_agg(name, ', ') FROM pg_cursors WHERE is_holdable), \
    (SELECT 'channels: ' || string_agg(c, ', ') FROM pg_listening_channels() c), \
    (SELECT 'locks: ' || count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() \
        HAVING count(*) > 0))";

/// What the neighbours are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Restful,
    Noisy,
    Leaving,
}

/// The neighbours. Dropped, they are gone at once.
#[derive(Debug)]
pub(crate) struct Neighbours {
    tasks: JoinSet<()>,
    mood: watch::Sender<Mood>,
    book: Arc<Book>,
}

/// What they write down.
#[derive(Debug, Default)]
struct Book {
    complaints: Mutex<Vec<String>>,
    transactions: [AtomicU64; COUNT],
    looks: [AtomicU64; COUNT],
}

impl Neighbours {
    /// Lets them in at `login`. They rest until the first [`Self::wake`].
    pub(crate) fn invite(login: &Login) -> Self {
        let (mood, _) = watch::channel(Mood::Restful);
        let book = Arc::new(Book::default());
        let mut tasks = JoinSet::new();
        for number in 0..COUNT {
            let neighbour = Neighbour { number, login: login.clone(), book: Arc::clone(&book), session: None };
            tasks.spawn(Box::pin(neighbour.live(mood.subscribe())));
        }
        Self { tasks, mood, book }
    }

    /// From now on they are at it.
    pub(crate) fn wake(&self) {
        self.mood.send_replace(Mood::Noisy);
    }

    /// Waits until each has looked at its session again, has them rest, and tells what they complain about.
    pub(crate) async fn rest(&self) -> Vec<String> {
        let looks = || self.book.looks.iter().map(|count| count.load(Ordering::Relaxed));
        let until: Vec<u64> = looks().map(|count| count + LOOKS).collect();
        let end = tokio::time::Instant::now() + PATIENCE;
        while looks().zip(&until).any(|(count, until)| count < *until) {
            if tokio::time::Instant::now() > end {
                self.book.complain("neighbours get no server any more".into());
                break;
            }
            if !self.book.complaints.lock().unwrap().is_empty() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.mood.send_replace(Mood::Restful);
        std::mem::take(&mut *self.book.complaints.lock().unwrap())
    }

    /// What they complained about has been dealt with.
    pub(crate) fn forget_complaints(&self) {
        self.book.complaints.lock().unwrap().clear();
    }

    /// They leave, each after at least `turns` transactions.
    pub(crate) async fn dismiss(mut self, turns: u64) {
        self.mood.send_replace(Mood::Leaving);
        let all_gone = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(PATIENCE * 2, all_gone).await.expect("the neighbours leave when told to");
        for (number, count) in self.book.transactions.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            assert!(count >= turns, "neighbour {number} did {count} transactions, and {turns} is the least");
        }
    }
}

impl Book {
    /// What is wrong with a server each of them finds again and again: the first to say so are enough.
    fn complain(&self, about: String) {
        let mut complaints = self.complaints.lock().unwrap();
        if complaints.len() < COUNT {
            complaints.push(about);
        }
    }
}

/// Why a turn came to nothing.
enum Trouble {
    /// Nobody's fault: another connection, another try.
    Lost,
    /// An answer that PostgreSQL would not have given.
    Wrong(String),
}

/// One of them.
struct Neighbour {
    number: usize,
    login: Login,
    book: Arc<Book>,
    session: Option<Session>,
}

/// A connection, and what is in force on it.
struct Session {
    wire: Wire,
    settings: BTreeMap<&'static str, &'static str>,
    role: &'static str,
    prepared: BTreeSet<usize>,
}

impl Neighbour {
    async fn live(mut self, mut mood: watch::Receiver<Mood>) {
        for turn in 0..TURNS {
            match mood.wait_for(|mood| *mood != Mood::Restful).await.map(|mood| *mood) {
                Ok(Mood::Noisy) => {}
                _ => return,
            }
            match self.take_turn(turn).await {
                Ok(()) => {}
                Err(Trouble::Lost) => self.session = None,
                Err(Trouble::Wrong(text)) => {
                    self.session = None;
                    self.book.complain(format!("neighbour {}: {text}", self.number));
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn take_turn(&mut self, turn: u64) -> Result<(), Trouble> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(Session::begin(&self.login).await?),
        };
        // Each is elsewhere in the same round, and sets and prepares another thing in every one.
        let choice = usize::try_from(turn).unwrap_or_default() + 7 * self.number;
        match choice % 8 {
            act if act % 4 == 0 || (act % 2 == 1 && self.number == WATCHER) => {
                session.look().await?;
                self.book.looks[self.number].fetch_add(1, Ordering::Relaxed);
            }
            1 => session.set(choice / 8).await?,
            2 => session.prepare_anew(choice / 8).await?,
            3 => session.set_in_a_transaction(choice / 8).await?,
            5 => session.fail(choice / 8).await?,
            6 => session.use_prepared(choice / 8).await?,
            _ => session.change_role().await?,
        }
        self.book.transactions[self.number].fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Session {
    async fn begin(login: &Login) -> Result<Self, Trouble> {
        let login = login.clone();
        // A login that is refused panics, and here that means: later.
        let connecting = tokio::spawn(Box::pin(async move { Wire::connect(&login).await }));
        let Ok(wire) = connecting.await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            return Err(Trouble::Lost);
        };
        Ok(Self { wire, settings: BTreeMap::new(), role: howdah_integration::APP_USER, prepared: BTreeSet::new() })
    }

    /// Is the session what it should be?
    async fn look(&mut self) -> Result<(), Trouble> {
        let heard = self.say(&format!("Q {LOOK}"), &[]).await?;
        let mut settings: Vec<String> = self.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        settings.sort_unstable();
        let mut expected = vec![self.role.to_owned()];
        expected.extend(Some(settings.join(", ")).filter(|text| !text.is_empty()));
        must_be(&heard, &expected.join("; "), "the session")
    }

    async fn set(&mut self, choice: usize) -> Result<(), Trouble> {
        let (name, values) = &SETTINGS[choice % SETTINGS.len()];
        if choice % 5 == 4 {
            self.say(&format!("Q RESET {name}"), &[]).await?;
            self.settings.remove(name);
            return Ok(());
        }
        let (value, shown) = values[choice / SETTINGS.len() % values.len()];
        self.say(&format!("Q SET {name} = {value}"), &[]).await?;
        self.settings.insert(name, shown);
        Ok(())
    }

    async fn set_in_a_transaction(&mut self, choice: usize) -> Result<(), Trouble> {
        let (name, values) = &SETTINGS[choice % SETTINGS.len()];
        let (value, shown) = values[choice / SETTINGS.len() % values.len()];
        let (local, _) = values[(choice / SETTINGS.len() + 1) % values.len()];
        self.say("Q BEGIN", &[]).await?;
        self.say(&format!("Q SET {name} = {value}"), &[]).await?;
        self.say(&format!("Q SET LOCAL {name} = {local}"), &[]).await?;
        self.say("Q COMMIT", &[]).await?;
        self.settings.insert(name, shown);
        Ok(())
    }

    /// An error takes back what was set before it.
    async fn fail(&mut self, choice: usize) -> Result<(), Trouble> {
        let (name, values) = &SETTINGS[choice % SETTINGS.len()];
        let (value, _) = values[choice % values.len()];
        self.say("Q BEGIN", &[]).await?;
        self.say(&format!("Q SET {name} = {value}"), &[]).await?;
        self.say("X SELECT 1/0 | S", &["22012"]).await?;
        self.say("Q ROLLBACK", &[]).await?;
        Ok(())
    }

    async fn prepare_anew(&mut self, choice: usize) -> Result<(), Trouble> {
        let (text, values, expected) = TEXTS[choice % TEXTS.len()];
        let allowed: &[&str] = if text.contains("oracle") { &ABSENT } else { &[] };
        let line = format!("C S s | P s {text} | D S s | B - s {values} | E - | S");
        let heard = self.say(&line, allowed).await?;
        expected.map_or(Ok(()), |expected| must_be(&heard, expected, text))
    }

    /// A statement that was prepared once, whichever server is there now.
    async fn use_prepared(&mut self, choice: usize) -> Result<(), Trouble> {
        let at = choice % TEXTS.len();
        let (text, values, expected) = TEXTS[at];
        // One that scripts change the table of would not have to work for ever.
        let Some(expected) = expected else { return Ok(()) };
        if !self.prepared.contains(&at) {
            self.say(&format!("P kept{at} {text} | S"), &[]).await?;
            self.prepared.insert(at);
        }
        let heard = self.say(&format!("B - kept{at} {values} | E - | S"), &[]).await?;
        must_be(&heard, expected, text)
    }

    async fn change_role(&mut self) -> Result<(), Trouble> {
        if self.role == howdah_integration::APP_USER {
            self.say("Q SET ROLE oracle_neighbour", &[]).await?;
            self.role = "oracle_neighbour";
        } else {
            self.say("Q RESET ROLE", &[]).await?;
            self.role = howdah_integration::APP_USER;
        }
        Ok(())
    }

    /// Says a line and hears the answers. Errors other than `allowed` ones are trouble.
    async fn say(&mut self, line: &str, allowed: &[&str]) -> Result<Vec<Message>, Trouble> {
        let exchange = exchange(line);
        if self.wire.try_send(&exchange.send).await.is_err() {
            return Err(Trouble::Lost);
        }
        let mut heard = Vec::new();
        loop {
            match tokio::time::timeout(PATIENCE, self.wire.next_or_end()).await {
                Ok(Some(message)) => heard.push(message),
                Ok(None) => break,
                Err(_) => return Err(Trouble::Wrong(format!("{line}: no answer"))),
            }
            if heard.last().is_some_and(|message| message.tag == b'Z') {
                break;
            }
        }
        let is_over = heard.last().is_none_or(|message| message.tag != b'Z');
        match error_code(&heard) {
            None if is_over => Err(Trouble::Lost),
            None => Ok(heard),
            Some(code) if QUIET.contains(&code.as_str()) => Err(Trouble::Lost),
            Some(code) if allowed.contains(&code.as_str()) && !is_over => Ok(heard),
            Some(_) => {
                let error = heard.iter().find(|message| message.tag == b'E').map(describe);
                Err(Trouble::Wrong(format!("{line}: {}", error.unwrap_or_default())))
            }
        }
    }
}

fn must_be(heard: &[Message], expected: &str, what: &str) -> Result<(), Trouble> {
    let got = first_column(heard).join(", ");
    if got == expected {
        return Ok(());
    }
    Err(Trouble::Wrong(format!("{what}: expected {expected}, got {got}")))
}
