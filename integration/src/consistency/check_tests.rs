use super::*;

/// A history in lines: `session way called-returned key act`, where an act is `w VALUE VERSION`, `w VALUE ?` (unknown),
/// `w VALUE !` (failed), or `r VERSION VALUES ROLE` (`P` or `S`). Times are in nanoseconds.
fn history(text: &str) -> Vec<Event> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(event).collect()
}

fn event(line: &str) -> Event {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (called, returned) = words[2].split_once('-').unwrap();
    let act = match words[4] {
        "w" => {
            let outcome = match words[6] {
                "?" => Outcome::Unknown,
                "!" => Outcome::Failed,
                version => Outcome::Done(version.parse().unwrap()),
            };
            Act::Write(words[5].parse().unwrap(), outcome)
        }
        _ => Act::Read(Read {
            version: words[5].parse().unwrap(),
            values: words[6].split(',').filter_map(|value| value.parse().ok()).collect(),
            node: "n".into(),
            role: if words[7] == "P" { Role::Primary } else { Role::Replica },
        }),
    };
    Event {
        session: words[0].parse().unwrap(),
        via: if words[1] == "d" { Via::Direct } else { Via::Howdah },
        called: called.parse().unwrap(),
        returned: returned.parse().unwrap(),
        key: words[3].parse().unwrap(),
        act,
    }
}

/// Two writes, the second by another session and one by a writer that Howdah does not know; what comes after is up to each test.
const WRITES: &str = "
    1 h 10-20 7 w 100 1
    2 h 30-40 7 w 200 2
    3 d 50-60 7 w 300 3
    ";

/// Judges what comes after [`WRITES`] at each level, weakest first; `max_lag` is 1000.
fn judge(text: &str) -> [Vec<Violation>; 4] {
    let history = history(&format!("{WRITES}{text}"));
    Level::ALL.map(|level| check(&history, level, 1000))
}

fn assert_sound(text: &str) {
    assert_eq!(judge(text), [const { Vec::new() }; 4], "{text}");
}

/// The levels at which something is wrong, by their first letters; every violation must be of the kind expected.
fn wrong_at(text: &str, kind: impl Fn(&Violation) -> bool) -> String {
    let found = judge(text);
    assert!(found.iter().flatten().all(kind), "{found:?}");
    Level::ALL
        .iter()
        .zip(&found)
        .filter(|(_, found)| !found.is_empty())
        .map(|(level, _)| &level.as_str()[..1])
        .collect()
}

fn stale(violation: &Violation) -> bool {
    matches!(violation, Violation::Stale { .. })
}

fn backwards(violation: &Violation) -> bool {
    matches!(violation, Violation::Backwards { .. })
}

#[test]
fn fresh_reads_are_sound() {
    assert_sound("4 h 70-80 7 r 3 300 S");
    assert_sound("4 h 70-80 7 r 3 100,200,300 S");
    assert_sound("4 h 55-80 7 r 2 200 S\n 4 h 90-95 7 r 3 300 P");
    // Another key knows nothing of this one.
    assert_sound("4 h 70-80 8 r 0 - S");
}

#[test]
fn a_write_that_had_returned_is_missed() {
    assert_eq!(wrong_at("4 h 70-80 7 r 2 200 S", stale), "s");
    assert_eq!(wrong_at("4 h 70-80 7 r 1 100 S", stale), "ds");
    assert_eq!(wrong_at("2 h 70-80 7 r 1 100 S", stale), "sds");
    assert_eq!(wrong_at("4 h 2000-2010 7 r 2 200 S", stale), "esds");
    assert_eq!(wrong_at("4 h 70-80 7 r 0 - S", stale), "ds");
}

#[test]
fn a_read_while_the_write_is_under_way_may_miss_it() {
    assert_sound("4 h 15-80 7 r 0 - S");
    assert_sound("4 h 60-80 7 r 2 200 S");
    assert_eq!(wrong_at("4 h 61-80 7 r 2 200 S", stale), "s");
}

#[test]
fn reads_do_not_go_back() {
    // Another session's write under way: who has seen it goes on seeing it, everybody does where that is promised.
    let seen = "5 h 90-400 7 w 400 4\n 4 h 100-110 7 r 4 400 S\n";
    assert_eq!(wrong_at(&format!("{seen}4 h 120-130 7 r 3 300 S"), backwards), "sds");
    assert_eq!(wrong_at(&format!("{seen}6 h 120-130 7 r 3 300 S"), backwards), "s");
    assert_sound(&format!("{seen}6 h 105-130 7 r 3 300 S"));
}

#[test]
fn a_standby_may_be_ahead_of_the_primary_and_the_primary_not_of_itself() {
    let open = "5 h 90-400 7 w 400 4\n";
    assert_sound(&format!("{open}4 h 100-110 7 r 4 400 S\n 4 h 120-130 7 r 3 300 P"));
    let by_primary = format!("{open}4 h 100-110 7 r 4 400 P\n 4 h 120-130 7 r 3 300 P");
    assert_eq!(wrong_at(&by_primary, backwards), "sds");
    // Once the write has returned, the primary shows it, too.
    assert_eq!(wrong_at(&format!("{open}4 h 100-110 7 r 4 400 S\n 9 h 410-420 7 r 3 300 P"), stale), "ds");
}

#[test]
fn a_write_of_which_nobody_knows_may_come_whenever_it_likes() {
    let unknown = "5 h 90-95 7 w 400 ?\n";
    assert_sound(&format!("{unknown}4 h 100-110 7 r 3 300 S\n 4 h 120-130 7 r 4 400 S"));
    assert_eq!(wrong_at(&format!("{unknown}4 h 100-110 7 r 4 400 S\n 4 h 120-130 7 r 3 300 S"), backwards), "sds");
}

#[test]
fn the_future_is_not_seen() {
    let future = |violation: &Violation| matches!(violation, Violation::Future { .. });
    assert_eq!(wrong_at("4 h 70-80 7 r 4 400 S\n 5 h 90-95 7 w 400 4", future), "esds");
}

#[test]
fn what_was_not_written_is_not_seen() {
    let phantom = |violation: &Violation| matches!(violation, Violation::Phantom { .. });
    assert_eq!(wrong_at("4 h 70-80 7 r 4 400 S", phantom), "esds");
    assert_eq!(wrong_at("5 h 62-64 7 w 400 !\n 4 h 70-80 7 r 4 400 S", phantom), "esds");
}

#[test]
fn two_values_of_one_version_are_found() {
    let forked = |violation: &Violation| matches!(violation, Violation::Forked(7, 3) | Violation::Phantom { .. });
    assert_eq!(wrong_at("5 h 62-64 7 w 400 3", forked), "esds");
    assert_eq!(wrong_at("5 h 62-64 7 w 400 ?\n 4 h 70-80 7 r 3 100,200,400 S", forked), "esds");
    // An element in the middle of a list that others know by another value.
    let swapped = |violation: &Violation| matches!(violation, Violation::Forked(7, _) | Violation::Phantom { .. });
    assert_eq!(wrong_at("4 h 70-80 7 r 3 200,100,300 S", swapped), "esds");
}

#[test]
fn writes_follow_the_clock() {
    let disorder = |violation: &Violation| matches!(violation, Violation::Disorder { .. });
    assert_eq!(wrong_at("5 h 80-90 7 w 500 5\n 5 h 100-110 7 w 400 4", disorder), "esds");
}

#[test]
fn a_violation_is_told_with_the_events_that_show_it() {
    let history = history(&format!("{WRITES}4 h 70-80 7 r 2 200 S"));
    let found = check(&history, Level::Strong, 1000);
    let told = found[0].tell(&history);
    assert!(
        told.starts_with("a read misses a write\n") && told.contains("writes 300") && told.contains("version 2"),
        "{told}"
    );
}
