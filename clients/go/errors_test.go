package pullcord

// Each refusal, from the google.rpc details that travel, and what is made of a status without them.

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	pullcordv1 "github.com/pullcord/pullcord/clients/go/v1"
)

// refused is a status as the server sends it.
func refused(t *testing.T, code codes.Code, info *errdetails.ErrorInfo, more ...protoadapt.MessageV1) error {
	t.Helper()
	told, err := status.New(code, "in words").WithDetails(append([]protoadapt.MessageV1{info}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	return told.Err()
}

func reason(name string, entries ...string) *errdetails.ErrorInfo {
	info := &errdetails.ErrorInfo{Reason: name, Domain: "pullcord", Metadata: map[string]string{}}
	for n := 0; n < len(entries); n += 2 {
		info.Metadata[entries[n]] = entries[n+1]
	}
	return info
}

// A row of the table in docs/errors.md.
type row struct {
	code codes.Code
	info *errdetails.ErrorInfo
	more []protoadapt.MessageV1
	want PullcordError
}

func table() []row {
	retry := []protoadapt.MessageV1{&errdetails.RetryInfo{RetryDelay: durationpb.New(2500 * time.Millisecond)}}
	wrong := []protoadapt.MessageV1{&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: "spec.runnable", Description: "is required"}, {Field: "spec.limits.timeout", Description: "is negative"}}}}
	words := func(code codes.Code, run string) said { return said{code, "in words", run} }
	return []row{
		{codes.InvalidArgument, reason("INVALID_ARGUMENT"), wrong, &InvalidArgument{words(codes.InvalidArgument, ""),
			[]Violation{{"spec.runnable", "is required"}, {"spec.limits.timeout", "is negative"}}}},
		{codes.NotFound, reason("RUN_NOT_FOUND", "run_id", "r"), nil, &RunNotFound{words(codes.NotFound, "r")}},
		{codes.NotFound, reason("RUNNABLE_NOT_FOUND", "runnable", "agents/a"), nil,
			&RunnableNotFound{words(codes.NotFound, ""), "agents/a"}},
		{codes.AlreadyExists, reason("RUN_EXISTS", "run_id", "r"), nil, &RunExists{words(codes.AlreadyExists, "r")}},
		{codes.ResourceExhausted, reason("SERVER_BUSY"), retry, &ServerBusy{words(codes.ResourceExhausted, ""), 2500 * time.Millisecond}},
		{codes.ResourceExhausted, reason("SERVER_BUSY"), nil, &ServerBusy{words(codes.ResourceExhausted, ""), time.Second}},
		{codes.Unavailable, reason("DRAINING"), retry, &Draining{words(codes.Unavailable, ""), 2500 * time.Millisecond}},
		{codes.Unavailable, reason("STORE_UNAVAILABLE"), nil, &StoreUnavailable{words(codes.Unavailable, "")}},
		{codes.Aborted, reason("SESSION_BUSY", "session_id", "s", "run_id", "r"), nil, &SessionBusy{words(codes.Aborted, "r"), "s"}},
		{codes.FailedPrecondition, reason("TOO_MANY_AFFECTED", "matched", "3", "allowed", "2"), nil,
			&TooManyAffected{words(codes.FailedPrecondition, ""), 3, 2}},
		{codes.FailedPrecondition, reason("RUN_NOT_PAUSED", "run_id", "r", "state", "COMPLETED"), nil,
			&RunNotPaused{words(codes.FailedPrecondition, "r"), pullcordv1.RunState_RUN_STATE_COMPLETED, false}},
		{codes.FailedPrecondition, reason("RUN_NOT_PAUSED", "run_id", "r", "state", "NEWER", "repeated", "true"), nil,
			&RunNotPaused{words(codes.FailedPrecondition, "r"), pullcordv1.RunState_RUN_STATE_UNSPECIFIED, true}},
		{codes.Unauthenticated, reason("UNAUTHENTICATED"), nil, &Unauthenticated{words(codes.Unauthenticated, "")}},
		{codes.PermissionDenied, reason("PERMISSION_DENIED", "verb", "cancel", "what", "run 'r'"), nil,
			&PermissionDenied{words(codes.PermissionDenied, ""), "cancel"}},
		{codes.ResourceExhausted, reason("QUOTA_EXCEEDED", "quota", "starts_per_minute"), retry,
			&QuotaExceeded{words(codes.ResourceExhausted, ""), "starts_per_minute", 2500 * time.Millisecond}},
		{codes.Unauthenticated, reason("CREDENTIAL_EXPIRED", "run_id", "r"), nil,
			&CredentialExpired{words(codes.Unauthenticated, "r")}},
		{codes.Internal, reason("INTERNAL"), nil, &ServerFault{words(codes.Internal, "")}},
	}
}

// Every refusal becomes its own kind, with its fields, its status and the server's words.
func TestARefusalIsItsOwnKind(t *testing.T) {
	for _, r := range table() {
		got := fromStatus(refused(t, r.code, r.info, r.more...), "mine")
		if !reflect.DeepEqual(got, r.want) {
			t.Errorf("%s is %#v", r.info.GetReason(), got)
		}
		if status.Code(got) != r.code || got.Code() != r.code || got.Error() != "in words" {
			t.Errorf("%s is read as %v: %v", r.info.GetReason(), status.Code(got), got)
		}
	}
}

// The API has no reason that this client does not know.
func TestEveryReasonIsKnown(t *testing.T) {
	known := map[string]bool{"UNSPECIFIED": true}
	for _, r := range table() {
		known[r.info.GetReason()] = true
	}
	for _, name := range pullcordv1.ErrorReason_name {
		if name = strings.TrimPrefix(name, "ERROR_REASON_"); !known[name] {
			t.Errorf("%s has no kind", name)
		}
	}
}

// Details that somebody else attached, or that a newer server tells in another way, are no refusal of
// ours; the status then says what it can.
func TestWhatIsNotToldAsWeKnowItIsACallThatFailed(t *testing.T) {
	foreign := reason("RUN_NOT_FOUND", "run_id", "r")
	foreign.Domain = "elsewhere.example"
	for name, err := range map[string]error{
		"foreign":  refused(t, codes.NotFound, foreign),
		"newer":    refused(t, codes.NotFound, reason("MOON_NOT_FULL")),
		"no id":    refused(t, codes.NotFound, reason("RUN_NOT_FOUND")),
		"no state": refused(t, codes.NotFound, reason("RUN_NOT_PAUSED", "run_id", "r")),
		"no count": refused(t, codes.NotFound, reason("TOO_MANY_AFFECTED", "matched", "many", "allowed", "1")),
		"nothing":  gone(codes.NotFound),
	} {
		failed, ok := fromStatus(err, "mine").(*CallFailed)
		if !ok || failed.Code() != codes.NotFound || failed.RunID() != "mine" {
			t.Errorf("%s: %#v", name, fromStatus(err, "mine"))
		}
	}
	if _, ok := fromStatus(refused(t, codes.Unavailable, foreign), "").(*ConnectionLost); !ok {
		t.Error("a proxy's UNAVAILABLE is not ConnectionLost")
	}
}

// A call without an answer of ours is CallFailed, and two of its kinds have names of their own.
func TestACallThatFailedHasThreeKinds(t *testing.T) {
	for _, c := range []struct {
		err  error
		want any
		code codes.Code
	}{
		{gone(codes.Unavailable), &ConnectionLost{}, codes.Unavailable},
		{gone(codes.DeadlineExceeded), &DeadlineExceeded{}, codes.DeadlineExceeded},
		{gone(codes.Internal), &CallFailed{}, codes.Internal},
		{gone(codes.Canceled), &CallFailed{}, codes.Canceled},
		{status.Error(codes.Internal, "stream terminated by RST_STREAM with error code: NO_ERROR"), &ConnectionLost{}, codes.Unavailable},
		{status.Error(codes.Internal, "server closed the stream without sending trailers"), &ConnectionLost{}, codes.Unavailable},
		{status.Error(codes.Internal, "unexpected EOF"), &ConnectionLost{}, codes.Unavailable},
		{status.Error(codes.DataLoss, "RST_STREAM"), &CallFailed{}, codes.DataLoss},
	} {
		got := fromStatus(c.err, runID)
		if reflect.TypeOf(got) != reflect.TypeOf(c.want) || got.Code() != c.code || got.RunID() != runID {
			t.Errorf("%v is %#v", c.err, got)
		}
		var failed *CallFailed
		if !errors.As(got, &failed) || failed.Code() != c.code {
			t.Errorf("%T is no CallFailed", got)
		}
		if errors.Is(got, context.DeadlineExceeded) != (c.code == codes.DeadlineExceeded) {
			t.Errorf("%v: context.DeadlineExceeded or not", got)
		}
		if errors.Is(got, context.Canceled) {
			t.Errorf("%v is taken for the caller's own cancel", got)
		}
	}
}

// What the caller's own context ended is told apart from what others cancelled.
func TestTheCallersOwnContextIsKnownAgain(t *testing.T) {
	left := fromContext(context.Canceled, runID)
	if !errors.Is(left, context.Canceled) || left.Code() != codes.Canceled || left.RunID() != runID {
		t.Errorf("%#v", left)
	}
	late := fromContext(context.DeadlineExceeded, runID)
	if _, ok := late.(*DeadlineExceeded); !ok || !errors.Is(late, context.DeadlineExceeded) || late.RunID() != runID {
		t.Errorf("%#v", late)
	}
}

// A failed call says its status, and what was said with it.
func TestACallThatFailedSaysItsStatus(t *testing.T) {
	for want, err := range map[string]error{
		"PermissionDenied: no":                 status.Error(codes.PermissionDenied, "no"),
		"PermissionDenied":                     status.Error(codes.PermissionDenied, ""),
		"DeadlineExceeded: as the script says": gone(codes.DeadlineExceeded),
	} {
		if got := fromStatus(err, "").Error(); got != want {
			t.Errorf("%q, and not %q", got, want)
		}
	}
}
