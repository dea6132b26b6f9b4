//! Connections of the harness's own, by tokio-postgres.

use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// Rows of a simple query, every value as text.
pub type Rows = Vec<Vec<Option<String>>>;

/// Who logs in where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Loopback port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Database.
    pub database: String,
}

impl Login {
    /// The application's role and database at `port`.
    pub fn app(port: u16) -> Self {
        Self {
            port,
            user: crate::APP_USER.into(),
            password: crate::APP_PASSWORD.into(),
            database: crate::APP_DATABASE.into(),
        }
    }

    /// The superuser in database `postgres` at `port`.
    pub fn superuser(port: u16) -> Self {
        Self {
            port,
            user: crate::SUPERUSER.into(),
            password: crate::SUPERUSER_PASSWORD.into(),
            database: "postgres".into(),
        }
    }

    /// The monitor's role, which is also the administrator of Howdah, in database `howdah`.
    pub fn console(port: u16) -> Self {
        Self {
            port,
            user: crate::MONITOR_USER.into(),
            password: crate::MONITOR_PASSWORD.into(),
            database: "howdah".into(),
        }
    }

    /// The same in another database.
    #[must_use]
    pub fn database(mut self, database: &str) -> Self {
        self.database = database.into();
        self
    }

    /// As tokio-postgres wants it.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .user(&self.user)
            .password(&self.password)
            .dbname(&self.database)
            .connect_timeout(Duration::from_secs(10));
        config
    }

    /// As libpq's programs want it, in the environment.
    pub fn environment(&self) -> [(&'static str, String); 6] {
        [
            ("PGHOST", "127.0.0.1".into()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", self.user.clone()),
            ("PGPASSWORD", self.password.clone()),
            ("PGDATABASE", self.database.clone()),
            ("PGCONNECT_TIMEOUT", "10".into()),
        ]
    }

    /// Logs in; the connection is driven by a task of its own until the client is dropped.
    pub async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = self.config().connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

/// Runs `sql` as a simple query and returns the rows of all its statements.
pub async fn rows(client: &Client, sql: &str) -> Result<Rows, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(String::from)).collect()),
        _ => None,
    });
    Ok(rows.collect())
}

/// Waits for `ready` to become true; panics naming `what` after `deadline`.
pub async fn eventually(what: &str, deadline: Duration, mut ready: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + deadline;
    while !ready().await {
        assert!(tokio::time::Instant::now() < end, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
