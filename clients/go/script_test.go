package pullcord

// A real gRPC server, in this process, whose streams break as the test says, and the events of the
// one run that it serves.

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	pullcordv1 "github.com/pullcord/pullcord/clients/go/v1"
)

const runID = "run-1"

// soon comes back at once.
var soon = Pace{FirstDelay: time.Millisecond, MaxDelay: 10 * time.Millisecond}

// wholeRun is a run that started, wrote so many deltas, and completed.
func wholeRun(deltas int) []*pullcordv1.RunEvent {
	events := []*pullcordv1.RunEvent{{Payload: &pullcordv1.RunEvent_RunStarted{
		RunStarted: &pullcordv1.RunStarted{Runnable: "agents/counter"}}}}
	output := ""
	for n := range deltas {
		text := fmt.Sprintf("%d ", n)
		output += text
		events = append(events, delta(0, text))
	}
	events = append(events, completed(0, output))
	for n, event := range events {
		event.RunId, event.Sequence = runID, int64(n+1)
	}
	return events
}

func delta(sequence int64, text string) *pullcordv1.RunEvent {
	return &pullcordv1.RunEvent{RunId: runID, Sequence: sequence, Payload: &pullcordv1.RunEvent_ContentDelta{
		ContentDelta: &pullcordv1.ContentDelta{Text: text}}}
}

func completed(sequence int64, output string) *pullcordv1.RunEvent {
	return &pullcordv1.RunEvent{RunId: runID, Sequence: sequence, Payload: &pullcordv1.RunEvent_RunCompleted{
		RunCompleted: &pullcordv1.RunCompleted{Output: output}}}
}

func heartbeat(sequence int64) *pullcordv1.RunEvent {
	return &pullcordv1.RunEvent{RunId: runID, Sequence: sequence, Payload: &pullcordv1.RunEvent_Heartbeat{
		Heartbeat: &pullcordv1.Heartbeat{}}}
}

func gap(first, last int64) *pullcordv1.RunEvent {
	return &pullcordv1.RunEvent{RunId: runID, Sequence: last, Payload: &pullcordv1.RunEvent_Gap{
		Gap: &pullcordv1.Gap{FirstSequence: first, LastSequence: last}}}
}

func snapshot(sequence int64) *pullcordv1.RunEvent {
	return &pullcordv1.RunEvent{RunId: runID, Sequence: sequence, Payload: &pullcordv1.RunEvent_Snapshot{
		Snapshot: &pullcordv1.Snapshot{Run: &pullcordv1.Run{RunId: runID}}}}
}

// lineBreak ends one connection after so many messages: with an error, or (nil) in peace. `again` is how
// many events that were seen are sent once more first.
type lineBreak struct {
	after int
	err   error
	again int64
}

// script serves one run; each connection of its stream breaks as the next break says. After the last
// event it ends the stream, or, where it is silent, waits until the caller has left.
type script struct {
	pullcordv1.UnimplementedRunServiceServer

	mu      sync.Mutex
	events  []*pullcordv1.RunEvent
	breaks  []lineBreak
	refusal error // of every unary call
	run     *pullcordv1.Run
	runs    []*pullcordv1.Run
	silent  bool
	changes []*pullcordv1.WatchRunsResponse // of the list; after them, as a run's events
	secret  *tls.Certificate                // with which the line is encrypted; nil: it is not
	came    chan string                     // a call did
	left    chan struct{}                   // a silent stream's caller has

	names     []string
	requests  []proto.Message
	metadata  []metadata.MD
	deadlines []time.Duration // left at the server when the call came; 0: none
}

func (s *script) note(ctx context.Context, name string, request proto.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent, _ := metadata.FromIncomingContext(ctx)
	var left time.Duration
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	s.names = append(s.names, name)
	s.requests = append(s.requests, request)
	s.metadata = append(s.metadata, sent)
	s.deadlines = append(s.deadlines, left)
	s.came <- name
}

// calls is which calls came, in order.
func (s *script) calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.names...)
}

// nextBreak takes the next one; nil: there is none.
func (s *script) nextBreak() *lineBreak {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.breaks) == 0 {
		return nil
	}
	next := s.breaks[0]
	s.breaks = s.breaks[1:]
	return &next
}

func (s *script) stream(ctx context.Context, after int64, send func(*pullcordv1.RunEvent) error) error {
	broken := s.nextBreak()
	if broken != nil {
		after -= broken.again
	} else if s.silent {
		defer func() {
			<-ctx.Done()
			s.left <- struct{}{}
		}()
	}
	count := 0
	for _, event := range s.events {
		if event.GetSequence() <= after {
			continue
		}
		if broken != nil && count == broken.after {
			break
		}
		count++
		if err := send(event); err != nil {
			return err
		}
	}
	if broken != nil {
		return broken.err
	}
	return nil
}

func (s *script) Run(request *pullcordv1.RunRequest, to grpc.ServerStreamingServer[pullcordv1.RunResponse]) error {
	s.note(to.Context(), "Run", request)
	return s.stream(to.Context(), 0, func(event *pullcordv1.RunEvent) error {
		return to.Send(&pullcordv1.RunResponse{Event: event})
	})
}

func (s *script) WatchRun(request *pullcordv1.WatchRunRequest, to grpc.ServerStreamingServer[pullcordv1.WatchRunResponse]) error {
	s.note(to.Context(), "WatchRun", request)
	return s.stream(to.Context(), request.GetAfterSequence(), func(event *pullcordv1.RunEvent) error {
		return to.Send(&pullcordv1.WatchRunResponse{Event: event})
	})
}

func (s *script) WatchRuns(request *pullcordv1.WatchRunsRequest, to grpc.ServerStreamingServer[pullcordv1.WatchRunsResponse]) error {
	s.note(to.Context(), "WatchRuns", request)
	seen, _ := strconv.Atoi(request.GetAfter())
	broken := s.nextBreak()
	for count, change := range s.changes[seen:] {
		if broken != nil && count == broken.after {
			break
		}
		if err := to.Send(change); err != nil {
			return err
		}
	}
	if broken != nil {
		return broken.err
	}
	<-to.Context().Done()
	s.left <- struct{}{}
	return nil
}

func (s *script) StartRun(ctx context.Context, request *pullcordv1.StartRunRequest) (*pullcordv1.StartRunResponse, error) {
	s.note(ctx, "StartRun", request)
	return &pullcordv1.StartRunResponse{Run: &pullcordv1.Run{RunId: request.GetSpec().GetRunId()}}, s.refusal
}

func (s *script) WaitRun(ctx context.Context, request *pullcordv1.WaitRunRequest) (*pullcordv1.WaitRunResponse, error) {
	s.note(ctx, "WaitRun", request)
	if broken := s.nextBreak(); broken != nil {
		return nil, broken.err
	}
	return &pullcordv1.WaitRunResponse{Run: s.run}, s.refusal
}

func (s *script) GetRun(ctx context.Context, request *pullcordv1.GetRunRequest) (*pullcordv1.GetRunResponse, error) {
	s.note(ctx, "GetRun", request)
	return &pullcordv1.GetRunResponse{Run: s.run}, s.refusal
}

func (s *script) ListRuns(ctx context.Context, request *pullcordv1.ListRunsRequest) (*pullcordv1.ListRunsResponse, error) {
	s.note(ctx, "ListRuns", proto.Clone(request))
	first, _ := strconv.Atoi(request.GetPageToken())
	after := min(first+int(request.GetPageSize()), len(s.runs))
	page := &pullcordv1.ListRunsResponse{Runs: s.runs[first:after]}
	if after < len(s.runs) {
		page.NextPageToken = strconv.Itoa(after)
	}
	return page, s.refusal
}

func (s *script) CancelRun(ctx context.Context, request *pullcordv1.CancelRunRequest) (*pullcordv1.CancelRunResponse, error) {
	s.note(ctx, "CancelRun", request)
	return &pullcordv1.CancelRunResponse{Outcome: pullcordv1.CancelOutcome_CANCEL_OUTCOME_REQUESTED}, s.refusal
}

func (s *script) CancelRuns(ctx context.Context, request *pullcordv1.CancelRunsRequest) (*pullcordv1.CancelRunsResponse, error) {
	s.note(ctx, "CancelRuns", request)
	return &pullcordv1.CancelRunsResponse{Results: []*pullcordv1.CancelRunsResult{{RunId: "a"}}}, s.refusal
}

func (s *script) ContinueRun(ctx context.Context, request *pullcordv1.ContinueRunRequest) (*pullcordv1.ContinueRunResponse, error) {
	s.note(ctx, "ContinueRun", request)
	return &pullcordv1.ContinueRunResponse{Run: s.run}, s.refusal
}

func (s *script) EraseRuns(ctx context.Context, request *pullcordv1.EraseRunsRequest) (*pullcordv1.EraseRunsResponse, error) {
	s.note(ctx, "EraseRuns", request)
	return &pullcordv1.EraseRunsResponse{Runs: 3, LiveRunIds: []string{"a"}}, s.refusal
}

func (s *script) ListRunnables(ctx context.Context, request *pullcordv1.ListRunnablesRequest) (*pullcordv1.ListRunnablesResponse, error) {
	s.note(ctx, "ListRunnables", request)
	return &pullcordv1.ListRunnablesResponse{Runnables: []*pullcordv1.Runnable{{Name: "agents/a"}}}, s.refusal
}

// serve serves the script for the length of a test, and makes a client of it.
func serve(t *testing.T, s *script, options ...ClientOption) *RunClient {
	t.Helper()
	s.came, s.left = make(chan string, 100), make(chan struct{}, 1)
	if s.run == nil {
		s.run = &pullcordv1.Run{
			RunId: runID, State: pullcordv1.RunState_RUN_STATE_COMPLETED, LastSequence: int64(len(s.events))}
	}
	var settings []grpc.ServerOption
	if s.secret != nil {
		settings = append(settings, grpc.Creds(credentials.NewServerTLSFromCert(s.secret)))
	}
	listener, server := bufconn.Listen(1<<20), grpc.NewServer(settings...)
	pullcordv1.RegisterRunServiceServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	dial := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return listener.DialContext(ctx)
	})
	options = append([]ClientOption{WithActor("tester"), WithPace(soon), WithDialOptions(dial)}, options...)
	client, err := NewRunClient("passthrough:///script", options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		server.Stop() // returns when every handler has
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return client
}

// read is all events of a stream, and how it ended.
func read(stream *RunStream) (events []*pullcordv1.RunEvent, failed error) {
	for event, err := range stream.Events() {
		if err != nil {
			return events, err
		}
		events = append(events, event)
	}
	return events, nil
}

func mustBe(t *testing.T, got, want []*pullcordv1.RunEvent) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d events, and not %d: %v", len(got), len(want), got)
	}
	for n := range want {
		if !proto.Equal(got[n], want[n]) {
			t.Fatalf("event %d is %v, and not %v", n, got[n], want[n])
		}
	}
}

func mustCall(t *testing.T, s *script, want ...string) {
	t.Helper()
	if got := fmt.Sprint(s.calls()); got != fmt.Sprint(want) {
		t.Fatalf("the calls were %v, and not %v", got, want)
	}
}

func gone(code codes.Code) error { return status.Error(code, "as the script says") }
