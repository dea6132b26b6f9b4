//! The lobby with numbers for servers.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

type Hall = Lobby<u32, u32, &'static str>;

type Told = oneshot::Receiver<Result<u32, &'static str>>;

const BOUNDS: Bounds = Bounds { size: 4, min_idle: 0, growing: 2 };

fn lobby(workers: usize) -> Hall {
    Lobby::new(workers, BOUNDS, Gate::Open)
}

fn in_line(lobby: &Hall, worker: usize, since: Instant) -> (Place<'_, u32, u32, &'static str>, Told) {
    match lobby.enter(worker, since, None, |_| false) {
        Entered::InLine(place, told) => (place, told),
        other => panic!("{other:?}"),
    }
}

/// Puts a server down and says who got it: the one who hears of it, among `told`.
fn put(lobby: &Hall, worker: usize, now: Instant, told: &mut [&mut Told]) -> Option<usize> {
    match lobby.put(worker, 7, || now) {
        Put::Kept => None,
        Put::Refused(_) => panic!("closed"),
        Put::For(server, tell) => {
            tell.send(Ok(server)).unwrap();
            told.iter_mut().position(|told| told.try_recv().is_ok())
        }
    }
}

#[test]
fn the_last_used_is_lent_first_and_a_neighbours_only_when_there_is_no_other() {
    let lobby = lobby(3);
    for (worker, server) in [(1, 10), (1, 11), (2, 20)] {
        assert!(matches!(lobby.put(worker, server, Instant::now), Put::Kept));
    }
    assert_eq!(
        [lobby.take(2, |_| false), lobby.take(2, |_| false), lobby.take(1, |_| false), lobby.take(1, |_| false)],
        [Some(20), Some(11), Some(10), None]
    );
}

#[test]
fn one_that_fits_is_lent_first_and_the_others_stay_in_order() {
    let lobby = lobby(2);
    for server in 10..30 {
        assert!(matches!(lobby.put(1, server, Instant::now), Put::Kept));
    }
    assert_eq!(lobby.take(1, |server| server % 10 == 5), Some(25));
    assert_eq!(lobby.take(1, |server| server % 10 == 5), Some(15));
    // 10 fits, and has lain idle for longer than all that are looked at.
    assert_eq!(lobby.take(1, |server| *server == 10), Some(29));
    assert_eq!(lobby.take(1, |_| false), Some(28));
    let entered = lobby.enter(1, Instant::now(), None, |server| *server == 26);
    assert!(matches!(entered, Entered::Served(26)));
}

#[test]
fn a_worker_serves_its_own_line_until_others_have_waited_too_long() {
    let start = Instant::now();
    let later = |millis| start + Duration::from_millis(millis);
    let lobby = lobby(2);
    let (_first, mut first) = in_line(&lobby, 0, later(0));
    let (_second, mut second) = in_line(&lobby, 1, later(10));
    let (_third, mut third) = in_line(&lobby, 1, later(50));
    let told = &mut [&mut first, &mut second, &mut third];
    // 90 ms of 100 are more than seven eighths; 60 of 110 are not.
    assert_eq!(put(&lobby, 1, later(100), told), Some(1));
    assert_eq!(put(&lobby, 1, later(110), told), Some(0));
    assert_eq!(put(&lobby, 0, later(110), told), Some(2));
    assert_eq!(put(&lobby, 0, later(110), told), None);
    assert_eq!((lobby.census().idle, lobby.census().waiting), (1, 0));
}

#[test]
fn who_comes_finds_those_in_line_before_them_and_who_returns_has_the_old_place() {
    let now = Instant::now();
    let lobby = lobby(1);
    let (first, told) = in_line(&lobby, 0, now);
    let (_second, mut second) = in_line(&lobby, 0, now);
    assert_eq!(lobby.take(0, |_| false), None);
    let number = first.number();
    drop((first, told));
    let Entered::InLine(_again, mut again) = lobby.enter(0, now, Some(number), |_| false) else { panic!("in line") };
    assert_eq!(put(&lobby, 0, now, &mut [&mut second, &mut again]), Some(1));
    assert_eq!(lobby.census().waiting, 1);
}

#[test]
fn nothing_is_lent_in_a_pause_and_those_who_waited_are_served_after_it() {
    let now = Instant::now();
    let lobby = lobby(1);
    lobby.set_gate(Gate::Paused);
    let (_place, mut told) = in_line(&lobby, 0, now);
    assert_eq!(lobby.grow(), Grow::No);
    assert_eq!(put(&lobby, 0, now, &mut [&mut told]), None);
    assert!(lobby.take(0, |_| false).is_none() && lobby.pair(now).is_none());
    lobby.set_gate(Gate::Open);
    let (server, tell) = lobby.pair(now).unwrap();
    tell.send(Ok(server)).unwrap();
    assert_eq!(told.try_recv(), Ok(Ok(7)));
    assert!(lobby.pair(now).is_none());
}

#[test]
fn closing_gives_out_what_lies_idle_and_ends_the_line() {
    let now = Instant::now();
    let lobby = lobby(2);
    lobby.put(1, 3, || now);
    assert_eq!(lobby.set_gate(Gate::Closed), [3]);
    assert!(matches!(lobby.enter(0, now, None, |_| false), Entered::Closed));
    assert!(matches!(lobby.put(0, 4, || now), Put::Refused(4)));
    lobby.set_gate(Gate::Open);
    assert!(matches!(lobby.enter(0, now, None, |_| false), Entered::Closed));
}

#[test]
fn as_many_are_made_as_wait_within_the_bounds() {
    let now = Instant::now();
    let lobby = lobby(1);
    assert_eq!(lobby.grow(), Grow::No);
    let line: Vec<_> = (0..3).map(|_| in_line(&lobby, 0, now)).collect();
    assert_eq!([lobby.grow(), lobby.grow(), lobby.grow()], [Grow::Yes, Grow::Yes, Grow::No]);
    // The first is there, the second fails while it is: those who wait may hope, and one more try is due.
    lobby.made();
    assert_eq!(lobby.grow(), Grow::Yes);
    assert!(matches!(lobby.failed(), Failed::Again));
    // With none left, nor any being made, they are told.
    lobby.lost();
    assert_eq!(lobby.grow(), Grow::No);
    assert!(matches!(lobby.failed(), Failed::Left));
    let Failed::Tell(waiters) = lobby.failed() else { panic!("to be told") };
    assert_eq!((waiters.len(), lobby.census().servers), (3, 0));
    drop(line);
    assert_eq!(lobby.census().waiting, 0);
}

proptest! {
    /// Whatever happens in whatever order: nobody waits while something lies idle, and no server is lost.
    #[test]
    fn servers_and_waiters_meet(steps in proptest::collection::vec((0u8..4, 0usize..3, 0usize..8), 1..200)) {
        let start = Instant::now();
        let lobby = lobby(3);
        let mut lent: Vec<u32> = (0..4).collect();
        let mut line: Vec<(Place<'_, _, _, _>, Told)> = Vec::new();
        for (at, (step, worker, pick)) in steps.into_iter().enumerate() {
            let now = start + Duration::from_millis(at as u64);
            match step {
                0 => match lobby.enter(worker, now, None, |_| false) {
                    Entered::Served(server) => lent.push(server),
                    Entered::InLine(place, told) => line.push((place, told)),
                    Entered::Closed => prop_assert!(false, "closed"),
                },
                1 => lent.extend(lobby.take(worker, |_| false)),
                2 if !line.is_empty() => drop(line.swap_remove(pick % line.len())),
                _ if !lent.is_empty() => {
                    let server = lent.swap_remove(pick % lent.len());
                    if let Put::For(server, tell) = lobby.put(worker, server, || now) {
                        prop_assert!(tell.send(Ok(server)).is_ok(), "who has left is not in line");
                    }
                }
                _ => {}
            }
            line.retain_mut(|(_, told)| match told.try_recv() {
                Ok(Ok(server)) => {
                    lent.push(server);
                    false
                }
                _ => true,
            });
            let census = lobby.census();
            prop_assert_eq!(census.waiting, line.len());
            prop_assert_eq!(census.idle + lent.len(), 4);
            prop_assert!(census.idle == 0 || census.waiting == 0);
        }
    }
}
