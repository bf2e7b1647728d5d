package pullcord

// The errors of a call, each saying whose fault it is and what to do next, made from the google.rpc
// details that the server sends. A run that fails is not here: it is data, the event run_failed.

import (
	"context"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pullcordv1 "github.com/pullcord/pullcord/clients/go/v1"
)

// PullcordError is what every error of a call is. Its kinds are pointers to the structs of this
// package: ask for one with [errors.As].
type PullcordError interface {
	error
	// Code is the gRPC status of the call.
	Code() codes.Code
	// RunID is the run that the error is about; empty where there is none.
	RunID() string
}

// said is what all kinds have in common.
type said struct {
	code    codes.Code
	message string
	runID   string
}

// Error is what the server said, in words that are for people and may change.
func (s *said) Error() string { return s.message }

// Code is the gRPC status of the call.
func (s *said) Code() codes.Code { return s.code }

// RunID is the run that the error is about; empty where there is none.
func (s *said) RunID() string { return s.runID }

// GRPCStatus lets status.Code and status.Convert read the error as one of gRPC's own.
func (s *said) GRPCStatus() *status.Status { return status.New(s.code, s.message) }

// Violation is one field of a request that is wrong.
type Violation struct {
	// Field is its path in the request, such as `spec.limits.timeout`; empty: the whole of it.
	Field string
	// Description is what is wrong, and what would be right.
	Description string
}

// InvalidArgument is the caller's mistake: Violations names every wrong field.
type InvalidArgument struct {
	said
	Violations []Violation
}

// RunNotFound says that there is no such run, or that it has been forgotten.
type RunNotFound struct{ said }

// RunnableNotFound says that nothing of that name is on offer.
type RunnableNotFound struct {
	said
	Runnable string
}

// RunExists says that the run_id belongs to a run with another spec.
type RunExists struct{ said }

// ServerBusy says that there is no room for another run. Try again after RetryAfter.
type ServerBusy struct {
	said
	RetryAfter time.Duration
}

// Draining says that the server is stopping. Try another, or again after RetryAfter.
type Draining struct {
	said
	RetryAfter time.Duration
}

// StoreUnavailable says that the shared store does not answer. Nothing was changed.
type StoreUnavailable struct{ said }

// SessionBusy says that the session is busy with the run RunID, and that the spec said to reject.
type SessionBusy struct {
	said
	SessionID string
}

// TooManyAffected says that a filter matches more runs than were allowed. Nothing was cancelled.
type TooManyAffected struct {
	said
	Matched, Allowed int
}

// RunNotPaused says that the run does not wait for a decision. Nothing was changed.
type RunNotPaused struct {
	said
	// State is the run's; unspecified where it is one of a newer server.
	State pullcordv1.RunState
	// Repeated says that it has gone on by the same decisions, such as when a call is tried again.
	Repeated bool
}

// Unauthenticated says that the call carries no credential, or one that is not valid.
type Unauthenticated struct{ said }

// PermissionDenied says that the caller may see this, but not do it. Nothing was changed.
type PermissionDenied struct {
	said
	// Verb is what was asked for, such as `cancel`.
	Verb string
}

// QuotaExceeded says that the caller, or its tenant, has its share. Try again after RetryAfter.
type QuotaExceeded struct {
	said
	// Quota is its name.
	Quota      string
	RetryAfter time.Duration
}

// CredentialExpired says that a stream's credential is not valid any more. The run goes on for its
// lease: watch it with a fresh one, after the last event seen.
type CredentialExpired struct{ said }

// ServerFault is the server's own, never the caller's and never the run's. Its log says more.
type ServerFault struct{ said }

// CallFailed is a call that failed on its way, or with words that this client does not know.
type CallFailed struct {
	said
	cause error
}

// Error is the name of the status, and what was said with it.
func (e *CallFailed) Error() string {
	return strings.TrimSuffix(e.code.String()+": "+e.message, ": ")
}

// Unwrap is the context's error where it was the caller's own context that ended the call.
func (e *CallFailed) Unwrap() error { return e.cause }

// ConnectionLost is a CallFailed: the server cannot be reached. The run may be at work all the same:
// watch it, or ask again.
type ConnectionLost struct{ CallFailed }

// Unwrap makes it a CallFailed, too.
func (e *ConnectionLost) Unwrap() error { return &e.CallFailed }

// DeadlineExceeded is a CallFailed: the caller's own time for the call was up, as with
// [context.DeadlineExceeded]. The run is stopped only where the call says so.
type DeadlineExceeded struct{ CallFailed }

// Unwrap makes it a CallFailed, too.
func (e *DeadlineExceeded) Unwrap() error { return &e.CallFailed }

// domain marks the details that are ours.
const domain = "pullcord"

// fromStatus is the error that the server meant, or what is known of a call that failed without
// words. runID is the run that the call was about, if it is known.
func fromStatus(err error, runID string) PullcordError {
	told := status.Convert(err)
	if refusal := refusalOf(told); refusal != nil {
		return refusal
	}
	failed := CallFailed{said: said{told.Code(), told.Message(), runID}}
	switch {
	case failed.code == codes.DeadlineExceeded:
		failed.cause = context.DeadlineExceeded
		return &DeadlineExceeded{failed}
	case failed.code == codes.Unavailable:
		return &ConnectionLost{failed}
	case isBrokenStream(told):
		failed.code = codes.Unavailable
		return &ConnectionLost{failed}
	}
	return &failed
}

// fromContext is the error of a call that the caller's own context has ended.
func fromContext(err error, runID string) PullcordError {
	told := status.FromContextError(err)
	failed := CallFailed{said{told.Code(), told.Message(), runID}, err}
	if failed.code == codes.DeadlineExceeded {
		return &DeadlineExceeded{failed}
	}
	return &failed
}

// isBrokenStream says whether HTTP/2 ended the call and no application did: gRPC has no code for
// just that.
func isBrokenStream(told *status.Status) bool {
	if told.Code() != codes.Internal && told.Code() != codes.Unknown {
		return false
	}
	for _, sign := range []string{"RST_STREAM", "without sending trailers", "unexpected EOF"} {
		if strings.Contains(told.Message(), sign) {
			return true
		}
	}
	return false
}

// refusalOf is the typed error of a status with our details; nil where it has none, or where a newer
// server tells them in another way.
func refusalOf(told *status.Status) PullcordError {
	var info *errdetails.ErrorInfo
	var violations []Violation
	retryAfter := time.Second
	for _, detail := range told.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == domain {
				info = detail
			}
		case *errdetails.BadRequest:
			for _, v := range detail.GetFieldViolations() {
				violations = append(violations, Violation{v.GetField(), v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			if detail.GetRetryDelay() != nil {
				retryAfter = detail.GetRetryDelay().AsDuration()
			}
		}
	}

	with := info.GetMetadata()
	base := said{told.Code(), told.Message(), with["run_id"]}
	has := func(names ...string) bool {
		for _, name := range names {
			if with[name] == "" {
				return false
			}
		}
		return true
	}
	switch info.GetReason() {
	case "INVALID_ARGUMENT":
		return &InvalidArgument{base, violations}
	case "RUN_NOT_FOUND":
		if has("run_id") {
			return &RunNotFound{base}
		}
	case "RUNNABLE_NOT_FOUND":
		if has("runnable") {
			return &RunnableNotFound{base, with["runnable"]}
		}
	case "RUN_EXISTS":
		if has("run_id") {
			return &RunExists{base}
		}
	case "SERVER_BUSY":
		return &ServerBusy{base, retryAfter}
	case "DRAINING":
		return &Draining{base, retryAfter}
	case "STORE_UNAVAILABLE":
		return &StoreUnavailable{base}
	case "SESSION_BUSY":
		if has("session_id", "run_id") {
			return &SessionBusy{base, with["session_id"]}
		}
	case "TOO_MANY_AFFECTED":
		matched, noMatched := strconv.Atoi(with["matched"])
		allowed, noAllowed := strconv.Atoi(with["allowed"])
		if noMatched == nil && noAllowed == nil {
			return &TooManyAffected{base, matched, allowed}
		}
	case "RUN_NOT_PAUSED":
		if has("run_id", "state") {
			state := pullcordv1.RunState(pullcordv1.RunState_value["RUN_STATE_"+with["state"]])
			return &RunNotPaused{base, state, with["repeated"] == "true"}
		}
	case "UNAUTHENTICATED":
		return &Unauthenticated{base}
	case "PERMISSION_DENIED":
		if has("verb") {
			return &PermissionDenied{base, with["verb"]}
		}
	case "QUOTA_EXCEEDED":
		if has("quota") {
			return &QuotaExceeded{base, with["quota"], retryAfter}
		}
	case "CREDENTIAL_EXPIRED":
		if has("run_id") {
			return &CredentialExpired{base}
		}
	case "INTERNAL":
		return &ServerFault{base}
	}
	return nil
}
