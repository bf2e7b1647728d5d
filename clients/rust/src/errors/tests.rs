//! Each row of docs/errors.md, made of the details that a server sends.

use std::sync::Arc;

use tonic_types::ErrorDetails;

use super::*;
use crate::v1::ErrorReason;

/// What a server refuses with.
fn refusal(code: Code, reason: &str, said: &[(&str, &str)]) -> Status {
    refusal_of(code, reason, said, ErrorDetails::new())
}

fn refusal_of(
    code: Code,
    reason: &str,
    said: &[(&str, &str)],
    mut details: ErrorDetails,
) -> Status {
    let metadata: HashMap<_, _> = said
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    details.set_error_info(reason, DOMAIN, metadata);
    Status::with_error_details(code, "the words", details)
}

fn retry(millis: u64) -> ErrorDetails {
    ErrorDetails::with_retry_info(Some(Duration::from_millis(millis)))
}

/// A reason, the status that it travels as, and the error that it must become.
type Row = (&'static str, Status, PullcordError);

fn row(
    reason: &'static str,
    said: &[(&str, &str)],
    details: ErrorDetails,
    error: PullcordError,
) -> Row {
    let code = match reason {
        "INVALID_ARGUMENT" => Code::InvalidArgument,
        "RUN_NOT_FOUND" | "RUNNABLE_NOT_FOUND" => Code::NotFound,
        "RUN_EXISTS" => Code::AlreadyExists,
        "SERVER_BUSY" | "QUOTA_EXCEEDED" => Code::ResourceExhausted,
        "UNAUTHENTICATED" | "CREDENTIAL_EXPIRED" => Code::Unauthenticated,
        "PERMISSION_DENIED" => Code::PermissionDenied,
        "DRAINING" | "STORE_UNAVAILABLE" => Code::Unavailable,
        "SESSION_BUSY" => Code::Aborted,
        "TOO_MANY_AFFECTED" | "RUN_NOT_PAUSED" => Code::FailedPrecondition,
        _ => Code::Internal,
    };
    (reason, refusal_of(code, reason, said, details), error)
}

#[allow(clippy::too_many_lines)] // a row for each refusal
fn table() -> Vec<Row> {
    let mut bad_request = ErrorDetails::new();
    bad_request.add_bad_request_violation("spec.runnable", "is missing");
    bad_request.add_bad_request_violation("", "is too much");
    let violation = |field: &str, description: &str| Violation {
        field: field.into(),
        description: description.into(),
    };
    let none = ErrorDetails::new;
    vec![
        row(
            "INVALID_ARGUMENT",
            &[],
            bad_request,
            PullcordError::InvalidArgument {
                violations: vec![
                    violation("spec.runnable", "is missing"),
                    violation("", "is too much"),
                ],
            },
        ),
        row(
            "RUN_NOT_FOUND",
            &[("run_id", "r")],
            none(),
            PullcordError::RunNotFound { run_id: "r".into() },
        ),
        row(
            "RUNNABLE_NOT_FOUND",
            &[("runnable", "a/b")],
            none(),
            PullcordError::RunnableNotFound {
                runnable: "a/b".into(),
            },
        ),
        row(
            "RUN_EXISTS",
            &[("run_id", "r")],
            none(),
            PullcordError::RunExists { run_id: "r".into() },
        ),
        row(
            "SERVER_BUSY",
            &[],
            retry(2500),
            PullcordError::ServerBusy {
                message: "the words".into(),
                retry_after: Duration::from_millis(2500),
            },
        ),
        row(
            "DRAINING",
            &[],
            retry(300),
            PullcordError::Draining {
                retry_after: Duration::from_millis(300),
            },
        ),
        row(
            "STORE_UNAVAILABLE",
            &[],
            none(),
            PullcordError::StoreUnavailable {
                message: "the words".into(),
            },
        ),
        row(
            "UNAUTHENTICATED",
            &[],
            none(),
            PullcordError::Unauthenticated {
                message: "the words".into(),
            },
        ),
        row(
            "PERMISSION_DENIED",
            &[("verb", "cancel"), ("what", "run 'r'")],
            none(),
            PullcordError::PermissionDenied {
                message: "the words".into(),
                verb: "cancel".into(),
            },
        ),
        row(
            "QUOTA_EXCEEDED",
            &[("quota", "starts_per_minute"), ("subject", "caller")],
            retry(2500),
            PullcordError::QuotaExceeded {
                message: "the words".into(),
                quota: "starts_per_minute".into(),
                retry_after: Duration::from_millis(2500),
            },
        ),
        row(
            "CREDENTIAL_EXPIRED",
            &[("run_id", "r")],
            none(),
            PullcordError::CredentialExpired { run_id: "r".into() },
        ),
        row(
            "SESSION_BUSY",
            &[("session_id", "s"), ("run_id", "r")],
            none(),
            PullcordError::SessionBusy {
                session_id: "s".into(),
                run_id: "r".into(),
            },
        ),
        row(
            "TOO_MANY_AFFECTED",
            &[("matched", "12"), ("allowed", "3")],
            none(),
            PullcordError::TooManyAffected {
                matched: 12,
                allowed: 3,
            },
        ),
        row(
            "RUN_NOT_PAUSED",
            &[("run_id", "r"), ("state", "RUNNING"), ("repeated", "true")],
            none(),
            PullcordError::RunNotPaused {
                run_id: "r".into(),
                state: RunState::Running,
                repeated: true,
            },
        ),
        row("INTERNAL", &[], none(), PullcordError::ServerFault),
    ]
}

#[test]
fn every_refusal_is_the_error_that_the_server_meant() {
    for (reason, status, error) in table() {
        assert_eq!(from_status(&status, "asked"), error, "{reason}");
    }
}

#[test]
fn every_reason_of_the_api_has_an_error() {
    let reasons: Vec<_> = (1..)
        .map_while(|number| ErrorReason::try_from(number).ok())
        .map(|reason| reason.as_str_name().replace("ERROR_REASON_", ""))
        .collect();
    assert_eq!(reasons.len(), table().len());
    for (reason, ..) in table() {
        assert!(reasons.iter().any(|known| known == reason), "{reason}");
    }
}

#[test]
fn every_error_has_the_code_of_its_status() {
    for (reason, status, error) in table() {
        assert_eq!(error.code(), status.code(), "{reason}");
    }
}

#[test]
fn an_error_has_its_run_where_there_is_one() {
    for (reason, _, error) in table() {
        let has_run = matches!(
            reason,
            "RUN_NOT_FOUND"
                | "RUN_EXISTS"
                | "SESSION_BUSY"
                | "RUN_NOT_PAUSED"
                | "CREDENTIAL_EXPIRED"
        );
        assert_eq!(error.run_id(), has_run.then_some("r"), "{reason}");
    }
    let unavailable = Status::unavailable("");
    assert_eq!(from_status(&unavailable, "asked").run_id(), Some("asked"));
    assert_eq!(from_status(&unavailable, "").run_id(), None);
}

#[test]
fn an_error_speaks_in_words() {
    let words: Vec<_> = table()
        .into_iter()
        .map(|(.., error)| error.to_string())
        .collect();
    assert_eq!(words[0], "spec.runnable: is missing; is too much");
    assert_eq!(words[1], "there is no run \"r\"");
    assert_eq!(words[4], "the words");
}

#[test]
fn without_a_time_to_try_again_it_is_a_second() {
    let status = refusal(Code::ResourceExhausted, "SERVER_BUSY", &[]);
    let error = from_status(&status, "");
    assert!(
        matches!(error, PullcordError::ServerBusy { retry_after, .. } if retry_after.as_secs() == 1)
    );
}

#[test]
fn a_state_of_a_newer_server_is_one_that_is_not_known() {
    let said = [("run_id", "r"), ("state", "SLEEPING")];
    let error = from_status(
        &refusal(Code::FailedPrecondition, "RUN_NOT_PAUSED", &said),
        "",
    );
    assert!(matches!(
        error,
        PullcordError::RunNotPaused {
            state: RunState::Unspecified,
            repeated: false,
            ..
        }
    ));
}

#[test]
fn a_status_without_our_details_is_a_failed_call() {
    let mut foreign = ErrorDetails::new();
    foreign.set_error_info("INTERNAL", "example.com", HashMap::new());
    for status in [
        Status::not_found("the words"),
        Status::with_error_details(Code::NotFound, "the words", foreign),
        refusal(Code::NotFound, "OF_A_NEWER_SERVER", &[]),
        refusal(Code::NotFound, "RUN_NOT_FOUND", &[]), // which run, it says in another way
        Status::with_details(Code::NotFound, "the words", vec![0xff].into()),
    ] {
        assert_eq!(
            from_status(&status, "asked"),
            PullcordError::CallFailed {
                code: Code::NotFound,
                message: "the words".into(),
                run_id: "asked".into(),
            }
        );
    }
}

#[test]
fn a_call_that_got_no_answer_is_a_lost_connection_or_a_deadline() {
    let lost = from_status(&Status::unavailable("gone"), "");
    assert!(matches!(lost, PullcordError::ConnectionLost { .. }));
    assert_eq!(lost.code(), Code::Unavailable);
    let late = from_status(&Status::deadline_exceeded("late"), "");
    assert!(matches!(late, PullcordError::DeadlineExceeded { .. }));
    assert_eq!(late.code(), Code::DeadlineExceeded);
}

#[test]
fn a_status_that_the_line_made_is_a_lost_connection_whatever_its_code() {
    for code in [Code::Unknown, Code::Internal, Code::Cancelled] {
        let mut status = Status::new(code, "h2 protocol error");
        status.set_source(Arc::new(std::io::Error::other("reset")));
        let error = from_status(&status, "");
        assert!(matches!(error, PullcordError::ConnectionLost { .. }));
    }
}

#[test]
fn a_status_that_the_timer_made_is_a_deadline() {
    let error = from_status(&Status::from_error(Box::new(TimeoutExpired(()))), "");
    assert!(matches!(error, PullcordError::DeadlineExceeded { .. }));
}
