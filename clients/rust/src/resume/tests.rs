//! Each rule of coming back, with a clock and a chance that the tests set.

use super::*;
use crate::v1::{ContentDelta, Gap, Heartbeat, RunCompleted, RunFailed, Snapshot, Source};

const ALL: f64 = 1.0;
const HALF: f64 = 0.0;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn watching(after_sequence: i64) -> (Resume, Instant) {
    let now = Instant::now();
    let resume = Resume::follow("r", after_sequence, Pace::default(), now, None);
    (resume, now)
}

fn event(sequence: i64, payload: impl Into<Option<Payload>>) -> RunEvent {
    RunEvent {
        run_id: "r".into(),
        sequence,
        payload: payload.into(),
        ..RunEvent::default()
    }
}

fn text(sequence: i64) -> RunEvent {
    event(sequence, Payload::ContentDelta(ContentDelta::default()))
}

fn gap(first_sequence: i64, last_sequence: i64) -> RunEvent {
    let gap = Gap {
        first_sequence,
        last_sequence,
    };
    event(last_sequence, Payload::Gap(gap))
}

fn snapshot(sequence: i64) -> RunEvent {
    event(sequence, Payload::Snapshot(Snapshot::default()))
}

fn broken() -> PullcordError {
    PullcordError::ConnectionLost {
        message: "the line broke".into(),
        run_id: "r".into(),
    }
}

fn busy(retry_after: f64) -> PullcordError {
    PullcordError::ServerBusy {
        message: "busy".into(),
        retry_after: seconds(retry_after),
    }
}

fn failed(code: Code) -> PullcordError {
    PullcordError::CallFailed {
        code,
        message: "why".into(),
        run_id: String::new(),
    }
}

// --- which events are new

#[test]
fn an_event_is_new_once() {
    let (mut resume, _) = watching(0);
    assert!(resume.admit(&text(1)));
    assert!(resume.admit(&text(4)));
    assert_eq!(resume.after_sequence, 4);
    assert!(!resume.admit(&text(4)));
    assert!(!resume.admit(&text(2)));
    assert_eq!(resume.after_sequence, 4);
}

#[test]
fn the_events_before_the_place_of_a_watcher_are_not_new() {
    let (mut resume, _) = watching(7);
    assert!(!resume.admit(&text(7)));
    assert!(resume.admit(&text(8)));
}

#[test]
fn a_gap_does_not_move_the_place_and_the_snapshot_behind_it_does() {
    let (mut resume, _) = watching(2);
    assert!(resume.admit(&gap(3, 9)));
    assert_eq!(resume.after_sequence, 2);
    assert!(resume.admit(&snapshot(9)));
    assert_eq!(resume.after_sequence, 9);
}

#[test]
fn a_gap_is_dropped_where_nothing_of_it_is_missing() {
    let (mut resume, _) = watching(9);
    assert!(!resume.admit(&gap(3, 9)));
    assert!(resume.admit(&gap(3, 10)));
}

#[test]
fn a_snapshot_is_dropped_where_its_number_is_before_the_place() {
    let (mut resume, _) = watching(9);
    assert!(!resume.admit(&snapshot(8)));
    assert!(resume.admit(&snapshot(9)));
}

#[test]
fn a_heartbeat_passes_and_moves_nothing() {
    let (mut resume, _) = watching(3);
    assert!(resume.admit(&event(3, Payload::Heartbeat(Heartbeat {}))));
    assert_eq!(resume.after_sequence, 3);
}

#[test]
fn an_unknown_payload_is_skipped_and_its_number_remembered() {
    let (mut resume, _) = watching(0);
    assert!(!resume.admit(&event(5, None)));
    assert_eq!(resume.after_sequence, 5);
}

#[test]
fn the_terminal_event_ends_the_stream() {
    let (mut resume, _) = watching(0);
    let end = Payload::RunFailed(RunFailed::default());
    assert!(resume.admit(&event(1, end.clone())));
    assert!(resume.ended);
    assert_eq!(resume.result, Some(end));
}

#[test]
fn the_end_of_a_run_beneath_does_not() {
    let (mut resume, _) = watching(0);
    let mut end = event(1, Payload::RunCompleted(RunCompleted::default()));
    end.source = Some(Source::default());
    assert!(resume.admit(&end));
    assert!(!resume.ended);
    assert_eq!(resume.result, None);
}

#[test]
fn an_ended_run_whose_end_was_seen_ends_the_stream() {
    for (state, last_sequence, ends) in [
        (RunState::Completed, 4, true),
        (RunState::Cancelled, 4, true),
        (RunState::Failed, 3, true),
        (RunState::Failed, 5, false),
        (RunState::Cancelling, 4, false),
    ] {
        let (mut resume, _) = watching(4);
        let run = Run {
            state: state.into(),
            last_sequence,
            ..Run::default()
        };
        resume.learn(&run);
        assert_eq!(resume.ended, ends, "{state:?} at {last_sequence}");
    }
}

// --- how long it waits

#[test]
fn waits_double_up_to_the_longest() {
    let (mut resume, now) = watching(0);
    for expected in [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0] {
        assert_eq!(resume.lost(Some(broken()), now, ALL), Ok(seconds(expected)));
    }
}

#[test]
fn a_wait_is_between_half_its_length_and_all_of_it() {
    for (chance, expected) in [(HALF, 0.05), (0.5, 0.075), (ALL, 0.1)] {
        let (mut resume, now) = watching(0);
        assert_eq!(
            resume.lost(Some(broken()), now, chance),
            Ok(seconds(expected))
        );
    }
}

#[test]
fn a_wait_is_at_least_what_the_server_says() {
    let (mut resume, now) = watching(0);
    assert_eq!(resume.lost(Some(busy(9.0)), now, HALF), Ok(seconds(9.0)));
    let draining = PullcordError::Draining {
        retry_after: seconds(7.0),
    };
    assert_eq!(resume.lost(Some(draining), now, HALF), Ok(seconds(7.0)));
    assert_eq!(resume.lost(Some(busy(0.0)), now, ALL), Ok(seconds(0.4)));
}

#[test]
fn a_wait_never_overflows_however_often_the_line_breaks() {
    let pace = Pace {
        max_delay: Duration::MAX,
        reconnect_for: seconds(1.0),
        first_delay: Duration::MAX,
    };
    let now = Instant::now();
    let mut resume = Resume::follow("r", 0, pace, now, Some(Duration::MAX));
    for _ in 0..100 {
        assert_eq!(resume.lost(Some(broken()), now, HALF), Ok(seconds(1.0)));
    }
    assert_eq!(resume.opening(now), Ok(None));
}

// --- how long it is patient

#[test]
fn without_progress_it_gives_up_with_the_last_error() {
    let (mut resume, now) = watching(0);
    assert!(resume.lost(Some(broken()), now, ALL).is_ok());
    assert!(
        resume
            .lost(Some(broken()), now + seconds(59.9), ALL)
            .is_ok()
    );
    let error = resume.lost(Some(busy(1.0)), now + seconds(60.0), ALL);
    assert_eq!(error, Err(busy(1.0)));
}

#[test]
fn the_last_wait_ends_with_patience() {
    let (mut resume, now) = watching(0);
    assert!(resume.lost(Some(broken()), now, ALL).is_ok());
    let delay = resume.lost(Some(busy(30.0)), now + seconds(58.0), ALL);
    assert_eq!(delay, Ok(seconds(2.0)));
}

#[test]
fn giving_up_without_an_error_or_with_a_shed_call_is_a_lost_connection() {
    for error in [None, Some(failed(Code::Cancelled))] {
        let (mut resume, now) = watching(0);
        assert!(resume.lost(error.clone(), now, ALL).is_ok());
        let words = resume.lost(error, now + seconds(61.0), ALL);
        assert!(
            matches!(&words, Err(PullcordError::ConnectionLost { run_id, .. }) if run_id == "r"),
            "{words:?}"
        );
    }
}

#[test]
fn zero_patience_never_comes_back() {
    let pace = Pace {
        reconnect_for: Duration::ZERO,
        ..Pace::default()
    };
    let now = Instant::now();
    let mut resume = Resume::follow("r", 0, pace, now, None);
    assert_eq!(resume.lost(Some(broken()), now, ALL), Err(broken()));
}

#[test]
fn a_new_event_restores_patience_and_an_old_one_does_not() {
    let (mut resume, now) = watching(3);
    for _ in 0..5 {
        resume.lost(Some(broken()), now, ALL).unwrap();
    }
    resume.admit(&text(3));
    assert_eq!(resume.lost(Some(broken()), now, ALL), Ok(seconds(3.2)));
    resume.admit(&text(4));
    let late = now + seconds(100.0);
    assert_eq!(resume.lost(Some(broken()), late, ALL), Ok(seconds(0.1)));
}

#[test]
fn a_connection_that_spoke_and_lived_restores_patience() {
    for (heard, lived, expected) in [(true, 5.0, 0.1), (true, 4.9, 0.2), (false, 5.0, 0.2)] {
        let (mut resume, now) = watching(3);
        resume.lost(Some(broken()), now, ALL).unwrap();
        resume.opening(now).unwrap();
        if heard {
            resume.admit(&event(3, Payload::Heartbeat(Heartbeat {})));
        }
        let delay = resume.lost(Some(broken()), now + seconds(lived), ALL);
        assert_eq!(delay, Ok(seconds(expected)), "{heard} {lived}");
    }
}

#[test]
fn what_the_connection_before_said_does_not_count() {
    let (mut resume, now) = watching(3);
    resume.admit(&event(3, Payload::Heartbeat(Heartbeat {})));
    resume.lost(Some(broken()), now, ALL).unwrap();
    resume.opening(now).unwrap();
    let delay = resume.lost(Some(broken()), now + seconds(6.0), ALL);
    assert_eq!(delay, Ok(seconds(0.2)));
}

// --- what may pass

#[test]
fn a_broken_line_passes_and_a_refusal_does_not() {
    for error in [Some(broken()), None, Some(failed(Code::Cancelled))] {
        let (mut resume, now) = watching(0);
        assert!(resume.lost(error, now, ALL).is_ok());
    }
    let not_found = PullcordError::RunNotFound { run_id: "r".into() };
    for error in [
        not_found,
        failed(Code::Internal),
        PullcordError::ServerFault,
    ] {
        let (mut resume, now) = watching(0);
        let refused = resume.lost(Some(error.clone()), now, ALL);
        assert_eq!(refused, Err(error));
    }
}

#[test]
fn a_busy_server_is_an_answer_to_a_new_run_and_a_delay_to_a_watcher() {
    let store = PullcordError::StoreUnavailable {
        message: "no answer".into(),
    };
    let draining = PullcordError::Draining {
        retry_after: seconds(1.0),
    };
    for error in [busy(1.0), draining, store] {
        let now = Instant::now();
        let mut resume = Resume::start("r", Pace::default(), now, None);
        let answer = resume.lost(Some(error.clone()), now, ALL);
        assert_eq!(answer, Err(error.clone()));
        resume.admit(&text(1));
        assert!(resume.lost(Some(error), now, ALL).is_ok());
    }
}

// --- time

#[test]
fn a_deadline_counts_from_the_verb_over_all_connections() {
    let now = Instant::now();
    let mut resume = Resume::start("r", Pace::default(), now, Some(seconds(10.0)));
    assert_eq!(resume.opening(now), Ok(Some(seconds(10.0))));
    let later = now + seconds(8.0);
    assert_eq!(resume.opening(later), Ok(Some(seconds(2.0))));
    assert_eq!(resume.lost(Some(busy(5.0)), later, ALL), Err(busy(5.0)));
    resume.admit(&text(1));
    assert_eq!(resume.lost(Some(busy(5.0)), later, ALL), Ok(seconds(2.0)));
    for late in [10.0, 11.0] {
        let error = resume.opening(now + seconds(late)).unwrap_err();
        assert!(matches!(&error, PullcordError::DeadlineExceeded { run_id, .. } if run_id == "r"));
    }
}
