package pullcord

// Streams, against a real server that breaks as the test says.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pullcordv1 "github.com/pullcord/pullcord/clients/go/v1"
)

var counter = &pullcordv1.RunSpec{Runnable: "agents/counter", RunId: runID}

// open starts the run, or watches it.
func open(ctx context.Context, client *RunClient, starting bool) *RunStream {
	if starting {
		return client.Run(ctx, counter)
	}
	return client.Watch(ctx, runID, 0)
}

// Run yields every event, and Result is the terminal one.
func TestARunIsFollowedToItsEnd(t *testing.T) {
	s := &script{events: wholeRun(4)}
	stream := serve(t, s).Run(context.Background(), counter)
	if stream.RunID != runID || stream.Result() != nil {
		t.Errorf("before the start: %q, %v", stream.RunID, stream.Result())
	}
	events, err := read(stream)
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, events, wholeRun(4))
	if stream.Result().GetRunCompleted().GetOutput() != "0 1 2 3 " || stream.AfterSequence() != 6 {
		t.Errorf("%v at %d", stream.Result(), stream.AfterSequence())
	}
	if _, err := stream.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after its end a stream says %v", err)
	}
	mustCall(t, s, "Run")
}

// A run begins when Run is called, and not when it is first read.
func TestARunBeginsBeforeItIsRead(t *testing.T) {
	s := &script{silent: true}
	stream := serve(t, s).Run(context.Background(), counter)
	if name := <-s.came; name != "Run" {
		t.Errorf("what came is %s", name)
	}
	stream.Close()
	<-s.left
}

// A run without an id gets one before the call, which each connection says again, and the caller's own
// spec stays as it is.
func TestARunsIDIsMinted(t *testing.T) {
	s := &script{events: wholeRun(1), breaks: []lineBreak{{0, gone(codes.Unavailable), 0}}}
	client, spec := serve(t, s), &pullcordv1.RunSpec{Runnable: "agents/counter"}
	stream := client.Run(context.Background(), spec)
	if _, err := read(stream); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Start(context.Background(), spec); err != nil {
		t.Fatal(err)
	}
	mustCall(t, s, "Run", "Run", "StartRun")
	first, again := s.requests[0].(*pullcordv1.RunRequest).GetSpec(), s.requests[1].(*pullcordv1.RunRequest).GetSpec()
	if len(first.GetRunId()) != 36 || first.GetRunId() != stream.RunID || !proto.Equal(first, again) {
		t.Errorf("%v, %v, and the stream says %q", first, again, stream.RunID)
	}
	started := s.requests[2].(*pullcordv1.StartRunRequest).GetSpec()
	if len(started.GetRunId()) != 36 || started.GetRunId() == stream.RunID || spec.GetRunId() != "" {
		t.Errorf("%v, and the caller's own is %v", started, spec)
	}
}

// Wherever the line breaks, however it breaks, no event is lost or doubled.
func TestAStreamCutAnywhereGoesOn(t *testing.T) {
	for _, cause := range []error{gone(codes.Unavailable), gone(codes.Canceled), nil} {
		for cut := range 7 {
			for _, starting := range []bool{true, false} {
				t.Run(fmt.Sprint(cause, cut, starting), func(t *testing.T) {
					s := &script{
						events: wholeRun(4),
						breaks: []lineBreak{{cut, cause, 0}, {0, cause, 0}, {2, cause, 3}},
						run:    &pullcordv1.Run{State: pullcordv1.RunState_RUN_STATE_RUNNING},
					}
					events, err := read(open(context.Background(), serve(t, s), starting))
					if err != nil {
						t.Fatal(err)
					}
					mustBe(t, events, wholeRun(4))
				})
			}
		}
	}
}

// A client asks for the run again while no event has come, and else for what comes after the last.
func TestAStreamComesBackWithWhatItHas(t *testing.T) {
	s := &script{events: wholeRun(4), breaks: []lineBreak{{0, gone(codes.Unavailable), 0}, {3, gone(codes.Unavailable), 0}}}
	if _, err := read(serve(t, s).Run(context.Background(), counter)); err != nil {
		t.Fatal(err)
	}
	mustCall(t, s, "Run", "Run", "WatchRun")
	if after := s.requests[2].(*pullcordv1.WatchRunRequest).GetAfterSequence(); after != 3 {
		t.Errorf("it came back with %d", after)
	}
}

// A stream that ended in peace without an end is over where GetRun says that the end was seen.
func TestAWatchFromAfterTheEndEndsWithoutAnEvent(t *testing.T) {
	s := &script{events: wholeRun(4)}
	stream := serve(t, s).Watch(context.Background(), runID, 6)
	if events, err := read(stream); err != nil || len(events) != 0 || stream.Result() != nil {
		t.Errorf("%v, %v, %v", events, err, stream.Result())
	}
	mustCall(t, s, "WatchRun", "GetRun")
}

// A payload that this client does not know is skipped, and its number is remembered.
func TestAnUnknownPayloadIsSkipped(t *testing.T) {
	events := wholeRun(4)
	known := append(append([]*pullcordv1.RunEvent{}, events[:2]...), events[3:]...)
	newer := &pullcordv1.RunEvent{RunId: runID, Sequence: 3}
	newer.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 999, protowire.BytesType), nil))
	events[2] = newer
	s := &script{events: events, breaks: []lineBreak{{3, gone(codes.Unavailable), 0}}}
	shown, err := read(serve(t, s).Watch(context.Background(), runID, 0))
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, shown, known)
	if after := s.requests[1].(*pullcordv1.WatchRunRequest).GetAfterSequence(); after != 3 {
		t.Errorf("it came back with %d", after)
	}
}

// Heartbeats are shown to who asks for them.
func TestHeartbeatsAreShownOnRequest(t *testing.T) {
	all := append([]*pullcordv1.RunEvent{heartbeat(0)}, wholeRun(0)...)
	all[0].Sequence = 1 // else the script, which serves by number, would leave it out
	client := serve(t, &script{events: all})
	without, err := read(client.Watch(context.Background(), runID, 0))
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, without, wholeRun(0))
	with, err := read(client.Watch(context.Background(), runID, 0, WithHeartbeats()))
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, with, all)
}

// A refusal is the server's own error, and the last thing a stream says, however often it is asked.
func TestARefusedRunSaysWhy(t *testing.T) {
	refusal := refused(t, codes.ResourceExhausted, reason("SERVER_BUSY"))
	s := &script{events: wholeRun(4), breaks: []lineBreak{{0, refusal, 0}}}
	stream := serve(t, s).Run(context.Background(), counter)
	for range 2 {
		var busy *ServerBusy
		if _, err := stream.Next(); !errors.As(err, &busy) || busy.RetryAfter != time.Second {
			t.Errorf("%#v", err)
		}
	}
	mustCall(t, s, "Run")
}

// What is an answer to a new run is a delay to the watcher of a known one.
func TestABusyServerIsADelayToAWatcher(t *testing.T) {
	refusal := refused(t, codes.Unavailable, reason("STORE_UNAVAILABLE"))
	s := &script{events: wholeRun(4), breaks: []lineBreak{{0, refusal, 0}}}
	events, err := read(serve(t, s).Watch(context.Background(), runID, 0))
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, events, wholeRun(4))
	mustCall(t, s, "WatchRun", "WatchRun")
}

// The context's deadline travels with the call, and when it has passed the error says so.
func TestADeadlineTravelsAndIsTold(t *testing.T) {
	for _, starting := range []bool{true, false} {
		s := &script{silent: true}
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		events, err := read(open(ctx, serve(t, s), starting))
		var late *DeadlineExceeded
		if !errors.As(err, &late) || !errors.Is(err, context.DeadlineExceeded) || late.RunID() != runID || events != nil {
			t.Errorf("%v, %#v", events, err)
		}
	}
}

// A stream that waits before its next connection does not outlive its deadline.
func TestADeadlineCutsAWaitShort(t *testing.T) {
	s := &script{breaks: []lineBreak{{0, gone(codes.Unavailable), 0}}}
	client := serve(t, s, WithPace(Pace{FirstDelay: time.Hour, MaxDelay: time.Hour, ReconnectFor: 2 * time.Hour}))
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := read(client.Watch(ctx, runID, 0)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%#v", err)
	}
	mustCall(t, s, "WatchRun")
}

// However a stream is left, its call is cancelled, its run is not, and the reader is told in its way.
func TestLeavingCancelsTheCallAndNotTheRun(t *testing.T) {
	for name, c := range map[string]struct {
		leave func(*RunClient, *RunStream, context.CancelFunc)
		want  error
	}{
		"Close":        {func(_ *RunClient, s *RunStream, _ context.CancelFunc) { s.Close() }, io.EOF},
		"client.Close": {func(c *RunClient, _ *RunStream, _ context.CancelFunc) { _ = c.Close() }, io.EOF},
		"context":      {func(_ *RunClient, _ *RunStream, cancel context.CancelFunc) { cancel() }, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{events: wholeRun(4)[:2], silent: true}
			client := serve(t, s)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			stream := client.Run(ctx, counter)
			for range 2 {
				if _, err := stream.Next(); err != nil {
					t.Fatal(err)
				}
			}
			ended := make(chan error)
			go func() {
				_, err := stream.Next()
				ended <- err
			}()
			c.leave(client, stream, cancel)
			if err := <-ended; !errors.Is(err, c.want) {
				t.Errorf("the reader was told %v", err)
			}
			<-s.left
			mustCall(t, s, "Run")
		})
	}
}

// Leaving the loop leaves the stream.
func TestBreakingOutOfTheLoopLeavesTheStream(t *testing.T) {
	s := &script{events: wholeRun(4)[:2], silent: true}
	stream := serve(t, s).Run(context.Background(), counter)
	for event, err := range stream.Events() {
		if err != nil || event.GetRunStarted() == nil {
			t.Fatal(event, err)
		}
		break
	}
	<-s.left
	if _, err := stream.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("a stream that was left says %v", err)
	}
	mustCall(t, s, "Run")
}

// Where nobody answers, the stream ends with ConnectionLost once patience is at its end.
func TestALostServerIsGivenUp(t *testing.T) {
	client, err := NewRunClient("127.0.0.1:1", WithPace(Pace{ReconnectFor: 10 * time.Millisecond, FirstDelay: time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var lost *ConnectionLost
	if _, err := read(client.Run(context.Background(), counter)); !errors.As(err, &lost) || lost.RunID() != runID {
		t.Errorf("%#v", err)
	}
}

// A stream's cancel may overtake its run, and says so only while the run may not be known.
func TestAStreamCancelsItsRun(t *testing.T) {
	s := &script{events: wholeRun(4)}
	stream := serve(t, s).Run(context.Background(), counter)
	reason := &pullcordv1.CancelRunRequest{Reason: "too early"}
	if _, err := stream.Cancel(context.Background(), reason); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Cancel(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	var asked []*pullcordv1.CancelRunRequest
	for _, request := range s.requests {
		if cancel, ok := request.(*pullcordv1.CancelRunRequest); ok {
			asked = append(asked, cancel)
		}
	}
	for n, want := range []*pullcordv1.CancelRunRequest{
		{RunId: runID, Reason: "too early", BeforeStart: true}, {RunId: runID},
	} {
		if !proto.Equal(asked[n], want) {
			t.Errorf("it asked for %v, and not %v", asked[n], want)
		}
	}
	if reason.GetRunId() != "" {
		t.Error("the caller's own request was changed")
	}
	if _, err := read(stream); err != nil {
		t.Fatal(err)
	}
}
