//! The verbs beside the stream, and what goes with every call.

use std::time::Duration;

use pullcord::v1::{
    CancelRunResponse, EraseRunsRequest, EraseRunsResponse, ListRunsResponse, RunState,
};
use pullcord::{
    CancelRunRequest, ClientOptions, ListRunsRequest, PullcordError, Run, RunClient, RunSpec,
};
use tokio_stream::StreamExt;
use tonic::Status;

use crate::server::{Fake, Reply, Seen, client, options};

fn run(run_id: &str) -> Run {
    Run {
        run_id: run_id.into(),
        ..Run::default()
    }
}

#[tokio::test]
async fn a_start_mints_an_id() {
    let mut server = Fake::new([Reply::Run(run("r"))]).await;
    let begun = client(server.address).start(RunSpec::default()).await;
    assert_eq!(begun.unwrap().run_id, "r");
    assert!(matches!(server.seen().await, Seen::Start(spec) if spec.run_id.len() == 36));
}

#[tokio::test]
async fn a_wait_outlives_its_line() {
    let mut server = Fake::new([
        Reply::Refuse(Status::unavailable("gone")),
        Reply::Refuse(Status::cancelled("shed")),
        Reply::Run(run("r")),
    ])
    .await;
    let timeout = Some(Duration::from_secs(20));
    let ended = client(server.address).wait("r", timeout).await;
    assert_eq!(ended.unwrap().run_id, "r");
    let mut left = Vec::new();
    for _ in 0..3 {
        let Seen::Wait(asked) = server.seen().await else {
            panic!("another call");
        };
        left.push(Duration::try_from(asked.timeout.unwrap()).unwrap());
    }
    assert_eq!(left[0], Duration::from_secs(20));
    assert!(left[0] > left[1] && left[1] > left[2], "{left:?}");
    server.assert_done();
}

#[tokio::test]
async fn a_wait_without_a_timeout_has_none_and_a_refusal_ends_it() {
    let mut server = Fake::new([Reply::Refuse(Status::not_found("none"))]).await;
    let refused = client(server.address).wait("r", None).await;
    assert!(matches!(refused, Err(PullcordError::CallFailed { .. })));
    assert!(matches!(server.seen().await, Seen::Wait(asked) if asked.timeout.is_none()));
}

#[tokio::test]
async fn a_list_asks_page_by_page() {
    let page = |ids: [&str; 2], next: &str| {
        Reply::Page(ListRunsResponse {
            runs: ids.map(run).into(),
            next_page_token: next.into(),
        })
    };
    let mut server = Fake::new([page(["a", "b"], "more"), page(["c", "d"], "")]).await;
    let request = ListRunsRequest {
        states: vec![RunState::Running.into()],
        ..ListRunsRequest::default()
    };
    let mut runs = client(server.address).list(request.clone());
    let mut ids = Vec::new();
    while let Some(run) = runs.next().await {
        ids.push(run.unwrap().run_id);
    }
    assert_eq!(ids, ["a", "b", "c", "d"]);
    assert!(matches!(server.seen().await, Seen::List(asked) if asked == request));
    let next = ListRunsRequest {
        page_token: "more".into(),
        ..request
    };
    assert!(matches!(server.seen().await, Seen::List(asked) if asked == next));
    server.assert_done();
}

#[tokio::test]
async fn a_cancel_has_half_a_minute_beyond_its_wait() {
    let receipt = Reply::Receipt(CancelRunResponse::default());
    let mut server = Fake::new([receipt]).await;
    let request = CancelRunRequest {
        run_id: "r".into(),
        wait: Some(Duration::from_secs(12).try_into().unwrap()),
        ..CancelRunRequest::default()
    };
    client(server.address).cancel_with(request).await.unwrap();
    let Seen::Cancel(asked, metadata) = server.seen().await else {
        panic!("another call");
    };
    assert_eq!(asked.run_id, "r");
    assert_eq!(metadata.get("grpc-timeout").unwrap(), "42000000u");
}

#[tokio::test]
async fn an_erasure_says_what_is_gone_and_what_is_live() {
    let erased = EraseRunsResponse {
        runs: 3,
        live_run_ids: vec!["live".into()],
        ..EraseRunsResponse::default()
    };
    let mut server = Fake::new([Reply::Erased(erased.clone())]).await;
    let request = EraseRunsRequest {
        user_id: "ann".into(),
        validate_only: true,
        ..EraseRunsRequest::default()
    };
    let answer = client(server.address).erase(request.clone()).await;
    assert_eq!(answer.unwrap(), erased);
    assert!(matches!(server.seen().await, Seen::Erase(asked) if asked == request));
}

#[tokio::test]
async fn metadata_and_the_actor_go_with_every_call() {
    let receipt = || Reply::Receipt(CancelRunResponse::default());
    let mut server = Fake::new([receipt(), receipt(), receipt()]).await;
    let client = RunClient::with_options(ClientOptions {
        metadata: vec![("authorization".into(), "Bearer of it".into())],
        actor: Some("Zoë".into()),
        ..options(server.address)
    })
    .unwrap();
    client.cancel("r", "").await.unwrap();
    client.as_actor("bob").cancel("r", "").await.unwrap();
    client.cancel("r", "").await.unwrap();
    for actor in ["Zo%C3%AB", "bob", "Zo%C3%AB"] {
        let Seen::Cancel(_, metadata) = server.seen().await else {
            panic!("another call");
        };
        assert_eq!(metadata.get("authorization").unwrap(), "Bearer of it");
        let said: Vec<_> = metadata.get_all("pullcord-actor").iter().collect();
        assert_eq!(said, [actor]);
    }
}

#[tokio::test]
async fn the_actor_is_whom_the_options_say_or_the_metadata_or_this_process() {
    let host = whoami::hostname().unwrap();
    for (option, entry, expected) in [
        (Some("bob"), Some("ann"), "bob"),
        (None, Some("ann"), "ann"),
        (None, None, host.as_str()),
    ] {
        let receipt = Reply::Receipt(CancelRunResponse::default());
        let mut server = Fake::new([receipt]).await;
        let entries = entry.map(|entry| ("pullcord-actor".into(), entry.into()));
        let client = RunClient::with_options(ClientOptions {
            metadata: entries.into_iter().collect(),
            actor: option.map(Into::into),
            ..options(server.address)
        })
        .unwrap();
        client.cancel("r", "").await.unwrap();
        let Seen::Cancel(_, metadata) = server.seen().await else {
            panic!("another call");
        };
        let said = metadata.get("pullcord-actor").unwrap().to_str().unwrap();
        assert!(said.ends_with(expected), "{said}");
    }
}

#[tokio::test]
async fn a_wrong_option_is_the_caller_s_mistake() {
    let field = |options| match RunClient::with_options(options) {
        Err(PullcordError::InvalidArgument { violations }) => violations[0].field.clone(),
        other => panic!("{other:?}"),
    };
    let target = ClientOptions {
        target: "not an address".into(),
        ..ClientOptions::default()
    };
    assert_eq!(field(target), "target");
    for (key, value) in [("not a key", "value"), ("key", "a\nb")] {
        let metadata = ClientOptions {
            metadata: vec![(key.into(), value.into())],
            ..ClientOptions::default()
        };
        assert_eq!(field(metadata), "metadata");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_lost_connection() {
    let gone = Fake::new([]).await.address;
    let error = client(gone).get("r").await.unwrap_err();
    assert!(matches!(&error, PullcordError::ConnectionLost { run_id, .. } if run_id == "r"));
}
