//! The walls of the house, as tests: one crate has no others.
//!
//! The layering table, its exceptions and the list of pure rooms are read from `docs/architecture.md`, so the text
//! and the test cannot part. Each rule is a function from one [`Source`] to faults, and each has a test with a bad
//! sample, so that it is known to be able to fail.

#[path = "tidy/source.rs"]
mod source;

use source::{Source, is_word, item_end, paths, under, words};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::Path;

/// Lines a file may have outside its tests.
const LINES_MAX: usize = 500;

// ---------------------------------------------------------------------------------------------------------------
// The house: what docs/architecture.md says
// ---------------------------------------------------------------------------------------------------------------

/// The rules as `docs/architecture.md` states them.
#[derive(Default)]
struct House {
    /// Room to its own level and the range of levels it may import.
    rooms: BTreeMap<String, (u32, Range<u32>)>,
    /// `who` may also import these paths, although its level would not allow it.
    also: Vec<(String, Vec<String>)>,
    /// Of the first path's room, `who` may import only these paths.
    only: Vec<(String, Vec<String>)>,
    /// Rooms and files that do no I/O, read no clock and spawn nothing.
    pure: Vec<String>,
}

impl House {
    fn parse(text: &str) -> Result<Self, String> {
        let mut house = Self::default();
        for line in text.lines() {
            let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
            match cells.as_slice() {
                [level, rooms, may] if level.parse::<u32>().is_ok() => house.add_level(level, rooms, may)?,
                [who, "also", what, _] => house.also.push((ticked(who).concat(), ticked(what))),
                [who, "only", what, _] => house.only.push((ticked(who).concat(), ticked(what))),
                [who, "pure", _] => house.pure.extend(ticked(who)),
                _ => {}
            }
        }
        if house.rooms.is_empty() || house.pure.is_empty() {
            return Err("docs/architecture.md: the layering table or the list of pure rooms is gone".into());
        }
        Ok(house)
    }

    fn add_level(&mut self, level: &str, rooms: &str, may: &str) -> Result<(), String> {
        let fault = |why: &str| format!("docs/architecture.md: level {level}: {why}");
        let level: u32 = level.parse().map_err(|_| fault("not a number"))?;
        let may = match may.split_once('-').unwrap_or((may, may)) {
            ("none", _) => 0..0,
            (low, high) => match (low.parse::<u32>(), high.parse::<u32>()) {
                (Ok(low), Ok(high)) => low..high + 1,
                _ => return Err(fault("`may import` is not `none`, `0` or `0-4`")),
            },
        };
        if may.end > level {
            return Err(fault("may import its own level or a higher one"));
        }
        for room in ticked(rooms) {
            if self.rooms.insert(room.clone(), (level, may.clone())).is_some() {
                return Err(fault(&format!("`{room}` has two levels")));
            }
        }
        Ok(())
    }

    fn is_pure(&self, path: &str) -> bool {
        self.pure.iter().any(|who| lives_in(path, who))
    }
}

/// The `backticked` words of a cell.
fn ticked(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether the file `src/…` is `who` (`cluster/lag.rs`) or lies in the room `who` (`cluster`).
fn lives_in(path: &str, who: &str) -> bool {
    path.strip_prefix("src/").is_some_and(|inner| {
        inner == who || inner.strip_suffix(".rs") == Some(who) || inner.starts_with(&format!("{who}/"))
    })
}

// ---------------------------------------------------------------------------------------------------------------
// The rules
// ---------------------------------------------------------------------------------------------------------------

/// Lower never imports higher, the same level never sideways; exceptions only as written.
fn layering(source: &Source, house: &House) -> Vec<String> {
    let Some(room) = source.room() else { return Vec::new() };
    let mut faults = Vec::new();
    for (at, path) in paths(&source.code) {
        let climbs = path.split("::").take_while(|&part| part == "super").count();
        if climbs > 0 && climbs >= source.depth(at) {
            faults.push(source.fault(at, &format!("`{path}` climbs out of `{room}`: write `crate::…`")));
        }
        let Some(inner) = path.strip_prefix("crate::") else { continue };
        if let Some(why) = forbidden(&source.path, room, inner, house) {
            faults.push(source.fault(at, &format!("`{path}`: {why}")));
        }
    }
    faults
}

/// Why the file `path` of `room` may not import `inner` (a path below `crate`).
fn forbidden(path: &str, room: &str, inner: &str, house: &House) -> Option<String> {
    let target = inner.split("::").next().unwrap_or(inner);
    if target == room {
        return None;
    }
    let Some((_, may)) = house.rooms.get(room) else {
        return Some(format!("`{room}` is missing in the layering table"));
    };
    let Some((level, _)) = house.rooms.get(target) else {
        return Some(format!("`{target}` is no room: name the room that owns it"));
    };
    let narrowed = house.only.iter().find(|(who, what)| lives_in(path, who) && what.iter().any(|w| under(w, target)));
    if let Some((who, what)) = narrowed.filter(|(_, what)| !what.iter().any(|w| under(inner, w))) {
        return Some(format!("of `{target}`, `{who}` may import only {}", what.join(", ")));
    }
    if may.contains(level)
        || house.also.iter().any(|(who, what)| lives_in(path, who) && what.iter().any(|w| under(inner, w)))
    {
        return None;
    }
    Some(format!("`{room}` may import levels {}..{} only, `{target}` is at level {level}", may.start, may.end))
}

/// A room that hands on another room's names blinds [`layering`]; so does `lib.rs` with any re-export.
fn reexports(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for at in words(&source.code, "use") {
        let before = source.code[..at].trim_end();
        let public =
            before.ends_with("pub") || (before.ends_with(')') && before[..before.len() - 1].ends_with("pub(crate"));
        let named = paths(&source.code[at + 3..item_end(&source.code, at)]);
        let own = source.room().map(|room| format!("crate::{room}"));
        let foreign = |path: &str| path.starts_with("crate") && !own.as_ref().is_some_and(|own| under(path, own));
        if public && source.path == "src/lib.rs" {
            faults.push(source.fault(at, "lib.rs re-exports nothing: name the room"));
        } else if public && source.in_src() && named.iter().any(|(_, path)| foreign(path)) {
            faults.push(source.fault(at, "a room does not re-export another room's names"));
        }
    }
    faults
}

/// Pure rooms: bytes, facts and `now` in, decisions out.
fn purity(source: &Source, house: &House) -> Vec<String> {
    const WORDS: [&str; 4] = ["tokio", "async", "spawn", "SystemTime"];
    const PAIRS: [&str; 5] = ["std::net", "std::fs", "Instant::now", "rand::rng", "rand::random"];
    if !house.is_pure(&source.path) {
        return Vec::new();
    }
    let impure = |path: &str| {
        let parts: Vec<&str> = path.split("::").collect();
        let word = parts.iter().find(|part| WORDS.contains(part)).map(|&part| part.to_owned());
        word.or_else(|| parts.windows(2).map(|pair| pair.join("::")).find(|pair| PAIRS.contains(&pair.as_str())))
    };
    let named = paths(&source.code).into_iter().filter_map(|(at, path)| impure(&path).map(|what| (at, what)));
    // `Instant::elapsed` reads the clock too; a field of that name does not.
    let elapsed = source.code.match_indices(".elapsed()").map(|(at, what)| (at, what.to_owned()));
    let outside_tests = named.chain(elapsed).filter(|(at, _)| source.is_production(*at));
    outside_tests.map(|(at, what)| source.fault(at, &format!("`{what}` in a pure room"))).collect()
}

/// Every file says what it is.
fn introduction(source: &Source) -> Vec<String> {
    if source.raw.starts_with("//! ") { Vec::new() } else { vec![source.fault(0, "does not start with `//! `")] }
}

/// No file of the product is longer than one can keep in mind.
fn length(source: &Source) -> Vec<String> {
    let starts = std::iter::once(0).chain(source.raw.match_indices('\n').map(|(at, _)| at + 1));
    let lines = starts.filter(|&at| at < source.raw.len() && source.is_production(at)).count();
    if source.in_src() && lines > LINES_MAX {
        return vec![source.fault(0, &format!("{lines} lines outside tests, at most {LINES_MAX} are allowed"))];
    }
    Vec::new()
}

/// Metric names are spelled in one file, with their help and unit.
fn metric_names(source: &Source) -> Vec<String> {
    if !source.in_src() || source.path == "src/telemetry/names.rs" {
        return Vec::new();
    }
    // `howdah_pools` or `howdah_pools{…} 1`, but no other name that happens to begin like one.
    let spelled = |text: &str| {
        let word = text.trim_start_matches("# TYPE ").split([' ', '{']).next().unwrap_or(text);
        word.strip_prefix("howdah_").is_some_and(|name| !name.is_empty() && name.bytes().all(is_word))
    };
    let strings = source.strings.iter().filter(|(at, text)| source.is_production(*at) && spelled(text));
    strings.map(|(at, text)| source.fault(*at, &format!("metric name {text:?} outside telemetry/names.rs"))).collect()
}

/// What means "not finished", or "this test does not count".
fn leftovers(source: &Source) -> Vec<String> {
    let marker = concat!("FIX", "ME");
    let in_text = words(&source.raw, marker).map(|at| (at, marker));
    let macros = ["dbg!", "todo!", "unimplemented!"];
    let in_code = macros.iter().flat_map(|&word| source.code.match_indices(word).map(move |(at, _)| (at, word)));
    let attributes = ["ignore", "should_panic"]
        .iter()
        .flat_map(|&word| words(&source.code, word).map(move |at| (at, word)))
        .filter(|(at, _)| source.code[..*at].trim_end().ends_with(['[', ',']) && in_attribute(&source.code, *at));
    in_text.chain(in_code).chain(attributes).map(|(at, word)| source.fault(at, &format!("`{word}`"))).collect()
}

/// Whether this offset lies between `#[` and its `]`.
fn in_attribute(code: &str, at: usize) -> bool {
    let before = &code[..at];
    before.rfind("#[").is_some_and(|open| before[open..].matches('[').count() > before[open..].matches(']').count())
}

/// Files that no `mod` leads to, from `lib.rs` and `main.rs` on.
fn unreachable_files(sources: &[Source]) -> Vec<String> {
    let by_path: BTreeMap<&str, &Source> = sources.iter().map(|source| (source.path.as_str(), source)).collect();
    let mut open = vec!["src/lib.rs".to_owned(), "src/main.rs".to_owned()];
    let mut reached = BTreeSet::new();
    while let Some(path) = open.pop() {
        let Some(source) = by_path.get(path.as_str()) else { continue };
        open.extend(
            children(source).into_iter().flat_map(|(child, _)| [format!("{child}.rs"), format!("{child}/mod.rs")]),
        );
        reached.insert(path);
    }
    let lost = sources.iter().filter(|source| source.in_src() && !reached.contains(&source.path));
    lost.map(|source| source.fault(0, "no `mod` leads here")).collect()
}

/// The files (without `.rs`) that `mod x;` lines name, and whether each belongs to production.
fn children(source: &Source) -> Vec<(String, Standing)> {
    let base = source.path.trim_end_matches(".rs");
    let base = ["/mod", "/lib", "/main"].iter().find_map(|root| base.strip_suffix(root)).unwrap_or(base);
    let modules = words(&source.code, "mod").filter_map(|at| {
        let (name, _) = source.code[at + 3..].split_once(';')?;
        let standing = if source.is_production(at) { Standing::Production } else { Standing::Test };
        name.trim().bytes().all(is_word).then(|| (format!("{base}/{}", name.trim()), standing))
    });
    modules.collect()
}

/// Whether a file is part of the product.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Production,
    Test,
}

/// Exceptions that nothing needs any more, and rooms that only one of text and code knows.
fn stale(sources: &[Source], house: &House) -> Vec<String> {
    let modules: BTreeSet<String> = sources.iter().filter_map(|source| source.room().map(str::to_owned)).collect();
    let stated: BTreeSet<String> = house.rooms.keys().cloned().collect();
    let mut faults: Vec<String> = modules
        .symmetric_difference(&stated)
        .map(|room| format!("`{room}`: in src or in the layering table, not in both"))
        .collect();
    for (who, what) in house.also.iter().flat_map(|(who, what)| what.iter().map(move |path| (who, path))) {
        let used = sources.iter().filter(|source| lives_in(&source.path, who)).any(|source| {
            paths(&source.code)
                .iter()
                .any(|(_, path)| path.strip_prefix("crate::").is_some_and(|inner| under(inner, what)))
        });
        if !used {
            faults.push(format!("exception `{who}` also `{what}`: nothing uses it any more"));
        }
    }
    let missing = house.pure.iter().filter(|who| !sources.iter().any(|source| lives_in(&source.path, who)));
    faults.extend(missing.map(|who| format!("pure `{who}`: there is no such room or file")));
    faults
}

// ---------------------------------------------------------------------------------------------------------------
// The house as it stands
// ---------------------------------------------------------------------------------------------------------------

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn collect(directory: &Path, root: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
            collect(&path, root, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            sources.push(Source::new(&name, &read(&path)));
        }
    }
}

/// Every Rust file of the workspace; files behind `#[cfg(test)] mod x;` count as tests.
fn workspace() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for directory in ["src", "tests", "integration", "benches", "fuzz"] {
        collect(&root.join(directory), root, &mut sources);
    }
    let tests: BTreeSet<String> = sources
        .iter()
        .flat_map(children)
        .filter(|(_, standing)| *standing == Standing::Test)
        .flat_map(|(child, _)| [format!("{child}.rs"), format!("{child}/mod.rs")])
        .collect();
    for source in sources.iter_mut().filter(|source| tests.contains(&source.path)) {
        source.tests = std::iter::once(0..source.raw.len()).collect();
    }
    sources
}

fn house() -> House {
    let text = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md"));
    House::parse(&text).unwrap_or_else(|fault| panic!("{fault}"))
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_import_keeps_the_layering_table() {
    let house = house();
    assert_none(&workspace().iter().flat_map(|source| layering(source, &house)).collect::<Vec<_>>());
}

#[test]
fn no_room_hands_on_anothers_names() {
    assert_none(&workspace().iter().flat_map(reexports).collect::<Vec<_>>());
}

#[test]
fn pure_rooms_are_pure() {
    let house = house();
    assert_none(&workspace().iter().flat_map(|source| purity(source, &house)).collect::<Vec<_>>());
}

#[test]
fn every_file_introduces_itself_and_is_short() {
    assert_none(
        &workspace().iter().flat_map(|source| [introduction(source), length(source)].concat()).collect::<Vec<_>>(),
    );
}

#[test]
fn metric_names_live_in_one_file() {
    assert_none(&workspace().iter().flat_map(metric_names).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_over() {
    assert_none(&workspace().iter().flat_map(leftovers).collect::<Vec<_>>());
}

#[test]
fn every_file_is_reached_and_every_exception_needed() {
    let sources = workspace();
    assert_none(&[unreachable_files(&sources), stale(&sources, &house())].concat());
}

// ---------------------------------------------------------------------------------------------------------------
// Each rule can fail
// ---------------------------------------------------------------------------------------------------------------

const SAMPLE_HOUSE: &str = "
| 0 | `types` | none |
| 1 | `sql`, `config` | 0 |
| 2 | `session`, `router` | 0-1 |
| 3 | `server` | 0-2 |
| `server` | only | `session::Carried`, `session::settings` | values |
| `sql/odd.rs` | also | `router::view` | a sample |
| `sql` | pure | text in, class out |
| `server/lag.rs` | pure | samples in |
";

/// A rule for one file.
type Rule<'a> = &'a dyn Fn(&Source) -> Vec<String>;

/// The rule must find exactly one fault, with `needle` in it; none when `needle` is empty.
fn check(rule: Rule<'_>, path: &str, text: &str, needle: &str) {
    let faults = rule(&Source::new(path, text));
    let expected = usize::from(!needle.is_empty());
    assert!(
        faults.len() == expected && faults.concat().contains(needle),
        "{path}: {text:?}: wanted {needle:?}, got {faults:?}"
    );
}

fn sample_house() -> House {
    House::parse(SAMPLE_HOUSE).unwrap_or_else(|fault| panic!("{fault}"))
}

#[test]
fn a_wrong_import_is_seen() {
    let house = sample_house();
    let rule: Rule<'_> = &|source| layering(source, &house);
    check(rule, "src/sql/scan.rs", "use crate::types::Lsn;", "");
    check(rule, "src/sql/scan.rs", "//! See crate::router.\nlet a = \"crate::router::x\";", "");
    check(rule, "src/sql/scan.rs", "\nuse crate::router::route;", "src/sql/scan.rs:2: `crate::router::route`");
    check(rule, "src/sql/scan.rs", "use crate::{types::Lsn, config::{self}};", "`config` is at level 1");
    check(
        rule,
        "src/sql/scan.rs",
        "use crate::{types, session::\n  settings::{A as B}};",
        "`crate::session::settings::A`",
    );
    check(rule, "src/sql/scan.rs", "fn f(x: crate::server::Server) {}", "`server` is at level 3");
    check(rule, "src/session/mod.rs", "use crate::router::Facts;", "`router` is at level 2");
    check(
        rule,
        "src/session/mod.rs",
        "#[cfg(test)] mod tests { use crate::server::Server; }",
        "`server` is at level 3",
    );
    check(rule, "src/session.rs", "use crate::Db;", "`Db` is no room");
    check(rule, "src/attic/mod.rs", "use crate::types::Lsn;", "`attic` is missing");
    check(rule, "src/server/mod.rs", "use crate::session::{Carried, settings::Settings};", "");
    check(rule, "src/server/mod.rs", "use crate::session::Session;", "may import only");
    check(rule, "src/server/mod.rs", "use crate::session::*;", "may import only");
    check(rule, "src/sql/odd.rs", "use crate::router::view::View;", "");
    check(rule, "src/sql/odd.rs", "use crate::router::viewer;", "`router` is at level 2");
    check(rule, "src/sql/scan.rs", "use super::super::router::route;", "climbs out of `sql`");
    check(rule, "src/sql/mod.rs", "use super::router::route;", "climbs out of `sql`");
    check(rule, "src/sql/mod.rs", "mod inner { use super::x; }", "");
    check(rule, "src/sql/scan.rs", "#[cfg(test)]\nmod tests { use super::super::hint; }", "");
}

#[test]
fn a_wrong_table_is_seen() {
    for (text, needle) in [
        ("", "is gone"),
        ("| 1 | `sql` | 0-1 |", "its own level"),
        ("| 1 | `sql` | below |", "is not `none`"),
        ("| 0 | `sql` | none |\n| 1 | `sql` | 0 |", "two levels"),
    ] {
        let Err(fault) = House::parse(text) else { panic!("{text:?} was accepted") };
        assert!(fault.contains(needle), "{text:?}: {fault}");
    }
}

#[test]
fn a_reexport_is_seen() {
    check(&reexports, "src/lib.rs", "pub mod types;\npub use types::Lsn;", "src/lib.rs:2: lib.rs re-exports");
    check(&reexports, "src/sql/mod.rs", "pub use crate::types::Lsn;", "does not re-export");
    check(&reexports, "src/sql/mod.rs", "pub(crate) use crate::types::Lsn;", "does not re-export");
    check(&reexports, "src/sql/mod.rs", "pub use hint::Hint;\npub use crate::sql::scan;\nuse crate::types::Lsn;", "");
}

#[test]
fn impurity_is_seen() {
    let house = sample_house();
    let rule: Rule<'_> = &|source| purity(source, &house);
    check(rule, "src/sql/mod.rs", "fn f(now: Instant) { self.elapsed = now } // tokio, async", "");
    check(rule, "src/sql/mod.rs", "fn f() {}\n#[cfg(test)]\nmod tests { use tokio::test; }", "");
    check(rule, "src/server/mod.rs", "use tokio::net::TcpStream;", "");
    for (text, needle) in [
        ("use tokio::net::TcpStream;", "`tokio`"),
        ("async fn f() {}", "`async`"),
        ("use std::{mem, net::TcpStream};", "`std::net`"),
        ("fn f() { std::fs::read(path) }", "`std::fs`"),
        ("fn f() { std::time::Instant::now() }", "`Instant::now`"),
        ("use std::time::SystemTime;", "`SystemTime`"),
        ("fn f() { since.elapsed() }", "`.elapsed()`"),
        ("fn f() { pool.spawn(work) }", "`spawn`"),
        ("fn f() { rand::rng() }", "`rand::rng`"),
    ] {
        check(rule, "src/sql/scan.rs", text, needle);
        check(rule, "src/server/lag.rs", text, needle);
    }
}

#[test]
fn a_file_without_introduction_or_end_is_seen() {
    check(&introduction, "src/sql/mod.rs", "//! Text in, class out.\n", "");
    check(&introduction, "src/sql/mod.rs", "use std::mem;\n//! Late.", "does not start");
    let long = "fn f() {}\n".repeat(LINES_MAX);
    check(&length, "src/sql/mod.rs", &format!("{long}#[cfg(test)]\nmod tests {{\n\n// Why.\n{long}}}\n"), "");
    check(&length, "src/sql/mod.rs", &format!("{long}fn g() {{}}\n"), "501 lines");
    check(&length, "src/sql/mod.rs", &format!("#[cfg(test)]\nmod early {{\n}}\n{long}fn g() {{}}\n"), "501 lines");
}

#[test]
fn a_metric_name_is_seen() {
    check(&metric_names, "src/pool/mod.rs", "let a = \"howdah_servers\";", "metric name");
    check(&metric_names, "src/pool/mod.rs", "let a = r#\"howdah_servers{node=\"a\"} {n}\"#;", "metric name");
    check(&metric_names, "src/telemetry/names.rs", "let a = \"howdah_servers\";", "");
    check(&metric_names, "src/pool/mod.rs", "f(\"howdah_{n}\", \"howdah_refused\\0\"); // howdah_servers", "");
    check(&metric_names, "src/pool/mod.rs", "#[cfg(test)]\nmod tests { const A: &str = \"howdah_servers\"; }", "");
}

#[test]
fn a_leftover_is_seen() {
    let marker = concat!("// FIX", "ME later");
    for (text, needle) in [
        (marker, "FIX"),
        ("fn f() { dbg!(1) }", "`dbg!`"),
        ("fn f() { todo!() }", "`todo!`"),
        ("fn f() { unimplemented!() }", "`unimplemented!`"),
        ("#[test]\n#[ignore]\nfn f() {}", "`ignore`"),
        ("#[test]\n#[ignore = \"slow\"]\nfn f() {}", "`ignore`"),
        ("#[cfg_attr(unix, ignore)]\nfn f() {}", "`ignore`"),
        ("#[test]\n#[should_panic(expected = \"x\")]\nfn f() {}", "`should_panic`"),
    ] {
        check(&leftovers, "integration/tests/a.rs", text, needle);
    }
    check(&leftovers, "src/a.rs", "// ignore this\nfn ignore() { f(a, ignore, '\"', b'\\'', \"todo!\") }", "");
}

#[test]
fn a_lost_file_and_a_stale_rule_are_seen() {
    let file = Source::new;
    let sources = [
        file("src/lib.rs", "pub mod sql;\nmod types;\n// mod ghost;"),
        file("src/types.rs", "//! Words."),
        file("src/sql/mod.rs", "mod scan { mod x {} }\n#[cfg(test)]\nmod tests;"),
        file("src/sql/tests.rs", "//! Tests."),
        file("src/sql/ghost.rs", "//! Lost."),
    ];
    assert_eq!(unreachable_files(&sources), ["src/sql/ghost.rs:1: no `mod` leads here"]);
    let faults = stale(&sources, &sample_house()).concat();
    for needle in ["`config`: in src", "`sql/odd.rs` also `router::view`", "pure `server/lag.rs`"] {
        assert!(faults.contains(needle), "{needle} not in {faults}");
    }
}
