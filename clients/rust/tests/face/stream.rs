//! A stream over whole, broken and silent lines.

use std::time::Duration;

use pullcord::v1::{
    CancelRunResponse, ContentDelta, Heartbeat, RunCompleted, RunStarted, RunState, Source,
};
use pullcord::{Payload, PullcordError, Run, RunEvent, RunSpec, RunStream, StreamOptions};
use tonic::{Code, Status};

use crate::server::{Fake, Reply, Seen, client, wire};

fn event(sequence: i64, payload: Option<Payload>) -> RunEvent {
    RunEvent {
        run_id: "r".into(),
        sequence,
        payload,
        ..RunEvent::default()
    }
}

fn started() -> RunEvent {
    event(1, Some(Payload::RunStarted(RunStarted::default())))
}

fn text(sequence: i64) -> RunEvent {
    event(
        sequence,
        Some(Payload::ContentDelta(ContentDelta::default())),
    )
}

fn completed(sequence: i64) -> RunEvent {
    let end = RunCompleted {
        output: "all of it".into(),
        ..RunCompleted::default()
    };
    event(sequence, Some(Payload::RunCompleted(end)))
}

fn spec() -> RunSpec {
    RunSpec {
        runnable: "agents/a".into(),
        run_id: "r".into(),
        ..RunSpec::default()
    }
}

fn gone() -> Status {
    Status::unavailable("gone")
}

/// The numbers of all events that are left, and how the stream ended.
async fn rest(stream: &mut RunStream) -> (Vec<i64>, Option<PullcordError>) {
    let mut numbers = Vec::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => numbers.push(event.sequence),
            Err(error) => return (numbers, Some(error)),
        }
    }
    (numbers, None)
}

async fn sequence(stream: &mut RunStream) -> i64 {
    stream.next().await.unwrap().unwrap().sequence
}

#[tokio::test]
async fn a_run_is_followed_to_its_end() {
    let mut server = Fake::new([Reply::Events(vec![started(), text(2), completed(3)])]).await;
    let mut stream = client(server.address).run(spec());
    assert_eq!(stream.result(), None);
    assert_eq!(rest(&mut stream).await, (vec![1, 2, 3], None));
    assert_eq!(stream.after_sequence(), 3);
    assert_eq!(stream.result(), completed(3).payload.as_ref());
    assert_eq!(stream.next().await, None);
    assert!(matches!(server.seen().await, Seen::Run(asked, _) if asked == spec()));
    server.assert_done();
}

#[tokio::test]
async fn a_run_starts_also_while_nobody_looks_at_its_stream() {
    let mut server = Fake::new([Reply::Silence(vec![])]).await;
    let _stream = client(server.address).run(spec());
    assert!(matches!(server.seen().await, Seen::Run(..)));
}

#[tokio::test]
async fn a_stream_can_be_followed_in_a_task_of_its_own() {
    let server = Fake::new([Reply::Events(vec![started(), completed(2)])]).await;
    let mut stream = client(server.address).run(spec());
    let task = tokio::spawn(async move { rest(&mut stream).await });
    assert_eq!(task.await.unwrap(), (vec![1, 2], None));
}

#[tokio::test]
async fn a_run_without_an_id_is_given_one_and_keeps_it() {
    let mut server = Fake::new([Reply::Refuse(gone()), Reply::Events(vec![completed(1)])]).await;
    let mut stream = client(server.address).run(RunSpec::default());
    assert_eq!(rest(&mut stream).await, (vec![1], None));
    for _ in 0..2 {
        let seen = server.seen().await;
        assert!(matches!(seen, Seen::Run(asked, _) if asked.run_id == stream.run_id()));
    }
    assert_eq!(stream.run_id().len(), 36);
    server.assert_done();
}

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_broke() {
    let mut server = Fake::new([
        Reply::Break(vec![started(), text(2)], gone()),
        Reply::Break(vec![text(2), text(3)], Status::cancelled("shed")),
        Reply::Refuse(gone()),
        Reply::Events(vec![text(3), completed(4)]),
    ])
    .await;
    let mut stream = client(server.address).run(spec());
    assert_eq!(rest(&mut stream).await, (vec![1, 2, 3, 4], None));
    assert!(matches!(server.seen().await, Seen::Run(..)));
    for place in [2, 3, 3] {
        let seen = server.seen().await;
        assert!(matches!(seen, Seen::Watch(asked) if asked.after_sequence == place));
    }
    server.assert_done();
}

#[tokio::test]
async fn a_cut_line_is_made_anew() {
    let server = Fake::new([
        Reply::Silence(vec![started(), text(2)]),
        Reply::Silence(vec![text(3)]),
        Reply::Events(vec![completed(4)]),
    ])
    .await;
    let (address, cut, _tasks) = wire(server.address).await;
    let mut stream = client(address).run(spec());
    assert_eq!(sequence(&mut stream).await, 1);
    assert_eq!(sequence(&mut stream).await, 2);
    cut.send(()).unwrap();
    assert_eq!(sequence(&mut stream).await, 3);
    cut.send(()).unwrap();
    assert_eq!(rest(&mut stream).await, (vec![4], None));
}

#[tokio::test]
async fn a_stream_that_ends_too_early_asks_how_the_run_stands() {
    let run = |state: RunState, last_sequence| {
        Reply::Run(Run {
            state: state.into(),
            last_sequence,
            ..Run::default()
        })
    };
    let mut server = Fake::new([
        Reply::Events(vec![]), // nothing has begun: nobody to ask
        Reply::Events(vec![started()]),
        run(RunState::Running, 1),
        Reply::Events(vec![text(2)]),
        run(RunState::Completed, 3),
        Reply::Events(vec![completed(3)]),
    ])
    .await;
    let mut stream = client(server.address).run(spec());
    assert_eq!(rest(&mut stream).await, (vec![1, 2, 3], None));
    assert!(matches!(server.seen().await, Seen::Run(..)));
    assert!(matches!(server.seen().await, Seen::Run(..)));
    assert!(matches!(server.seen().await, Seen::Get(id) if id == "r"));
    assert!(matches!(server.seen().await, Seen::Watch(..)));
    assert!(matches!(server.seen().await, Seen::Get(..)));
    assert!(matches!(server.seen().await, Seen::Watch(..)));
    server.assert_done();
}

#[tokio::test]
async fn a_watcher_who_has_seen_the_end_sees_an_empty_stream() {
    let mut server = Fake::new([
        Reply::Events(vec![]),
        Reply::Run(Run {
            state: RunState::Cancelled.into(),
            last_sequence: 9,
            ..Run::default()
        }),
    ])
    .await;
    let mut stream = client(server.address).watch("r", 9);
    assert_eq!(rest(&mut stream).await, (vec![], None));
    assert!(matches!(server.seen().await, Seen::Watch(asked) if asked.after_sequence == 9));
    assert!(matches!(server.seen().await, Seen::Get(..)));
    server.assert_done();
}

#[tokio::test]
async fn an_unknown_payload_is_skipped() {
    let mut server = Fake::new([
        Reply::Break(vec![started(), event(2, None)], gone()),
        Reply::Events(vec![completed(3)]),
    ])
    .await;
    let mut stream = client(server.address).run(spec());
    assert_eq!(rest(&mut stream).await, (vec![1, 3], None));
    assert!(matches!(server.seen().await, Seen::Run(..)));
    assert!(matches!(server.seen().await, Seen::Watch(asked) if asked.after_sequence == 2));
}

#[tokio::test]
async fn the_end_of_a_run_beneath_is_not_the_end() {
    let mut beneath = completed(2);
    beneath.source = Some(Source::default());
    let server = Fake::new([Reply::Events(vec![started(), beneath, completed(3)])]).await;
    let mut stream = client(server.address).run(spec());
    assert_eq!(rest(&mut stream).await, (vec![1, 2, 3], None));
}

#[tokio::test]
async fn nothing_comes_after_the_end_whatever_the_server_says() {
    for reply in [
        Reply::Events(vec![completed(1), text(2)]),
        Reply::Break(vec![completed(1)], gone()),
        Reply::Silence(vec![completed(1)]),
    ] {
        let server = Fake::new([reply]).await;
        let mut stream = client(server.address).run(spec());
        assert_eq!(rest(&mut stream).await, (vec![1], None));
    }
}

#[tokio::test]
async fn heartbeats_are_shown_to_those_who_ask() {
    for heartbeats in [false, true] {
        let beat = event(0, Some(Payload::Heartbeat(Heartbeat {})));
        let server = Fake::new([Reply::Events(vec![beat, completed(1)])]).await;
        let options = StreamOptions {
            heartbeats,
            ..StreamOptions::default()
        };
        let mut stream = client(server.address).watch_with("r", 0, options);
        let expected = if heartbeats { vec![0, 1] } else { vec![1] };
        assert_eq!(rest(&mut stream).await, (expected, None));
    }
}

#[tokio::test]
async fn a_refusal_is_the_last_that_a_stream_says() {
    let mut server = Fake::new([Reply::Refuse(Status::permission_denied("no"))]).await;
    let mut stream = client(server.address).run(spec());
    let (numbers, error) = rest(&mut stream).await;
    assert_eq!(numbers, []);
    let error = error.unwrap();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert_eq!(error.run_id(), Some("r"));
    assert_eq!(stream.next().await, None);
    assert!(matches!(server.seen().await, Seen::Run(..)));
    server.assert_done();
}

#[tokio::test]
async fn dropping_a_stream_leaves_the_call_and_cancels_nothing() {
    let mut server = Fake::new([Reply::Silence(vec![started()])]).await;
    let client = client(server.address);
    let mut stream = client.run(spec());
    assert_eq!(sequence(&mut stream).await, 1);
    drop(stream);
    assert!(matches!(server.seen().await, Seen::Run(..)));
    assert!(matches!(server.seen().await, Seen::Left));
    server.assert_done();
}

#[tokio::test]
async fn dropping_a_stream_leaves_a_call_that_has_no_answer_yet() {
    let mut server = Fake::new([Reply::Nothing]).await;
    let stream = client(server.address).run(spec());
    assert!(matches!(server.seen().await, Seen::Run(..)));
    drop(stream);
    assert!(matches!(server.seen().await, Seen::Left));
}

#[tokio::test]
async fn a_lost_future_of_the_next_event_loses_no_event() {
    let server = Fake::new([Reply::Events(vec![started(), completed(2)])]).await;
    let mut stream = client(server.address).run(spec());
    tokio::select! {
        biased;
        _ = stream.next() => panic!("it cannot have come yet"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(rest(&mut stream).await, (vec![1, 2], None));
}

#[tokio::test]
async fn a_deadline_travels_and_ends_the_stream() {
    let mut server = Fake::new([Reply::Silence(vec![started()])]).await;
    let options = StreamOptions {
        timeout: Some(Duration::from_millis(200)),
        ..StreamOptions::default()
    };
    let mut stream = client(server.address).run_with(spec(), options);
    let (numbers, error) = rest(&mut stream).await;
    assert_eq!(numbers, [1]);
    assert!(
        matches!(&error, Some(PullcordError::DeadlineExceeded { run_id, .. }) if run_id == "r")
    );
    assert_eq!(stream.next().await, None);
    let Seen::Run(_, metadata) = server.seen().await else {
        panic!("another call");
    };
    let timeout = metadata.get("grpc-timeout").unwrap().to_str().unwrap();
    let micros: u32 = timeout.strip_suffix('u').unwrap().parse().unwrap();
    assert!((1..=200_000).contains(&micros), "{timeout}");
}

#[tokio::test]
async fn without_time_nothing_is_asked() {
    let mut server = Fake::new([]).await;
    let options = StreamOptions {
        timeout: Some(Duration::ZERO),
        ..StreamOptions::default()
    };
    let mut stream = client(server.address).watch_with("r", 0, options);
    let (_, error) = rest(&mut stream).await;
    assert!(matches!(
        error,
        Some(PullcordError::DeadlineExceeded { .. })
    ));
    server.assert_done();
}

#[tokio::test]
async fn a_cancel_may_come_before_the_start_while_nothing_has_come() {
    let receipt = || Reply::Receipt(CancelRunResponse::default());
    let mut server = Fake::new([
        Reply::Silence(vec![]),
        receipt(),
        Reply::Silence(vec![started()]),
        receipt(),
    ])
    .await;
    let client = client(server.address);
    let stream = client.run(spec());
    assert!(matches!(server.seen().await, Seen::Run(..)));
    stream.cancel("too late").await.unwrap();
    let Seen::Cancel(asked, _) = server.seen().await else {
        panic!("another call");
    };
    assert_eq!(
        (asked.run_id.as_str(), asked.reason.as_str()),
        ("r", "too late")
    );
    assert!(asked.before_start);

    let mut stream = client.run(spec());
    assert!(matches!(server.seen().await, Seen::Run(..)));
    assert_eq!(sequence(&mut stream).await, 1);
    stream.cancel("enough").await.unwrap();
    let seen = server.seen().await;
    assert!(matches!(seen, Seen::Cancel(asked, _) if !asked.before_start));
}
