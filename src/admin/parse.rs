//! From the text of a query to commands. Pure: it knows the language of the console and nothing else.
//!
//! Key words are compared without regard to case; names of databases are taken as they are written,
//! in quotes or not, as PgBouncer takes them.

use super::command::{Action, Command, Question, Show, ShutdownMode, Trivial, TrivialValue};
use super::trivial;
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::types::{ClientId, DatabaseName};

/// The one command in `sql`; a second one is an error (as in the extended protocol).
pub fn parse(sql: &str) -> Result<Command, Report> {
    let mut commands = parse_all(sql)?;
    match commands.len() {
        1 => Ok(commands.swap_remove(0)),
        _ => Err(Report::error(SqlState::SYNTAX_ERROR, "cannot insert multiple commands into a prepared statement")),
    }
}

/// All commands in `sql`, at least one ([`Command::Empty`] when there is none). When one of them is
/// wrong, none is returned.
pub fn parse_all(sql: &str) -> Result<Vec<Command>, Report> {
    if let Some(asked) = after_word(sql, "explain").and_then(|rest| after_word(rest, "route")) {
        return question(asked).map(|question| vec![Command::Explain(question)]);
    }
    let tokens = tokens(sql)?;
    let statements = tokens.split(|token| *token == Token::Symbol(';')).filter(|statement| !statement.is_empty());
    let commands: Vec<Command> = statements.map(|statement| Words(statement).command()).collect::<Result<_, _>>()?;
    Ok(if commands.is_empty() { vec![Command::Empty] } else { commands })
}

/// A piece of text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A key word, name or number, as it is written.
    Word(String),
    /// A name in double quotes, without them.
    Name(String),
    /// A literal, without its quotes.
    Text(String),
    /// Anything else.
    Symbol(char),
}

/// One statement.
struct Words<'a>(&'a [Token]);

// === impl Words ===

impl Words<'_> {
    fn command(&self) -> Result<Command, Report> {
        let rest = Words(self.0.get(1..).unwrap_or_default());
        match self.word(0).as_deref() {
            Some("show") => rest.show(),
            Some("select") => rest.select(),
            Some("set") => rest.set(),
            Some("pause") => Ok(Command::Act(Action::Pause(rest.optional_database()?))),
            Some("resume") => Ok(Command::Act(Action::Resume(rest.optional_database()?))),
            Some("reconnect") => Ok(Command::Act(Action::Reconnect(rest.optional_database()?))),
            Some("reload") => rest.nothing_more(Command::Act(Action::Reload)),
            Some("kill") => rest.kill(),
            Some("kill_client") => rest.kill_client(),
            Some("shutdown") => rest.shutdown(),
            Some("begin" | "start") => Ok(Command::Begin),
            Some("commit" | "end") => Ok(Command::Commit),
            Some("rollback") if rest.is_to_savepoint() => Ok(Command::Ignored("ROLLBACK")),
            Some("rollback" | "abort") => Ok(Command::Rollback),
            Some("deallocate") => rest.deallocate(),
            Some(word) => ignored(word).map(Command::Ignored).ok_or_else(|| self.unknown()),
            None => Err(self.unknown()),
        }
    }

    fn show(&self) -> Result<Command, Report> {
        let name = self.canonical();
        if name == "help" {
            return Ok(Command::Help);
        }
        if let Some(show) = show(&name) {
            return Ok(Command::Show(show));
        }
        if let Some((column, value)) = trivial::parameter(&name) {
            let value = TrivialValue::Text(value);
            return Ok(Command::Trivial(Trivial { column, value, tag: "SHOW" }));
        }
        Err(Report::error(SqlState::UNDEFINED_OBJECT, format!("unrecognized console parameter \"{name}\""))
            .hint("SHOW HELP lists what can be shown."))
    }

    fn select(&self) -> Result<Command, Report> {
        let text = self.canonical();
        if text == "help" {
            return Ok(Command::Help);
        }
        if let Some(show) = show(&text) {
            return Ok(Command::Show(show));
        }
        let found = trivial::expression(&text)
            .map(|(column, value)| (column, TrivialValue::Text(value)))
            .or_else(|| text.parse().ok().map(|number| ("?column?", TrivialValue::Integer(number))));
        let Some((column, value)) = found else {
            return Err(no_sql());
        };
        Ok(Command::Trivial(Trivial { column, value, tag: "SELECT" }))
    }

    fn set(&self) -> Result<Command, Report> {
        let skip = usize::from(matches!(self.word(0).as_deref(), Some("session" | "local")));
        let Some(name) = self.word(skip) else {
            return Err(self.unknown());
        };
        if trivial::is_driver_setting(&name) {
            return Ok(Command::IgnoredSet);
        }
        Err(Report::error(SqlState::FEATURE_NOT_SUPPORTED, format!("SET {name}: the console changes no settings"))
            .hint("Change the configuration file, then use RELOAD."))
    }

    fn kill(&self) -> Result<Command, Report> {
        let Some(database) = self.optional_database()? else {
            return Err(syntax("KILL needs the name of a database")
                .hint("KILL app; one client is dropped with KILL_CLIENT and its id in SHOW CLIENTS."));
        };
        Ok(Command::Act(Action::Kill(database)))
    }

    fn kill_client(&self) -> Result<Command, Report> {
        let id = match self.0 {
            [Token::Word(id) | Token::Text(id)] => id.parse().ok(),
            _ => None,
        };
        let Some(id) = id else {
            return Err(syntax("KILL_CLIENT needs the number of a client").hint("SHOW CLIENTS has it in column id."));
        };
        Ok(Command::Act(Action::KillClient(ClientId(id))))
    }

    fn shutdown(&self) -> Result<Command, Report> {
        let mode = match self.canonical().as_str() {
            "" => ShutdownMode::Immediate,
            "wait_for_clients" => ShutdownMode::WaitForClients,
            "wait_for_servers" => ShutdownMode::WaitForServers,
            other => {
                return Err(syntax(format!("SHUTDOWN does not know \"{other}\""))
                    .hint("SHUTDOWN, SHUTDOWN WAIT_FOR_CLIENTS or SHUTDOWN WAIT_FOR_SERVERS."));
            }
        };
        Ok(Command::Act(Action::Shutdown(mode)))
    }

    fn deallocate(&self) -> Result<Command, Report> {
        let skip = usize::from(self.word(0).as_deref() == Some("prepare") && self.0.len() > 1);
        match &self.0[skip..] {
            [Token::Word(name)] if name.eq_ignore_ascii_case("all") => Ok(Command::Deallocate(None)),
            [Token::Word(name)] => Ok(Command::Deallocate(Some(name.to_ascii_lowercase()))),
            [Token::Name(name)] => Ok(Command::Deallocate(Some(name.clone()))),
            _ => Err(self.unknown()),
        }
    }

    fn is_to_savepoint(&self) -> bool {
        (0..2).any(|index| self.word(index).as_deref() == Some("to"))
    }

    fn optional_database(&self) -> Result<Option<DatabaseName>, Report> {
        match self.0 {
            [] => Ok(None),
            [Token::Word(name) | Token::Name(name) | Token::Text(name)] => Ok(Some(name.as_str().into())),
            [_, rest @ ..] => Err(Words(rest).unknown()),
        }
    }

    fn nothing_more(&self, command: Command) -> Result<Command, Report> {
        if self.0.is_empty() { Ok(command) } else { Err(self.unknown()) }
    }

    /// The word at `index` in lower case; `None` for anything that is not a word.
    fn word(&self, index: usize) -> Option<String> {
        match self.0.get(index)? {
            Token::Word(word) => Some(word.to_ascii_lowercase()),
            _ => None,
        }
    }

    /// The statement in lower case, its parts divided by single blanks and `pg_catalog.` left out.
    fn canonical(&self) -> String {
        let words: Vec<String> = self.0.iter().map(Token::canonical).collect();
        words.join(" ").replace("pg_catalog . ", "")
    }

    fn unknown(&self) -> Report {
        match self.0.first() {
            Some(token) => syntax(format!("syntax error at or near \"{}\"", token.canonical()))
                .hint("This is Howdah's console. SHOW HELP lists its commands."),
            None => syntax("syntax error at end of input").hint("SHOW HELP lists the commands of the console."),
        }
    }
}

impl Token {
    fn canonical(&self) -> String {
        match self {
            Self::Word(word) => word.to_ascii_lowercase(),
            Self::Name(name) => name.clone(),
            Self::Text(text) => format!("'{text}'"),
            Self::Symbol(symbol) => symbol.to_string(),
        }
    }
}

/// EXPLAIN ROUTE: all that follows is the statement, whatever is in it.
fn question(mut rest: &str) -> Result<Question, Report> {
    let (mut database, mut user) = (None, None);
    if let Some(named) = after_word(rest, "in") {
        let (name, after) = name(named)?;
        (database, rest) = (Some(name.as_str().into()), after);
    }
    if let Some(named) = after_word(rest, "as") {
        let (name, after) = name(named)?;
        (user, rest) = (Some(name.as_str().into()), after);
    }
    if rest.trim().is_empty() {
        return Err(syntax("EXPLAIN ROUTE needs a statement").hint("EXPLAIN ROUTE [IN database] [AS user] statement"));
    }
    Ok(Question { database, user, statement: rest.trim().to_owned() })
}

/// What follows `word`, in any case, at the beginning of `text`.
fn after_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let text = text.trim_start();
    let (first, rest) = text.split_at_checked(word.len())?;
    (first.eq_ignore_ascii_case(word) && !rest.starts_with(is_word)).then_some(rest)
}

/// The name that `text` begins with, and what follows it.
fn name(text: &str) -> Result<(String, &str), Report> {
    let text = text.trim_start();
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => quoted(text, quote),
        Some(first) if is_word(first) => {
            let end = text.find(|character| !is_word(character)).unwrap_or(text.len());
            Ok((text[..end].to_owned(), &text[end..]))
        }
        _ => Err(syntax("a name is missing").hint("EXPLAIN ROUTE [IN database] [AS user] statement")),
    }
}

fn show(name: &str) -> Option<Show> {
    Show::ALL.iter().find(|(word, _)| *word == name).map(|&(_, show)| show)
}

/// The command tag of what pools and drivers send around the real work.
fn ignored(word: &str) -> Option<&'static str> {
    match word {
        "discard" => Some("DISCARD ALL"),
        "reset" => Some("RESET"),
        "unlisten" => Some("UNLISTEN"),
        "close" => Some("CLOSE CURSOR ALL"),
        "savepoint" => Some("SAVEPOINT"),
        "release" => Some("RELEASE"),
        _ => None,
    }
}

fn syntax(message: impl Into<String>) -> Report {
    Report::error(SqlState::SYNTAX_ERROR, message)
}

fn no_sql() -> Report {
    Report::error(SqlState::SYNTAX_ERROR, "the console runs no SQL")
        .hint("Connect to another database for SQL. SHOW HELP lists the commands of the console.")
}

// === Tokens ===

fn tokens(sql: &str) -> Result<Vec<Token>, Report> {
    let mut rest = sql;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
        } else if rest.starts_with("--") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("/*") {
            rest = after_comment(rest)?;
        } else if first == '\'' || first == '"' {
            let (text, after) = quoted(rest, first)?;
            tokens.push(if first == '"' { Token::Name(text) } else { Token::Text(text) });
            rest = after;
        } else if is_word(first) {
            let end = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        } else {
            tokens.push(Token::Symbol(first));
            rest = &rest[first.len_utf8()..];
        }
    }
    Ok(tokens)
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_' || character == '$'
}

/// What follows the comment that `text` begins with; comments nest.
fn after_comment(text: &str) -> Result<&str, Report> {
    let (mut depth, mut at) = (0usize, 0usize);
    while at + 1 < text.len() {
        match &text.as_bytes()[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Ok(&text[at..]);
        }
    }
    Err(syntax("unterminated comment"))
}

/// The text in the quotes that `text` begins with, and what follows them; a doubled quote stands for one.
fn quoted(text: &str, quote: char) -> Result<(String, &str), Report> {
    let mut content = String::new();
    let mut rest = &text[1..];
    while let Some(end) = rest.find(quote) {
        content.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        if !rest.starts_with(quote) {
            return Ok((content, rest));
        }
        content.push(quote);
        rest = &rest[1..];
    }
    Err(syntax("unterminated quoted string"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(sql: &str, expected: &Command) {
        assert_eq!(parse(sql).as_ref(), Ok(expected), "{sql}");
    }

    fn refused(sql: &str, code: SqlState, part: &str) {
        let report = parse(sql).expect_err(sql);
        assert_eq!(report.code, code, "{sql}");
        assert!(report.message.contains(part), "{sql}: {}", report.message);
    }

    #[test]
    fn every_table_can_be_shown_and_selected() {
        for (name, show) in Show::ALL {
            check(&format!("SHOW {}", name.to_uppercase()), &Command::Show(*show));
            check(&format!("select {name};"), &Command::Show(*show));
        }
        check("/* a /* nested */ comment */ show -- it\n help ;;", &Command::Help);
    }

    #[test]
    fn commands_with_and_without_arguments() {
        for (sql, action) in [
            ("PAUSE", Action::Pause(None)),
            ("pause App", Action::Pause(Some("App".into()))),
            ("RESUME \"we\"\"ird db\"", Action::Resume(Some("we\"ird db".into()))),
            ("reconnect 'app';", Action::Reconnect(Some("app".into()))),
            ("RELOAD", Action::Reload),
            ("KILL app", Action::Kill("app".into())),
            ("KILL_CLIENT 42", Action::KillClient(ClientId(42))),
            ("KILL_CLIENT '42'", Action::KillClient(ClientId(42))),
            ("SHUTDOWN", Action::Shutdown(ShutdownMode::Immediate)),
            ("shutdown wait_for_clients", Action::Shutdown(ShutdownMode::WaitForClients)),
            ("SHUTDOWN WAIT_FOR_SERVERS", Action::Shutdown(ShutdownMode::WaitForServers)),
        ] {
            check(sql, &Command::Act(action));
        }
    }

    #[test]
    fn statements_to_be_explained_are_taken_as_they_are() {
        let asks = |sql: &str, database: Option<&str>, user: Option<&str>, statement: &str| {
            let (database, user) = (database.map(Into::into), user.map(Into::into));
            check(sql, &Command::Explain(Question { database, user, statement: statement.to_owned() }));
        };
        asks("EXPLAIN ROUTE SELECT ';' -- x", None, None, "SELECT ';' -- x");
        asks("explain route in app select 1; delete from t;", Some("app"), None, "select 1; delete from t;");
        asks(
            "explain  route\nin \"my db\" as 'bob' /* howdah: primary */ select 1",
            Some("my db"),
            Some("bob"),
            "/* howdah: primary */ select 1",
        );
        asks("explain route insert into t values (1)", None, None, "insert into t values (1)");
        refused("EXPLAIN ROUTE", SqlState::SYNTAX_ERROR, "needs a statement");
        refused("EXPLAIN ROUTE IN ; select 1", SqlState::SYNTAX_ERROR, "name is missing");
        refused("EXPLAIN SELECT 1", SqlState::SYNTAX_ERROR, "near \"explain\"");
    }

    #[test]
    fn what_drivers_say_is_tolerated() {
        let text = |column, value, tag| Command::Trivial(Trivial { column, value: TrivialValue::Text(value), tag });
        check("", &Command::Empty);
        check(" ; -- nothing", &Command::Empty);
        check("begin isolation level serializable", &Command::Begin);
        check("START TRANSACTION", &Command::Begin);
        check("END", &Command::Commit);
        check("ROLLBACK", &Command::Rollback);
        check("SAVEPOINT \"_pg3_1\"", &Command::Ignored("SAVEPOINT"));
        check("ROLLBACK TO \"_pg3_1\"", &Command::Ignored("ROLLBACK"));
        check("ROLLBACK WORK TO SAVEPOINT a", &Command::Ignored("ROLLBACK"));
        check("SET extra_float_digits = 3", &Command::IgnoredSet);
        check("set session timezone to 'UTC'", &Command::IgnoredSet);
        check("SET TIME ZONE 'UTC'", &Command::IgnoredSet);
        check("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", &Command::IgnoredSet);
        check("DISCARD ALL", &Command::Ignored("DISCARD ALL"));
        check("DEALLOCATE ALL", &Command::Deallocate(None));
        check("DEALLOCATE PREPARE \"_P1\"", &Command::Deallocate(Some("_P1".to_owned())));
        check("deallocate S_1", &Command::Deallocate(Some("s_1".to_owned())));
        check("SHOW client_encoding", &text("client_encoding", "UTF8", "SHOW"));
        check("SHOW TRANSACTION ISOLATION LEVEL", &text("transaction_isolation", "read committed", "SHOW"));
        check("select pg_catalog.current_schema()", &text("current_schema", "public", "SELECT"));
        let one = Trivial { column: "?column?", value: TrivialValue::Integer(1), tag: "SELECT" };
        check("SELECT 1", &Command::Trivial(one));
    }

    #[test]
    fn what_is_wrong_is_said() {
        refused("SHOW nonsense", SqlState::UNDEFINED_OBJECT, "\"nonsense\"");
        refused("SELECT * FROM pg_class", SqlState::SYNTAX_ERROR, "runs no SQL");
        refused("INSERT INTO t VALUES (1)", SqlState::SYNTAX_ERROR, "near \"insert\"");
        refused("SET pool_size = 5", SqlState::FEATURE_NOT_SUPPORTED, "changes no settings");
        refused("KILL", SqlState::SYNTAX_ERROR, "needs the name of a database");
        refused("KILL_CLIENT x", SqlState::SYNTAX_ERROR, "needs the number");
        refused("PAUSE a b", SqlState::SYNTAX_ERROR, "near \"b\"");
        refused("RELOAD now", SqlState::SYNTAX_ERROR, "near \"now\"");
        refused("SHUTDOWN softly", SqlState::SYNTAX_ERROR, "\"softly\"");
        refused("SHOW 'x", SqlState::SYNTAX_ERROR, "unterminated");
        refused("/* /* */ SHOW pools", SqlState::SYNTAX_ERROR, "unterminated");
        refused("SHOW pools; SHOW stats", SqlState::SYNTAX_ERROR, "multiple commands");
    }

    #[test]
    fn several_commands_all_or_none() {
        let both = [Command::Show(Show::Pools), Command::Act(Action::Reload)];
        assert_eq!(parse_all("SHOW POOLS; RELOAD;").unwrap(), both);
        assert!(parse_all("RELOAD; nonsense").is_err());
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(sql in "\\PC{0,60}", soup in "[-/*'\"; a-zé\\n]{0,40}") {
            let _ = parse_all(&sql);
            let _ = parse_all(&soup);
        }
    }
}
