//! What the targets share: a small database to judge texts by.

use std::sync::Arc;

use howdah::sql::catalog::{self, Catalog};
use howdah::sql::hidden::Hidden;
use howdah::sql::scan::{Kind, Scanner, Token};

/// A database with a few of everything that statements can touch.
pub fn database() -> Catalog {
    let row = |values: &[&str]| values.iter().map(|value| (*value != "-").then(|| (*value).to_owned())).collect();
    let functions = [
        ["pg_catalog", "lower", "f"],
        ["pg_catalog", "count", "f"],
        ["pg_catalog", "random", "t"],
        ["pg_catalog", "nextval", "t"],
        ["pg_catalog", "set_config", "t"],
        ["public", "writes", "t"],
        ["public", "reads", "f"],
        ["public", "locks", "t"],
    ];
    let relations = [
        ["public", "a", "r", "p", "-", "-"],
        ["public", "quick", "r", "u", "-", "-"],
        ["public", "good", "v", "p", " SELECT a.x FROM a;", "-"],
        ["public", "bad", "v", "p", " SELECT nextval('s'::regclass) AS n;", "-"],
    ];
    let answers =
        [functions.iter().map(|f| row(f)).collect(), relations.iter().map(|r| row(r)).collect(), vec![row(&["@@"])]];
    let code = [["locks".to_owned(), "BEGIN PERFORM pg_advisory_lock(1); END".to_owned()]];
    catalog::build(&answers, (Arc::new(Hidden::new(&code, &[], &[])), "fuzz"), 1)
}

/// `text` with other literals: what must have the same shape. `None` where the values of literals are part of the shape.
pub fn with_other_literals(text: &[u8]) -> Option<Vec<u8>> {
    let tokens: Vec<Token> = Scanner::new(text).collect();
    let (mut other, mut at) = (Vec::new(), 0);
    for token in &tokens {
        let replacement: &[u8] = match token.kind {
            _ if token.is_name(text, "current_setting") => return None,
            Kind::Number => b" 7 ",
            Kind::Text(howdah::sql::scan::Quote::Plain) => b" 'seven' ",
            _ => continue,
        };
        other.extend_from_slice(&text[at..token.start]);
        other.extend_from_slice(replacement);
        at = token.end;
    }
    other.extend_from_slice(&text[at..]);
    Some(other)
}
