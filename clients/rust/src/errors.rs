//! The errors a caller can meet, each saying whose fault it is and what to do next, and how they are
//! made of the `google.rpc` details that a status carries.
//!
//! These are refusals of a call. A run's own failure is no error: it is the event `run_failed`.

use std::{collections::HashMap, error::Error, fmt, time::Duration};

use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt;

use crate::v1::RunState;

const DOMAIN: &str = "pullcord";
const DEFAULT_RETRY: Duration = Duration::from_secs(1);

/// Why a call was refused, or failed on its way.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PullcordError {
    /// The caller's mistake: `violations` names every wrong field.
    #[error("{}", in_words(.violations))]
    InvalidArgument {
        /// Never empty where a server says it.
        violations: Vec<Violation>,
    },
    /// No such run, or it has been forgotten.
    #[error("there is no run {run_id:?}")]
    RunNotFound {
        /// The run that was asked for.
        run_id: String,
    },
    /// Nothing of that name is on offer.
    #[error("nothing is on offer as {runnable:?}")]
    RunnableNotFound {
        /// The name that was asked for.
        runnable: String,
    },
    /// The `run_id` belongs to a run with another spec.
    #[error("run {run_id:?} exists already, with another spec")]
    RunExists {
        /// The run that exists.
        run_id: String,
    },
    /// No room for another run. Try again after `retry_after`.
    #[error("{message}")]
    ServerBusy {
        /// Why there is none.
        message: String,
        /// When there may be room.
        retry_after: Duration,
    },
    /// The server is stopping. Try another, or again after `retry_after`.
    #[error("the server is stopping and takes no new runs")]
    Draining {
        /// When another server may have taken its place.
        retry_after: Duration,
    },
    /// The shared store does not answer. Nothing was changed.
    #[error("{message}")]
    StoreUnavailable {
        /// What is known of it.
        message: String,
    },
    /// The session is busy with another run, and the spec said to reject.
    #[error("session {session_id:?} is busy with run {run_id:?}")]
    SessionBusy {
        /// The session.
        session_id: String,
        /// The run that is at work in it.
        run_id: String,
    },
    /// A filter matches more runs than the caller allowed. Nothing was cancelled.
    #[error("the filter matches {matched} runs, and {allowed} are allowed")]
    TooManyAffected {
        /// How many match.
        matched: u64,
        /// How many may.
        allowed: u64,
    },
    /// The run does not wait for a decision. Nothing was changed.
    #[error("run {run_id:?} does not wait for a decision: it is {}", .state.as_str_name())]
    RunNotPaused {
        /// The run.
        run_id: String,
        /// What it does instead; `Unspecified`: something that this client does not know.
        state: RunState,
        /// Whether it has gone on by the same decisions, such as when a call is tried again.
        repeated: bool,
    },
    /// The call carries no credential, or one that is not valid.
    #[error("{message}")]
    Unauthenticated {
        /// What the server says, which is the same whatever was wrong.
        message: String,
    },
    /// The caller may see this, but not do it. Nothing was changed.
    #[error("{message}")]
    PermissionDenied {
        /// What the server says.
        message: String,
        /// What was asked for, such as `cancel`.
        verb: String,
    },
    /// The caller, or its tenant, has its share. Try again after `retry_after`.
    #[error("{message}")]
    QuotaExceeded {
        /// What the server says.
        message: String,
        /// The name of the quota.
        quota: String,
        /// When there may be room.
        retry_after: Duration,
    },
    /// A stream's credential is not valid any more. The run goes on for its lease: watch it with a
    /// fresh one, after the last event seen.
    #[error("the credential of the stream of run {run_id:?} is not valid any more")]
    CredentialExpired {
        /// The run.
        run_id: String,
    },
    /// The server's own fault, never the caller's and never the run's. Its log says more.
    #[error("the server made a mistake; its log says more")]
    ServerFault,
    /// A call that failed on its way, or with words that this client does not know.
    #[error("{code:?}: {message}")]
    CallFailed {
        /// The call's status.
        code: Code,
        /// The status' words.
        message: String,
        /// The run that the call was about; empty: none.
        run_id: String,
    },
    /// The server cannot be reached. The run may be at work all the same: watch it, or ask again.
    #[error("the connection was lost: {message}")]
    ConnectionLost {
        /// What is known of it.
        message: String,
        /// The run that the call was about; empty: none.
        run_id: String,
    },
    /// The caller's own time for the call was up. The run is stopped only where the call says so.
    #[error("the call's time was up: {message}")]
    DeadlineExceeded {
        /// What is known of it.
        message: String,
        /// The run that the call was about; empty: none.
        run_id: String,
    },
}

/// One field of a request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request, such as `spec.limits.timeout`; empty: the whole of it.
    pub field: String,
    /// What is wrong, and what would be right.
    pub description: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(to, "{}: ", self.field)?;
        }
        to.write_str(&self.description)
    }
}

fn in_words(violations: &[Violation]) -> String {
    let words: Vec<_> = violations.iter().map(ToString::to_string).collect();
    words.join("; ")
}

impl PullcordError {
    /// The gRPC status of the call.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::InvalidArgument { .. } => Code::InvalidArgument,
            Self::RunNotFound { .. } | Self::RunnableNotFound { .. } => Code::NotFound,
            Self::RunExists { .. } => Code::AlreadyExists,
            Self::ServerBusy { .. } | Self::QuotaExceeded { .. } => Code::ResourceExhausted,
            Self::Unauthenticated { .. } | Self::CredentialExpired { .. } => Code::Unauthenticated,
            Self::PermissionDenied { .. } => Code::PermissionDenied,
            Self::Draining { .. } | Self::StoreUnavailable { .. } | Self::ConnectionLost { .. } => {
                Code::Unavailable
            }
            Self::SessionBusy { .. } => Code::Aborted,
            Self::TooManyAffected { .. } | Self::RunNotPaused { .. } => Code::FailedPrecondition,
            Self::ServerFault => Code::Internal,
            Self::CallFailed { code, .. } => *code,
            Self::DeadlineExceeded { .. } => Code::DeadlineExceeded,
        }
    }

    /// The run that the error is about, where it is about one.
    #[must_use]
    pub fn run_id(&self) -> Option<&str> {
        match self {
            Self::RunNotFound { run_id }
            | Self::RunExists { run_id }
            | Self::SessionBusy { run_id, .. }
            | Self::RunNotPaused { run_id, .. }
            | Self::CredentialExpired { run_id }
            | Self::CallFailed { run_id, .. }
            | Self::ConnectionLost { run_id, .. }
            | Self::DeadlineExceeded { run_id, .. } => Some(run_id.as_str()),
            _ => None,
        }
        .filter(|run_id| !run_id.is_empty())
    }

    /// The caller's mistake in one field, found before anything was sent.
    pub(crate) fn invalid(field: &str, description: impl fmt::Display) -> Self {
        let (field, description) = (field.to_owned(), description.to_string());
        Self::InvalidArgument {
            violations: vec![Violation { field, description }],
        }
    }
}

/// The error that the server meant, or what is known of a call that failed without its words.
///
/// `run_id` is the run that the call was about; empty: none.
pub(crate) fn from_status(status: &Status, run_id: &str) -> PullcordError {
    if let Some(heard) = hear(status) {
        return heard;
    }
    let (message, run_id) = (status.message().to_owned(), run_id.to_owned());
    // tonic gives a source to a status that it made itself, because of the line or of its timer.
    // The code does not tell, and depends on tonic's features.
    let is_own = status.source().is_some();
    match status.code() {
        Code::DeadlineExceeded => PullcordError::DeadlineExceeded { message, run_id },
        _ if is_own && has_timed_out(status) => PullcordError::DeadlineExceeded { message, run_id },
        Code::Unavailable => PullcordError::ConnectionLost { message, run_id },
        _ if is_own => PullcordError::ConnectionLost { message, run_id },
        code => PullcordError::CallFailed {
            code,
            message,
            run_id,
        },
    }
}

fn has_timed_out(status: &Status) -> bool {
    std::iter::successors(status.source(), |&error| error.source())
        .any(<dyn Error>::is::<TimeoutExpired>)
}

/// What the status' details say; None where they are not ours, or of a newer server.
fn hear(status: &Status) -> Option<PullcordError> {
    let details = status.check_error_details().ok()?;
    let info = details.error_info().filter(|info| info.domain == DOMAIN)?;
    let message = status.message().to_owned();
    let said = |key| said(&info.metadata, key);
    let retry_after = details
        .retry_info()
        .and_then(|info| info.retry_delay)
        .unwrap_or(DEFAULT_RETRY);
    Some(match info.reason.as_str() {
        "INVALID_ARGUMENT" => PullcordError::InvalidArgument {
            violations: details.bad_request().map_or_else(Vec::new, violations),
        },
        "RUN_NOT_FOUND" => PullcordError::RunNotFound {
            run_id: said("run_id")?,
        },
        "RUNNABLE_NOT_FOUND" => PullcordError::RunnableNotFound {
            runnable: said("runnable")?,
        },
        "RUN_EXISTS" => PullcordError::RunExists {
            run_id: said("run_id")?,
        },
        "SERVER_BUSY" => PullcordError::ServerBusy {
            message,
            retry_after,
        },
        "DRAINING" => PullcordError::Draining { retry_after },
        "STORE_UNAVAILABLE" => PullcordError::StoreUnavailable { message },
        "SESSION_BUSY" => PullcordError::SessionBusy {
            session_id: said("session_id")?,
            run_id: said("run_id")?,
        },
        "TOO_MANY_AFFECTED" => PullcordError::TooManyAffected {
            matched: said("matched")?.parse().ok()?,
            allowed: said("allowed")?.parse().ok()?,
        },
        "RUN_NOT_PAUSED" => PullcordError::RunNotPaused {
            run_id: said("run_id")?,
            state: RunState::from_str_name(&format!("RUN_STATE_{}", said("state")?))
                .unwrap_or(RunState::Unspecified),
            repeated: said("repeated").is_some_and(|repeated| repeated == "true"),
        },
        "UNAUTHENTICATED" => PullcordError::Unauthenticated { message },
        "PERMISSION_DENIED" => PullcordError::PermissionDenied {
            message,
            verb: said("verb")?,
        },
        "QUOTA_EXCEEDED" => PullcordError::QuotaExceeded {
            message,
            quota: said("quota")?,
            retry_after,
        },
        "CREDENTIAL_EXPIRED" => PullcordError::CredentialExpired {
            run_id: said("run_id")?,
        },
        "INTERNAL" => PullcordError::ServerFault,
        _ => return None,
    })
}

fn said(metadata: &HashMap<String, String>, key: &str) -> Option<String> {
    metadata.get(key).cloned()
}

fn violations(bad_request: &tonic_types::BadRequest) -> Vec<Violation> {
    let violations = bad_request.field_violations.iter();
    violations
        .map(|violation| Violation {
            field: violation.field.clone(),
            description: violation.description.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests;
