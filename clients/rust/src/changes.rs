//! The list of runs as it changes, over as many connections as it takes.
//!
//! It calls and waits. What a broken line means is decided in `resume`.

use futures_core::Stream;
use futures_util::stream;
use tonic::{Status, Streaming};

use crate::calls::Calls;
use crate::errors::{PullcordError, from_status};
use crate::resume::Resume;
use crate::stream::{chance, now};
use crate::v1::{WatchRunsRequest, WatchRunsResponse};

/// The changes of a list from the request's `after` on. An error is the last thing that it says.
pub(crate) fn follow(
    calls: Calls,
    request: WatchRunsRequest,
    resume: Resume,
) -> impl Stream<Item = Result<WatchRunsResponse, PullcordError>> + Send + Unpin + 'static {
    let list = List {
        calls,
        request,
        resume,
        open: None,
    };
    Box::pin(stream::try_unfold(list, |mut list| async move {
        let change = list.next().await?;
        Ok(Some((change, list)))
    }))
}

struct List {
    calls: Calls,
    /// Its `after` moves with what has come.
    request: WatchRunsRequest,
    resume: Resume,
    open: Option<Streaming<WatchRunsResponse>>,
}

impl List {
    /// The next change that says something.
    async fn next(&mut self) -> Result<WatchRunsResponse, PullcordError> {
        loop {
            let lost = match self.receive().await {
                Ok(Some(change)) => {
                    self.resume.progress();
                    self.request.after.clone_from(&change.position);
                    if change.run.is_some() || change.caught_up || change.missed {
                        return Ok(change);
                    }
                    continue;
                }
                Ok(None) => None,
                Err(status) => Some(from_status(&status, "")),
            };
            self.open = None;
            tokio::time::sleep(self.resume.lost(lost, now(), chance())?).await;
            self.resume.opening(now())?;
        }
    }

    /// The connection's next answer; None: it has ended in peace.
    async fn receive(&mut self) -> Result<Option<WatchRunsResponse>, Status> {
        if self.open.is_none() {
            self.open = Some(self.calls.open_list(self.request.clone()).await?);
        }
        match &mut self.open {
            Some(open) => open.message().await,
            None => Ok(None),
        }
    }
}
