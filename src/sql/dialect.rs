//! What PostgreSQL knows and the parser does not, said in words that both know: `FROM a*`, which is how `FROM a` was
//! spelled before there was `ONLY`; `FROM ONLY a`, which reads some of what `FROM a` reads; `TABLE a`; `VARIADIC` in
//! front of an argument; and `(f(x)).*`, which calls what `(f(x))` calls.

use super::scan::{Kind, Scanner, Token};

/// Words that begin no operand of `*`, since PostgreSQL reserves them, and may follow the name of a relation.
const ENDS: [&str; 12] =
    ["where", "group", "order", "having", "limit", "offset", "fetch", "union", "intersect", "except", "window", "as"];

/// `text`, a normal form, in those words; `None` if it has nothing of the kind.
///
/// A star that might multiply stays, so that nothing else is said without it. The words are reserved, and mean nothing else.
pub(super) fn translate(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let tokens: Vec<Token> = Scanner::new(bytes).collect();
    let (mut out, mut from, mut depth) = (String::new(), 0, 0_usize);
    for (at, token) in tokens.iter().enumerate() {
        let (before, next) = (&tokens[..at], tokens.get(at + 1));
        let last = before.last();
        let instead = match token.bytes(bytes) {
            b"*" if follows_relation(bytes, before, depth, next) => Some(""),
            b"." if is_expanded(bytes, last, next) => Some(""),
            b"*" if at >= 2 && is_expanded(bytes, tokens.get(at - 2), Some(token)) && is_dot(bytes, last) => Some(""),
            b"only" if last.is_some_and(|word| introduces(bytes, word)) => Some(""),
            b"variadic" if last.is_some_and(|mark| mark.is_mark(bytes, "(") || mark.is_mark(bytes, ",")) => Some(""),
            b"table" if last.is_none_or(|word| ends_before_query(bytes, word)) => Some("select * from"),
            _ => None,
        };
        if let Some(instead) = instead {
            out.push_str(&text[from..token.start]);
            out.push_str(instead);
            from = token.end;
        } else if token.is_mark(bytes, "(") {
            depth += 1;
        } else if token.is_mark(bytes, ")") {
            depth = depth.saturating_sub(1);
        }
    }
    (from > 0).then(|| out + &text[from..])
}

fn is_dot(text: &[u8], token: Option<&Token>) -> bool {
    token.is_some_and(|token| token.is_mark(text, "."))
}

/// Whether a dot between `last` and `next` expands a composite value.
fn is_expanded(text: &[u8], last: Option<&Token>, next: Option<&Token>) -> bool {
    last.is_some_and(|last| last.is_mark(text, ")")) && next.is_some_and(|next| next.is_mark(text, "*"))
}

/// Whether a query may begin behind `last`.
fn ends_before_query(text: &[u8], last: &Token) -> bool {
    ["(", ";"].iter().any(|mark| last.is_mark(text, mark))
        || ["union", "intersect", "except", "all"].iter().any(|word| last.is_word(text, word))
}

/// Whether a relation may be named behind `word`.
fn introduces(text: &[u8], word: &Token) -> bool {
    ["from", "join", "table"].iter().any(|it| word.is_word(text, it)) || word.is_mark(text, ",")
}

/// Whether a star between `before` and `next` stands behind the name of a relation.
fn follows_relation(text: &[u8], before: &[Token], depth: usize, next: Option<&Token>) -> bool {
    let is_name = |token: &Token| matches!(token.kind, Kind::Word | Kind::Quoted);
    let Some((_, mut rest)) = before.split_last().filter(|(last, _)| is_name(last)) else { return false };
    if let [start @ .., schema, dot] = rest
        && dot.is_mark(text, ".")
        && is_name(schema)
    {
        rest = start;
    }
    let Some((word, start)) = rest.split_last().filter(|(word, _)| introduces(text, word)) else { return false };
    let Some(next) = next else { return true };
    let ends =
        [")", ",", ";"].iter().any(|mark| next.is_mark(text, mark)) || ENDS.iter().any(|word| next.is_word(text, word));
    // An alias. In parentheses FROM may belong to EXTRACT or SUBSTRING, outside of them to IS DISTINCT.
    let of_query =
        word.is_word(text, "from") && depth == 0 && !start.last().is_some_and(|it| it.is_word(text, "distinct"));
    ends || (of_query && is_name(next))
}

#[cfg(test)]
mod tests {
    use super::super::normal;
    use super::*;

    #[test]
    fn the_parser_is_spared_what_it_does_not_know() {
        for (text, expected) in [
            ("select * from a*", Some("select * from a")),
            ("select * from a* where x = 1;", Some("select * from a where x = 1 ;")),
            ("select * from public.\"A b\"*, b* order by 1", Some("select * from public . \"A b\" , b order by 1")),
            ("select p.x from a* p order by 1", Some("select p . x from a p order by 1")),
            ("select (select x from a*)", Some("select ( select x from a )")),
            ("select * from only a, only b left join only c on true", Some("select * from a , b left join c on true")),
            ("table a", Some("select * from a")),
            (
                "select 1 union all table only a; (table b*)",
                Some("select 1 union all select * from a ; ( select * from b )"),
            ),
            ("select f(1, variadic array[1]), g(variadic $1)", Some("select f ( 1 , array [ 1 ] ) , g ( $1 )")),
            ("select (f(x)).*, 1 from a", Some("select ( f ( x ) ) , 1 from a")),
            ("select (f(x)).y * 2, (1) * 2", None),
            ("lock table a", None),
            ("select x * y from a", None),
            ("select x from a fetch first row only", None),
            ("select \"only\" from \"only\"", None),
            ("select x is distinct from a * b", None),
            ("select extract(year from x * y)", None),
            ("select a, b * c from d", None),
            ("select distinct * from a", None),
            ("select count(*), a.* from a", None),
            ("select 1 from a, b * 2", None),
        ] {
            let normal = normal::text(text.as_bytes()).unwrap();
            let found = translate(&normal).map(|text| normal::text(text.as_bytes()).unwrap().trim().to_owned());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
