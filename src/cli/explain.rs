//! `howdah explain -c FILE "SQL"`: asks the Howdah that runs with this configuration where a statement would go.
//!
//! Only a running one knows its databases and how far its replicas are; the question is `EXPLAIN ROUTE` on its console.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::config::model::{Config, Listen, ServerAddress, ServerTls, SslMode, User};
use crate::config::secret::{Form, Secret};
use crate::net::tls;
use crate::protocol::text::quote_identifier;
use crate::server::connect::{Login, connect};
use crate::server::query::{Direct, Rows};

/// Longest time for the login, and for the answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the password is read from when the configuration has none that can be shown (libpq's variable).
const PASSWORD: &str = "PGPASSWORD";

/// What is to be explained.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration, in YAML, that Howdah runs with
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The database, as clients name it; needed when there are several
    #[arg(short, long)]
    database: Option<String>,
    /// The user, for settings that belong to one
    #[arg(short, long)]
    user: Option<String>,
    /// The statement
    statement: String,
}

/// Prints what the console answers, an item on a line.
pub(super) fn explain(args: &Args, output: &mut dyn Write, errors: &mut dyn Write) -> ExitCode {
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(faults) => return super::refuse(&faults, errors),
    };
    let asked = login(&config).and_then(|login| ask(&login, &question(args)));
    let printed = match &asked {
        Ok(rows) => rows.iter().try_for_each(|row| {
            let value = |column: usize| row.get(column).and_then(Option::as_deref).unwrap_or_default();
            writeln!(output, "{:<16} {}", value(0), value(1))
        }),
        Err(error) => writeln!(errors, "{error}"),
    };
    // A closed pipe (`| head -1`) is no reason to fail.
    drop(printed);
    if asked.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn question(args: &Args) -> String {
    let database = args.database.as_ref().map(|name| format!(" IN {}", quote_identifier(name))).unwrap_or_default();
    let user = args.user.as_ref().map(|name| format!(" AS {}", quote_identifier(name))).unwrap_or_default();
    format!("EXPLAIN ROUTE{database}{user} {}", args.statement)
}

/// How an administrator logs in to the console.
fn login(config: &Config) -> Result<Login, String> {
    let user = config.admin.users.iter().find_map(|name| config.user(name.as_str()));
    let user = user.ok_or("admin.users is empty: nobody may use the console")?;
    let address = config.listen.first().map(address).ok_or("listen is empty: there is no console to ask")?;
    let tls = ServerTls { mode: SslMode::Prefer, ca: None, certificate: None, private_key: None };
    let connector = tls::connector(&tls).map_err(|error| error.to_string())?;
    Ok(Login {
        address,
        connector: Arc::new(connector),
        user: user.name.clone(),
        password: password(user),
        database: "howdah".into(),
        application_name: "howdah explain".into(),
        options: Vec::new(),
        timeout: TIMEOUT,
    })
}

/// The address at which a listener on this machine is reached.
fn address(listen: &Listen) -> ServerAddress {
    match listen {
        Listen::Tcp(address) => {
            let host = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            ServerAddress::Tcp { host: host.to_string().into(), port: address.port() }
        }
        Listen::Unix { directory, port } => ServerAddress::Unix(directory.join(format!(".s.PGSQL.{port}"))),
    }
}

fn password(user: &User) -> Option<Secret> {
    let clear = user.password.clone().filter(|password| password.form() == Form::Clear);
    clear.or_else(|| std::env::var(PASSWORD).ok().map(|password| Secret::new(&password)))
}

fn ask(login: &Login, question: &str) -> Result<Rows, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        let connected = connect(login).await.map_err(|error| {
            let hint = if login.password.is_none() { format!(" ({PASSWORD} is not set)") } else { String::new() };
            format!("the console cannot be asked: {error}{hint}")
        })?;
        let mut console = Direct::new(connected);
        let rows = console.query(question, TIMEOUT).await.map_err(|error| error.to_string());
        console.close().await;
        rows
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked() {
        let ask = |database: Option<&str>, user: Option<&str>| {
            question(&Args {
                config: PathBuf::new(),
                database: database.map(str::to_owned),
                user: user.map(str::to_owned),
                statement: "select 1; -- x".to_owned(),
            })
        };
        assert_eq!(ask(None, None), "EXPLAIN ROUTE select 1; -- x");
        assert_eq!(ask(Some("My \"db\""), Some("bob")), "EXPLAIN ROUTE IN \"My \"\"db\"\"\" AS \"bob\" select 1; -- x");
    }

    #[test]
    fn a_listener_is_reached_on_this_machine() {
        for (listen, expected) in [("0.0.0.0:6432", "127.0.0.1"), ("[::]:6432", "::1"), ("10.1.2.3:6432", "10.1.2.3")] {
            let found = address(&Listen::Tcp(listen.parse().unwrap()));
            assert_eq!(found, ServerAddress::Tcp { host: expected.into(), port: 6432 });
        }
        let unix = Listen::Unix { directory: "/run/howdah".into(), port: 6432 };
        assert_eq!(address(&unix), ServerAddress::Unix("/run/howdah/.s.PGSQL.6432".into()));
    }
}
