package pullcord

// The events of one run, over as many connections as it takes. Here calls are opened, read and left;
// what a broken one means is decided in resume.go.

import (
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	pullcordv1 "github.com/pullcord/pullcord/clients/go/v1"
)

// farewell is how long a call's status may take to follow the run's terminal event.
const farewell = time.Second

// RunStream is the events of one run, in order, each once. It ends after the terminal event. One
// goroutine reads it; the other methods may be called from any.
type RunStream struct {
	// RunID is the run's, known before the run is.
	RunID string

	client     *RunClient
	spec       *pullcordv1.RunSpec // nil: the run is watched, and not to be started
	heartbeats bool
	asked      context.Context // the caller's own
	open       context.Context // ends with Close, with the client, and with what was asked
	leave      context.CancelFunc
	receive    func() (*pullcordv1.RunEvent, error) // of the connection; nil: there is none
	ending     error                                // why there will be no more events; nil: there may be

	mu    sync.Mutex // over the place, which others than the reader may ask about
	place *resume
}

// StreamOption is how a stream differs from the default one.
type StreamOption func(*RunStream)

// WithHeartbeats shows heartbeats, too, which say that nothing happened and the line is alive.
func WithHeartbeats() StreamOption {
	return func(s *RunStream) { s.heartbeats = true }
}

func newStream(ctx context.Context, c *RunClient, spec *pullcordv1.RunSpec, place *resume, options []StreamOption) *RunStream {
	place.pace = c.settings.pace.withDefaults()
	s := &RunStream{RunID: place.runID, client: c, spec: spec, asked: ctx, place: place}
	s.open, s.leave = c.bound(ctx)
	for _, option := range options {
		option(s)
	}
	s.connect() // so that the run begins now, and not when it is first read
	return s
}

// Events yields every event to the end, or to an error, which is the last then. Leaving the loop closes
// the stream.
func (s *RunStream) Events() iter.Seq2[*pullcordv1.RunEvent, error] {
	return func(yield func(*pullcordv1.RunEvent, error) bool) {
		defer s.Close()
		for {
			event, err := s.Next()
			if errors.Is(err, io.EOF) || !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// Next waits for the next event. The error is io.EOF after the run's terminal event, and once the
// stream or its client was closed; else it is a [PullcordError].
func (s *RunStream) Next() (*pullcordv1.RunEvent, error) {
	for s.ending == nil {
		if s.look().ended {
			s.seeOut()
			s.ending = io.EOF
			break
		}
		if s.open.Err() != nil && s.asked.Err() == nil { // closed; gRPC may still hold events
			s.ending = io.EOF
			break
		}
		if s.receive == nil {
			s.connect()
		}
		event, err := s.receive()
		if err != nil {
			s.receive = nil
			s.ending = s.comeBack(err)
		} else if s.admit(event) {
			return event, nil
		}
	}
	s.Close()
	return nil, s.ending
}

// Result is the run's terminal event: run_completed, run_cancelled or run_failed. Nil before it was seen.
func (s *RunStream) Result() *pullcordv1.RunEvent { return s.look().result }

// AfterSequence is the number of the last event seen: what another watch can go on with.
func (s *RunStream) AfterSequence() int64 { return s.look().afterSequence }

// Cancel stops the run, also where it has not begun; its last events then come as usual. The request
// need not say which run; nil asks without a reason.
func (s *RunStream) Cancel(ctx context.Context, request *pullcordv1.CancelRunRequest) (*pullcordv1.CancelRunResponse, error) {
	request = proto.CloneOf(request)
	if request == nil {
		request = &pullcordv1.CancelRunRequest{}
	}
	request.RunId = s.RunID
	request.BeforeStart = request.BeforeStart || !s.look().begun
	return s.client.Cancel(ctx, request)
}

// Close leaves the stream, and the run to its disconnect policy; a reader that waits for the next event sees
// the stream end.
func (s *RunStream) Close() { s.leave() }

// connect opens a call of Run while the run may not be known, else of WatchRun.
func (s *RunStream) connect() {
	s.mu.Lock()
	s.place.opening(time.Now())
	begun, after := s.place.begun, s.place.afterSequence
	s.mu.Unlock()

	ctx := s.client.outgoing(s.open)
	if s.spec != nil && !begun {
		call, err := s.client.stub.Run(ctx, &pullcordv1.RunRequest{Spec: s.spec})
		s.receive = receiver(call, err)
	} else {
		request := &pullcordv1.WatchRunRequest{RunId: s.RunID, AfterSequence: after}
		call, err := s.client.stub.WatchRun(ctx, of(s.client.whose, request))
		s.receive = receiver(call, err)
	}
}

// receiver reads the events of a call, or says why it could not be opened.
func receiver[R interface{ GetEvent() *pullcordv1.RunEvent }](
	call interface{ Recv() (R, error) }, failed error,
) func() (*pullcordv1.RunEvent, error) {
	return func() (*pullcordv1.RunEvent, error) {
		if failed != nil {
			return nil, failed
		}
		response, err := call.Recv()
		if err != nil {
			return nil, err
		}
		return response.GetEvent(), nil
	}
}

// admit says whether an event is shown.
func (s *RunStream) admit(event *pullcordv1.RunEvent) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.place.admit(event) {
		return false
	}
	switch event.GetPayload().(type) {
	case nil: // of a newer server
		return false
	case *pullcordv1.RunEvent_Heartbeat:
		return s.heartbeats
	}
	return true
}

// comeBack waits until it is time for the next connection. The error says why there is none.
func (s *RunStream) comeBack(failed error) error {
	if s.open.Err() != nil {
		return s.left()
	}
	var lost PullcordError
	var run *pullcordv1.Run
	if failed != io.EOF {
		lost = fromStatus(failed, s.RunID)
	} else if s.look().begun {
		request := &pullcordv1.GetRunRequest{RunId: s.RunID}
		var response *pullcordv1.GetRunResponse
		response, lost = call(s.open, s.client, s.client.stub.GetRun, request, s.RunID, callTimeout)
		run = response.GetRun()
	}

	s.mu.Lock()
	s.place.learn(run)
	if s.place.ended {
		s.mu.Unlock()
		return nil
	}
	delay, lost := s.place.lost(lost, time.Now(), rand.Float64())
	s.mu.Unlock()

	if lost == nil {
		lost = pause(s.open, delay, s.RunID)
	}
	if s.open.Err() != nil {
		return s.left()
	}
	return lost
}

// left is why a stream has no more events that was left: by the caller's own context, or in peace.
func (s *RunStream) left() error {
	if s.asked.Err() != nil {
		return fromContext(s.asked.Err(), s.RunID)
	}
	return io.EOF
}

// seeOut takes the call's status, which follows the terminal event at once, so that the server sees a
// reader that stayed to the end.
func (s *RunStream) seeOut() {
	if s.receive != nil {
		late := time.AfterFunc(farewell, s.leave)
		defer late.Stop()
		_, _ = s.receive()
	}
}

// look is a copy of the place as it is now.
func (s *RunStream) look() resume {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.place
}
