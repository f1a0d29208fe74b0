use std::time::Duration;

use tokio::time::Instant;

use super::super::notice::{Notice, Regarding, Severity};
use super::{Correlator, Due, Limits};

const WINDOW: Duration = Duration::from_secs(300);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn limits() -> Limits {
    Limits {
        window: WINDOW,
        series: 4,
        of_namespace: 3,
        attempts: 3,
        breath: Duration::from_millis(100),
        pause: (seconds(1), seconds(3)),
    }
}

fn notice(namespace: &str, uid: &str, note: &str) -> Notice {
    Notice {
        regarding: Regarding {
            api_version: "apps/v1".to_owned(),
            kind: "ReplicaSet".to_owned(),
            namespace: namespace.to_owned(),
            name: "web-5d8f".to_owned(),
            uid: uid.to_owned(),
        },
        severity: Severity::Warning,
        reason: "InvalidValue",
        action: "Inject",
        note: note.to_owned(),
    }
}

/// Sees one a number of times at the same moment; whether there was room for all of them.
fn see(correlator: &mut Correlator, notice: &Notice, times: usize, now: Instant) -> bool {
    (0..times).all(|_| correlator.observe(notice.clone(), now))
}

fn due(correlator: &Correlator, now: Instant) -> Due {
    correlator.next(now).unwrap()
}

#[test]
fn the_first_is_written_at_once_and_the_rest_of_a_window_as_a_count() {
    let start = Instant::now();
    let mut correlator = Correlator::new(limits());
    let web = notice("shop", "1", "given \"x\"");
    assert!(see(&mut correlator, &web, 1, start));
    let first = due(&correlator, start);
    assert_eq!(first.count, 1);
    correlator.written(&first, start);

    assert!(see(&mut correlator, &web, 14, start + seconds(60)));
    assert!(correlator.next(start + WINDOW - seconds(1)).is_none());
    assert_eq!(correlator.wake(), Some(start + WINDOW));
    let second = due(&correlator, start + WINDOW);
    assert_eq!(second.count, 14);
    correlator.written(&second, start + WINDOW);

    // Nothing new, so nothing is written.
    assert!(correlator.next(start + WINDOW * 9).is_none());
    assert_eq!(correlator.wake(), None);
}

#[test]
fn what_is_seen_while_it_is_written_is_not_lost() {
    let start = Instant::now();
    let mut correlator = Correlator::new(limits());
    let web = notice("shop", "1", "given \"x\"");
    assert!(see(&mut correlator, &web, 2, start));
    let first = due(&correlator, start);
    assert!(see(&mut correlator, &web, 3, start));
    correlator.written(&first, start);
    assert_eq!(due(&correlator, start + WINDOW).count, 3);
}

#[test]
fn another_owner_or_another_message_is_another_event() {
    let start = Instant::now();
    let all = [
        notice("shop", "1", "given \"x\""),
        notice("shop", "2", "given \"x\""),
        notice("shop", "1", "given \"y\""),
        notice("bank", "1", "given \"x\""),
    ];
    let mut correlator = Correlator::new(limits());
    let mut now = start;
    for notice in &all {
        assert!(see(&mut correlator, notice, 1, now));
        now += seconds(1);
    }
    // The one that waits longest comes first.
    for notice in &all {
        let next = due(&correlator, now);
        assert_eq!(*next.notice, *notice);
        correlator.written(&next, now);
        // Never two at once.
        assert!(correlator.next(now).is_none());
        now += Duration::from_millis(100);
    }
    assert!(correlator.next(now).is_none());
}

#[test]
fn memory_is_bounded_and_no_namespace_takes_all_of_it() {
    let start = Instant::now();
    let mut correlator = Correlator::new(limits());
    // (namespace, note, whether there is room)
    let table = [
        ("shop", "a", true),
        ("shop", "b", true),
        ("shop", "c", true),
        ("shop", "d", false),
        ("shop", "a", true),
        ("bank", "a", true),
        ("bank", "b", false),
        ("bank", "a", true),
    ];
    for (namespace, note, room) in table {
        let notice = notice(namespace, "1", note);
        assert_eq!(
            see(&mut correlator, &notice, 1, start),
            room,
            "{namespace} {note}"
        );
    }
    // A window after they were written they are forgotten.
    let mut now = start;
    for _ in 0..4 {
        let next = due(&correlator, now);
        correlator.written(&next, now);
        now += seconds(1);
    }
    assert!(!see(
        &mut correlator,
        &notice("shop", "1", "d"),
        1,
        now + WINDOW - seconds(5)
    ));
    for note in ["d", "e", "f"] {
        assert!(see(
            &mut correlator,
            &notice("shop", "1", note),
            1,
            now + WINDOW
        ));
    }
}

#[test]
fn failures_are_followed_by_growing_pauses_and_the_end_of_attempts() {
    let start = Instant::now();
    let mut correlator = Correlator::new(limits());
    let web = notice("shop", "1", "given \"x\"");
    assert!(see(&mut correlator, &web, 7, start));
    let mut now = start;
    for (pause, given_up) in [(1, false), (2, false), (3, true)] {
        let next = due(&correlator, now);
        assert_eq!((&*next.notice, next.count), (&web, 7));
        assert_eq!(correlator.failed(&next, false, now), given_up);
        let until = now + seconds(pause);
        assert!(correlator.next(until - Duration::from_millis(1)).is_none());
        now = until;
    }
    // What was given up is left alone for a window, and what is seen in it counts.
    assert_eq!(correlator.wake(), None);
    let given_up = now - seconds(3);
    assert!(see(&mut correlator, &web, 2, now));
    assert_eq!(correlator.wake(), Some(given_up + WINDOW));
    assert_eq!(due(&correlator, given_up + WINDOW).count, 2);
}

#[test]
fn while_the_api_server_is_away_all_wait_and_take_turns() {
    let start = Instant::now();
    let mut correlator = Correlator::new(limits());
    let (web, other) = (notice("shop", "1", "a"), notice("bank", "1", "a"));
    assert!(see(&mut correlator, &web, 1, start));
    let next = due(&correlator, start);
    assert!(!correlator.failed(&next, false, start));
    assert!(see(
        &mut correlator,
        &other,
        1,
        start + Duration::from_millis(1)
    ));
    assert_eq!(correlator.wake(), Some(start + seconds(1)));
    let now = start + seconds(1);
    let next = due(&correlator, now);
    assert_eq!(*next.notice, other);
    assert!(!correlator.failed(&next, false, now));
    let now = now + seconds(2);
    let next = due(&correlator, now);
    assert_eq!(*next.notice, web);
    correlator.written(&next, now);
    // A success ends the pauses.
    assert_eq!(correlator.wake(), Some(now + Duration::from_millis(100)));
}

#[test]
fn what_is_hopeless_is_not_tried_again_and_holds_up_nobody() {
    let start = Instant::now();
    let mut correlator = Correlator::new(limits());
    let (going, other) = (notice("going", "1", "a"), notice("shop", "1", "a"));
    assert!(see(&mut correlator, &going, 1, start));
    assert!(see(&mut correlator, &other, 1, start + seconds(1)));
    let now = start + seconds(2);
    let next = due(&correlator, now);
    assert_eq!(*next.notice, going);
    assert!(correlator.failed(&next, true, now));
    let soon = now + Duration::from_millis(100);
    let next = due(&correlator, soon);
    assert_eq!(*next.notice, other);
    correlator.written(&next, soon);
    assert_eq!(correlator.wake(), None);
}

#[test]
fn however_much_is_seen_the_writes_have_a_bound() {
    let start = Instant::now();
    let mut correlator = Correlator::new(Limits::default());
    let mut written = 0;
    // Ten minutes of a thousand different denials a second in one namespace, and an API server that always answers.
    for tick in 0..6000_u32 {
        let now = start + Duration::from_millis(100) * tick;
        for number in 0..100 {
            let note = format!("{}", (tick * 100 + number) % 5000);
            let _ = correlator.observe(notice("shop", "1", &note), now);
        }
        if let Some(next) = correlator.next(now) {
            correlator.written(&next, now);
            written += 1;
        }
    }
    assert!((64..=64 * 3).contains(&written), "{written}");
}
