//! `RunStream`: the events of one run, over as many connections as it takes.
//!
//! It calls and waits. What a broken line means is decided in `resume`, what a status means in
//! `errors`.

use std::fmt;
use std::future::{Future, poll_fn, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;
use uuid::Uuid;

use crate::client::RunClient;
use crate::errors::{PullcordError, from_status};
use crate::resume::Resume;
use crate::v1::run_event::Payload;
use crate::v1::{CancelRunRequest, CancelRunResponse, Run, RunEvent, RunSpec};

/// How long a call's status may take to follow the run's terminal event. A call that is left instead
/// would look like a watcher that went away.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a call of Run or `WatchRun` says.
pub(crate) type Events = BoxStream<'static, Result<RunEvent, Status>>;

/// How a run is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// From the call, over all connections; it ends a run that the call starts, a little before.
    /// None: however long it takes.
    pub timeout: Option<Duration>,
    /// Whether heartbeats are shown, too.
    pub heartbeats: bool,
}

/// The events of one run, in order, each once, over as many connections as it takes.
///
/// It ends after the terminal event. Dropping it leaves the run to its disconnect policy;
/// [`cancel`](Self::cancel) stops the run. An error is the last thing that it says.
#[must_use = "dropping the stream leaves the run to its disconnect policy"]
pub struct RunStream {
    client: RunClient,
    resume: Resume,
    /// What to start; None: the run is only watched.
    spec: Option<RunSpec>,
    heartbeats: bool,
    line: Line,
    /// When the caller's time is up; after the terminal event, the time for the farewell.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// Where the stream stands. From every state a failure leads to Waiting, or to the end.
enum Line {
    /// A call was made: leads to Open.
    Opening(Opening),
    /// The call speaks: it stays until it ends.
    Open(Events),
    /// It ended in peace, but too early: how does the run stand?
    Asking(BoxFuture<'static, Result<Run, PullcordError>>),
    /// It broke: leads to Opening.
    Waiting(Pin<Box<Sleep>>),
    /// Nothing more will come.
    Closed,
}

/// What the line had to say.
enum Heard {
    Opened(Result<Events, Status>),
    Event(Option<Result<RunEvent, Status>>),
    Asked(Result<Run, PullcordError>),
    Woken,
}

/// A call on its way, which is made also while nobody polls the stream.
struct Opening(JoinHandle<Result<Events, Status>>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RunStream {
    pub(crate) fn new(
        client: RunClient,
        resume: Resume,
        spec: Option<RunSpec>,
        options: StreamOptions,
    ) -> Self {
        let mut stream = Self {
            client,
            resume,
            spec,
            heartbeats: options.heartbeats,
            line: Line::Closed,
            alarm: options.timeout.map(|timeout| Box::pin(sleep(timeout))),
        };
        stream.connect();
        stream
    }

    /// The run that is followed.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.resume.run_id
    }

    /// The number of the last event seen: what another watch can go on with.
    #[must_use]
    pub fn after_sequence(&self) -> i64 {
        self.resume.after_sequence
    }

    /// What the run came to: the payload of its terminal event; None before that was seen.
    #[must_use]
    pub fn result(&self) -> Option<&Payload> {
        self.resume.result.as_ref()
    }

    /// The next event; None after the last one. What a lost future would have said comes next.
    pub async fn next(&mut self) -> Option<Result<RunEvent, PullcordError>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Stops the run, also where it has not begun; its last events then come as usual.
    ///
    /// # Errors
    /// What the server refuses, or what the line does.
    pub async fn cancel(
        &self,
        reason: impl Into<String>,
    ) -> Result<CancelRunResponse, PullcordError> {
        self.cancel_with(CancelRunRequest {
            reason: reason.into(),
            ..CancelRunRequest::default()
        })
        .await
    }

    /// The same with all that can be said; `run_id` and `before_start` are the stream's.
    ///
    /// # Errors
    /// What the server refuses, or what the line does.
    pub async fn cancel_with(
        &self,
        request: CancelRunRequest,
    ) -> Result<CancelRunResponse, PullcordError> {
        let request = CancelRunRequest {
            run_id: self.resume.run_id.clone(),
            before_start: !self.resume.begun,
            ..request
        };
        self.client.cancel_with(request).await
    }

    /// A connection's call: of Run while the run may not be known, else of `WatchRun`.
    fn connect(&mut self) {
        self.line = match self.resume.opening(now()) {
            Ok(limit) => {
                let spec = self.spec.clone().filter(|_| !self.resume.begun);
                let (run_id, after_sequence) =
                    (self.resume.run_id.clone(), self.resume.after_sequence);
                let client = self.client.clone();
                Line::Opening(Opening(tokio::spawn(async move {
                    match spec {
                        Some(spec) => client.calls.open_run(spec, limit).await,
                        None => client.calls.open_watch(run_id, after_sequence, limit).await,
                    }
                })))
            }
            Err(late) => Line::Asking(Box::pin(ready(Err(late)))),
        };
    }

    /// Takes note of what the line said, and moves it on; the event that is for the caller.
    fn heed(&mut self, heard: Heard) -> Result<Option<RunEvent>, PullcordError> {
        if self.resume.ended {
            self.line = Line::Closed;
            return Ok(None);
        }
        match heard {
            Heard::Opened(Ok(events)) => self.line = Line::Open(events),
            Heard::Event(Some(Ok(event))) => return Ok(self.show(event)),
            Heard::Opened(Err(status)) | Heard::Event(Some(Err(status))) => {
                self.wait(Some(from_status(&status, &self.resume.run_id)))?;
            }
            Heard::Event(None) if self.resume.begun => {
                let (client, run_id) = (self.client.clone(), self.resume.run_id.clone());
                self.line = Line::Asking(Box::pin(async move { client.get(run_id).await }));
            }
            Heard::Event(None) => self.wait(None)?,
            Heard::Asked(Ok(run)) => {
                self.resume.learn(&run);
                if self.resume.ended {
                    self.line = Line::Closed;
                } else {
                    self.wait(None)?;
                }
            }
            Heard::Asked(Err(error)) => self.wait(Some(error))?,
            Heard::Woken => self.connect(),
        }
        Ok(None)
    }

    fn show(&mut self, event: RunEvent) -> Option<RunEvent> {
        let is_new = self.resume.admit(&event);
        if self.resume.ended {
            self.alarm = Some(Box::pin(sleep(FAREWELL)));
        }
        let is_shown = self.heartbeats || !matches!(event.payload, Some(Payload::Heartbeat(_)));
        (is_new && is_shown).then_some(event)
    }

    fn wait(&mut self, error: Option<PullcordError>) -> Result<(), PullcordError> {
        let delay = self.resume.lost(error, now(), chance())?;
        self.line = Line::Waiting(Box::pin(sleep(delay)));
        Ok(())
    }

    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Heard> {
        match &mut self.line {
            Line::Opening(opening) => {
                let opened = Pin::new(&mut opening.0).poll(context);
                opened.map(|task| {
                    // Not ours to abort, so it panicked, or its runtime is shutting down.
                    Heard::Opened(
                        task.unwrap_or_else(|gone| Err(Status::aborted(gone.to_string()))),
                    )
                })
            }
            Line::Open(events) => events.as_mut().poll_next(context).map(Heard::Event),
            Line::Asking(answer) => answer.as_mut().poll(context).map(Heard::Asked),
            Line::Waiting(delay) => delay.as_mut().poll(context).map(|()| Heard::Woken),
            Line::Closed => Poll::Pending,
        }
    }

    fn poll_alarm(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.alarm {
            Some(alarm) => alarm.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

impl fmt::Debug for RunStream {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("RunStream")
            .field("run_id", &self.run_id())
            .field("after_sequence", &self.after_sequence())
            .field("result", &self.result())
            .finish_non_exhaustive()
    }
}

impl Stream for RunStream {
    type Item = Result<RunEvent, PullcordError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = &mut *self;
        while !matches!(stream.line, Line::Closed) {
            let said = match stream.poll_line(context) {
                Poll::Ready(heard) => stream.heed(heard),
                Poll::Pending => {
                    // What has come in time is heard first.
                    std::task::ready!(stream.poll_alarm(context));
                    stream.line = Line::Closed;
                    if stream.resume.ended {
                        Ok(None)
                    } else {
                        Err(stream.resume.time_is_up())
                    }
                }
            };
            match said {
                Ok(None) => {}
                Ok(Some(event)) => return Poll::Ready(Some(Ok(event))),
                Err(error) => {
                    stream.line = Line::Closed;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        Poll::Ready(None)
    }
}

pub(crate) fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// From 0 to 1, at random.
pub(crate) fn chance() -> f64 {
    let [.., high, low] = Uuid::new_v4().into_bytes(); // the version is in other bytes
    f64::from(u16::from_be_bytes([high, low])) / f64::from(u16::MAX)
}
