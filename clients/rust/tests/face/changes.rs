//! A followed list over whole and broken lines, and how it is left.

use pullcord::v1::{WatchRunsRequest, WatchRunsResponse};
use pullcord::{ClientOptions, Pace, PullcordError, Run, RunClient};
use std::time::Duration;
use tokio_stream::StreamExt;
use tonic::Status;

use crate::server::{Fake, Reply, Seen, client, options};

fn live(position: &str) -> WatchRunsResponse {
    WatchRunsResponse {
        run: Some(Run::default()),
        ..place(position)
    }
}

/// A sign of life.
fn place(position: &str) -> WatchRunsResponse {
    WatchRunsResponse {
        position: position.into(),
        ..WatchRunsResponse::default()
    }
}

fn request() -> WatchRunsRequest {
    WatchRunsRequest {
        user_id: "u".into(),
        ..WatchRunsRequest::default()
    }
}

#[tokio::test]
async fn a_list_goes_on_behind_its_last_position_also_one_that_is_not_shown() {
    let caught_up = WatchRunsResponse {
        caught_up: true,
        ..place("2")
    };
    let missed = WatchRunsResponse {
        missed: true,
        ..place("4")
    };
    let mut server = Fake::new([
        Reply::Changes(
            vec![live("1"), caught_up, place("3")],
            Status::unavailable("gone"),
        ),
        Reply::Refuse(Status::cancelled("shed")),
        Reply::Changes(vec![missed], Status::ok("")),
        Reply::SilentList(vec![live("5")]),
    ])
    .await;
    let mut changes = client(server.address).watch_runs(request());
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.push(changes.next().await.unwrap().unwrap().position);
    }
    assert_eq!(seen, ["1", "2", "4", "5"]);
    for after in ["", "3", "3", "4"] {
        let next = WatchRunsRequest {
            after: after.into(),
            ..request()
        };
        let asked = server.seen().await;
        assert!(
            matches!(&asked, Seen::WatchList(asked) if *asked == next),
            "{asked:?}"
        );
    }
    drop(changes);
    assert!(matches!(server.seen().await, Seen::Left));
    server.assert_done();
}

#[tokio::test]
async fn a_list_ends_with_what_is_no_lost_connection() {
    let refusal = Status::permission_denied("no");
    let server = Fake::new([Reply::Changes(vec![live("1")], refusal)]).await;
    let mut changes = client(server.address).watch_runs(request());
    assert_eq!(changes.next().await.unwrap().unwrap().position, "1");
    let error = changes.next().await.unwrap().unwrap_err();
    assert!(matches!(error, PullcordError::CallFailed { .. }), "{error}");
    assert!(changes.next().await.is_none());
}

#[tokio::test]
async fn a_list_whose_connections_bring_nothing_is_given_up() {
    let server = Fake::new([Reply::Refuse(Status::unavailable("gone"))]).await;
    let impatient = RunClient::with_options(ClientOptions {
        pace: Pace {
            reconnect_for: Duration::ZERO,
            ..Pace::default()
        },
        ..options(server.address)
    });
    let mut changes = impatient.unwrap().watch_runs(request());
    let error = changes.next().await.unwrap().unwrap_err();
    assert!(
        matches!(error, PullcordError::ConnectionLost { .. }),
        "{error}"
    );
}
