//! `RunClient`: starts, follows, looks at and stops the runs of a server.
//!
//! It calls. How a stream goes on after a break is in `stream` and `resume`, what a refusal means in
//! `errors`.

use std::time::Duration;

use futures_core::Stream;
use futures_util::{TryStreamExt, stream};
use uuid::Uuid;

use crate::calls::{CALL_TIMEOUT, Calls, ClientOptions, MAX_TIMEOUT};
use crate::changes;
use crate::errors::PullcordError;
use crate::resume::{Pace, Resume};
use crate::stream::{RunStream, StreamOptions, chance, now};
use crate::v1::{
    CancelRunRequest, CancelRunResponse, CancelRunsRequest, CancelRunsResponse, ContinueRunRequest,
    CreateRunTokenRequest, CreateRunTokenResponse, Decision, EraseRunsRequest, EraseRunsResponse,
    GetRunRequest, ListRunnablesRequest, ListRunsRequest, ListRunsResponse, Run, RunSpec, Runnable,
    StartRunRequest, WaitRunRequest, WatchRunsRequest, WatchRunsResponse,
};

/// Starts, follows, looks at and stops the runs of a server.
///
/// Make it inside a tokio runtime, and use it there. It connects with the first call, again whenever
/// the line was lost, and is cheap to clone. Dropping it ends no stream.
#[derive(Clone, Debug)]
pub struct RunClient {
    pub(crate) calls: Calls,
    pace: Pace,
}

impl RunClient {
    /// A client of the server at `target`: `host:port`, or a URI whose `https://` asks for TLS.
    ///
    /// # Errors
    /// `InvalidArgument`: it is no address.
    pub fn new(target: impl Into<String>) -> Result<Self, PullcordError> {
        Self::with_options(ClientOptions {
            target: target.into(),
            ..ClientOptions::default()
        })
    }

    /// The same with all that can be said.
    ///
    /// # Errors
    /// `InvalidArgument`: an option is of no use.
    pub fn with_options(options: ClientOptions) -> Result<Self, PullcordError> {
        let pace = options.pace;
        let calls = Calls::new(options)?;
        Ok(Self { calls, pace })
    }

    /// The same client, asking on somebody else's behalf.
    #[must_use]
    pub fn as_actor(&self, actor: &str) -> Self {
        Self {
            calls: self.calls.clone().with_actor(actor),
            pace: self.pace,
        }
    }

    /// The same client for the runs of one owner, and of one tenant, for a caller that may see the runs of
    /// several, which may have the same ids. Empty: the caller's own, else any that it may see. What a
    /// request says itself stands.
    #[must_use]
    pub fn of(&self, tenant: impl Into<String>, owner: impl Into<String>) -> Self {
        Self {
            calls: self.calls.clone().for_runs_of(tenant.into(), owner.into()),
            pace: self.pace,
        }
    }

    // --- starting and following

    /// Starts a run and follows it.
    pub fn run(&self, spec: RunSpec) -> RunStream {
        self.run_with(spec, StreamOptions::default())
    }

    /// The same with options: after `timeout` the run ends with cause DEADLINE, a little before the
    /// call does.
    pub fn run_with(&self, spec: RunSpec, options: StreamOptions) -> RunStream {
        let spec = with_id(spec);
        let resume = Resume::start(&spec.run_id, self.pace, now(), options.timeout);
        RunStream::new(self.clone(), resume, Some(spec), options)
    }

    /// Starts a run in the background.
    ///
    /// # Errors
    /// What the server refuses, or what the line does; and so for all that follow.
    pub async fn start(&self, spec: RunSpec) -> Result<Run, PullcordError> {
        let spec = with_id(spec);
        let run_id = spec.run_id.clone();
        let request = StartRunRequest { spec: Some(spec) };
        self.calls
            .ask(request, &run_id, |mut stub, request| async move {
                stub.start_run(request).await
            })
            .await
            .map(|response| response.run.unwrap_or_default())
    }

    /// Follows a run to its end, from the event behind `after_sequence`; 0: from the first one.
    pub fn watch(&self, run_id: impl Into<String>, after_sequence: i64) -> RunStream {
        self.watch_with(run_id, after_sequence, StreamOptions::default())
    }

    /// The same with options: after `timeout` the watching ends.
    pub fn watch_with(
        &self,
        run_id: impl Into<String>,
        after_sequence: i64,
        options: StreamOptions,
    ) -> RunStream {
        let run_id = run_id.into();
        let resume = Resume::follow(&run_id, after_sequence, self.pace, now(), options.timeout);
        RunStream::new(self.clone(), resume, None, options)
    }

    /// The run once it has ended, or as it is after `timeout`.
    ///
    /// # Errors
    /// As above. A line that is lost meanwhile is taken up again, as a stream's.
    pub async fn wait(
        &self,
        run_id: impl Into<String>,
        timeout: Option<Duration>,
    ) -> Result<Run, PullcordError> {
        let run_id = run_id.into();
        let mut resume = Resume::follow(&run_id, 0, self.pace, now(), timeout);
        let mut left = timeout.map(|timeout| timeout.min(MAX_TIMEOUT));
        loop {
            let request = WaitRunRequest {
                run_id: run_id.clone(),
                timeout: left.and_then(|left| left.try_into().ok()),
                ..Default::default()
            };
            let limit = left.map(|left| left + CALL_TIMEOUT);
            let answer = self.calls.call(
                self.calls.of(request),
                &run_id,
                limit,
                |mut stub, request| async move { stub.wait_run(request).await },
            );
            match answer.await {
                Ok(response) => return Ok(response.run.unwrap_or_default()),
                Err(error) => {
                    tokio::time::sleep(resume.lost(Some(error), now(), chance())?).await;
                }
            }
            left = resume.opening(now())?;
        }
    }

    // --- looking

    /// A run as it is now.
    ///
    /// # Errors
    /// As above.
    pub async fn get(&self, run_id: impl Into<String>) -> Result<Run, PullcordError> {
        let run_id = run_id.into();
        let request = GetRunRequest {
            run_id: run_id.clone(),
            ..Default::default()
        };
        self.calls
            .ask(
                self.calls.of(request),
                &run_id,
                |mut stub, request| async move { stub.get_run(request).await },
            )
            .await
            .map(|response| response.run.unwrap_or_default())
    }

    /// All runs that match, the newest first, without input and output; asks page by page.
    pub fn list(
        &self,
        request: ListRunsRequest,
    ) -> impl Stream<Item = Result<Run, PullcordError>> + Send + Unpin + 'static {
        let client = self.clone();
        let pages = stream::try_unfold(Some(request), move |request| {
            let client = client.clone();
            async move {
                let Some(mut request) = request else {
                    return Ok(None);
                };
                let page = client.page(request.clone()).await?;
                request.page_token = page.next_page_token;
                let next = Some(request).filter(|request| !request.page_token.is_empty());
                Ok(Some((stream::iter(page.runs.into_iter().map(Ok)), next)))
            }
        });
        Box::pin(pages.try_flatten())
    }

    async fn page(&self, request: ListRunsRequest) -> Result<ListRunsResponse, PullcordError> {
        self.calls
            .ask(self.calls.of(request), "", |mut stub, request| async move {
                stub.list_runs(request).await
            })
            .await
    }

    /// Every live run that matches, and then each run that is new, changes or ends, without input and
    /// output, over as many connections as it takes; the first is made when it is first polled.
    ///
    /// It goes on until it is dropped; an error is the last thing that it says. To go on later, ask
    /// `after` the `position` of the last change seen.
    pub fn watch_runs(
        &self,
        request: WatchRunsRequest,
    ) -> impl Stream<Item = Result<WatchRunsResponse, PullcordError>> + Send + Unpin + 'static {
        let resume = Resume::follow("", 0, self.pace, now(), None);
        changes::follow(self.calls.clone(), request, resume)
    }

    /// What can be run, in order of name.
    ///
    /// # Errors
    /// As above.
    pub async fn runnables(&self) -> Result<Vec<Runnable>, PullcordError> {
        let request = ListRunnablesRequest {};
        self.calls
            .ask(request, "", |mut stub, request| async move {
                stub.list_runnables(request).await
            })
            .await
            .map(|response| response.runnables)
    }

    // --- going on

    /// Brings a paused run the decision on every call that waits; the run as it then is.
    ///
    /// # Errors
    /// As above; `RunNotPaused` where it does not wait, also because somebody else has decided.
    pub async fn continue_run(
        &self,
        run_id: impl Into<String>,
        decisions: Vec<Decision>,
    ) -> Result<Run, PullcordError> {
        let run_id = run_id.into();
        let request = ContinueRunRequest {
            run_id: run_id.clone(),
            decisions,
            ..Default::default()
        };
        self.calls
            .ask(
                self.calls.of(request),
                &run_id,
                |mut stub, request| async move { stub.continue_run(request).await },
            )
            .await
            .map(|response| response.run.unwrap_or_default())
    }

    // --- stopping

    /// Stops a run. The receipt says what was achieved by then.
    ///
    /// # Errors
    /// As above.
    pub async fn cancel(
        &self,
        run_id: impl Into<String>,
        reason: impl Into<String>,
    ) -> Result<CancelRunResponse, PullcordError> {
        self.cancel_with(CancelRunRequest {
            run_id: run_id.into(),
            reason: reason.into(),
            ..CancelRunRequest::default()
        })
        .await
    }

    /// The same with all that can be said, such as how long the answer may `wait` for the stop.
    ///
    /// # Errors
    /// As above.
    pub async fn cancel_with(
        &self,
        request: CancelRunRequest,
    ) -> Result<CancelRunResponse, PullcordError> {
        let run_id = request.run_id.clone();
        let wait = request.wait.and_then(|wait| Duration::try_from(wait).ok());
        let limit = CALL_TIMEOUT.saturating_add(wait.unwrap_or_default());
        self.calls
            .call(
                self.calls.of(request),
                &run_id,
                Some(limit),
                |mut stub, request| async move { stub.cancel_run(request).await },
            )
            .await
    }

    /// Stops every live run that the filter matches, by session, user, runnable and labels.
    ///
    /// # Errors
    /// As above.
    pub async fn cancel_many(
        &self,
        request: CancelRunsRequest,
    ) -> Result<CancelRunsResponse, PullcordError> {
        self.calls
            .ask(self.calls.of(request), "", |mut stub, request| async move {
                stub.cancel_runs(request).await
            })
            .await
    }

    /// Deletes for good what is kept of the ended runs that match, by user, session, tenant or owner; at
    /// least one is needed. Live runs stay, and are named.
    ///
    /// # Errors
    /// As above.
    pub async fn erase(
        &self,
        request: EraseRunsRequest,
    ) -> Result<EraseRunsResponse, PullcordError> {
        self.calls
            .ask(self.calls.of(request), "", |mut stub, request| async move {
                stub.erase_runs(request).await
            })
            .await
    }

    /// Gets a short-lived token with which a web page may see one run, and stop it, and nothing else.
    ///
    /// # Errors
    /// As above.
    pub async fn create_run_token(
        &self,
        request: CreateRunTokenRequest,
    ) -> Result<CreateRunTokenResponse, PullcordError> {
        let run_id = request.run_id.clone();
        self.calls
            .ask(
                self.calls.of(request),
                &run_id,
                |mut stub, request| async move { stub.create_run_token(request).await },
            )
            .await
    }
}

/// The same spec with an id of its own, so that a retry starts nothing twice, and a cancel can come
/// before the start.
fn with_id(mut spec: RunSpec) -> RunSpec {
    if spec.run_id.is_empty() {
        spec.run_id = Uuid::new_v4().to_string();
    }
    spec
}
