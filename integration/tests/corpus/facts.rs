//! Howdah's classifier, with catalogs that are loaded as Howdah loads them, whenever there may be something new.

use std::collections::HashMap;
use std::sync::Arc;

use howdah::sql::Analysis;
use howdah::sql::catalog::{self, Catalog};
use howdah::sql::classify::{self, Classifier};
use howdah::sql::hidden::{self, Hidden};
use howdah::sql::reach::Reach;
use howdah::sql::scan::Scanner;
use howdah_integration::node::Node;
use howdah_integration::session::{Login, Rows, rows};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// What is known of the databases of one node.
pub(crate) struct Facts {
    login: Login,
    classifier: Classifier,
    databases: HashMap<String, Database>,
    loads: u64,
}

struct Database {
    client: Client,
    catalog: Arc<Catalog>,
    hidden: (String, Arc<Hidden>),
    is_stale: bool,
}

impl Facts {
    pub(crate) fn new(primary: &Node) -> Self {
        let login = Login::superuser(primary.port);
        Self { login, classifier: Classifier::default(), databases: HashMap::new(), loads: 0 }
    }

    /// Something in `database` may have changed that the classifier goes by.
    pub(crate) fn stale(&mut self, database: &str) {
        if let Some(known) = self.databases.get_mut(database) {
            known.is_stale = true;
        }
    }

    /// What `text` does, and the function or relation that makes it a write.
    pub(crate) async fn analyse(&mut self, database: &str, text: &[u8]) -> (Analysis, Option<String>) {
        if !self.databases.contains_key(database) {
            let client = self.login.clone().database(database).connect().await.expect("the superuser may log in");
            rows(&client, catalog::PATIENCE).await.expect("a setting");
            let hidden = (String::new(), Arc::default());
            let new = Database { client, catalog: Arc::new(Catalog::empty()), hidden, is_stale: true };
            self.databases.insert(database.to_owned(), new);
        }
        let known = self.databases.get_mut(database).expect("it was put there");
        if known.is_stale && goes_by_catalog(text) {
            self.loads += 1;
            known.load(self.loads).await;
        }
        let mut analysis = self.classifier.analyse(text, &known.catalog);
        if known.is_stale {
            // As Howdah has it while definitions change.
            analysis.reach = Reach::EVERYTHING;
        }
        (analysis, classify::culprit(text, &known.catalog))
    }

    /// What a read of the relation `name` in `database` reaches.
    pub(crate) fn alone(&self, database: &str, name: &str) -> Reach {
        let text = format!("SELECT FROM \"{}\"", name.replace('"', "\"\""));
        let known = self.databases.get(database);
        known.map_or(Reach::EVERYTHING, |known| self.classifier.analyse(text.as_bytes(), &known.catalog).reach)
    }

    /// A hash of the positions of all sequences, and the number of advisory locks; none if something is locked.
    pub(crate) async fn elsewhere(&self, database: &str) -> Option<Rows> {
        const STATE: &str = "SELECT sum(hashtextextended(concat(s.schemaname, s.sequencename, s.last_value), 0)), \
             (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') FROM pg_sequences s";
        rows(&self.databases.get(database)?.client, STATE).await.ok()
    }
}

impl Database {
    /// Somebody else's DDL may be in the way; Howdah tries again later and keeps what it has until then.
    async fn load(&mut self, number: u64) {
        let Ok(version) = rows(&self.client, hidden::VERSION).await else { return };
        let version: String = version.concat().into_iter().flatten().collect();
        let mut answers = Vec::new();
        for (index, query) in catalog::QUERIES.iter().enumerate() {
            let answer = match rows(&self.client, query).await {
                Err(error) if index == catalog::RELATIONS && error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                    rows(&self.client, catalog::UNDEFINED).await
                }
                answer => answer,
            };
            let Ok(answer) = answer else { return };
            answers.push(answer);
        }
        if version != self.hidden.0 {
            let (Ok(functions), Ok(triggers)) =
                (rows(&self.client, hidden::QUERIES[0]).await, rows(&self.client, hidden::QUERIES[1]).await)
            else {
                return;
            };
            let definitions = catalog::definitions(&answers[catalog::RELATIONS]);
            self.hidden = (version, Arc::new(Hidden::new(&pairs(functions), &pairs(triggers), &definitions)));
        }
        self.catalog = Arc::new(catalog::build(&answers, (Arc::clone(&self.hidden.1), &self.hidden.0), number));
        self.is_stale = false;
    }
}

fn pairs(rows: Rows) -> Vec<[String; 2]> {
    let pair = |row: Vec<Option<String>>| <[String; 2]>::try_from(row.into_iter().flatten().collect::<Vec<_>>()).ok();
    rows.into_iter().filter_map(pair).collect()
}

/// Whether the class of `text`, or what it reaches, depends on what the database contains.
fn goes_by_catalog(text: &[u8]) -> bool {
    let first = Scanner::new(text).find(|token| !token.is_mark(text, "("));
    let words = ["select", "with", "values", "table", "explain", "copy", "insert", "update", "delete", "merge"];
    first.is_some_and(|first| words.iter().any(|word| first.is_word(text, word)))
}
