package pullcord

// What a broken stream does next, without any stream.

import (
	"errors"
	"math"
	"testing"
	"testing/quick"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pullcordv1 "github.com/pullcord/pullcord/clients/go/v1"
)

var began = time.Unix(1_000_000, 0)

func errorWith(code codes.Code) PullcordError { return fromStatus(gone(code), runID) }

func lost() PullcordError { return errorWith(codes.Unavailable) }

func busy(after time.Duration) PullcordError {
	return &ServerBusy{said{codes.ResourceExhausted, "full", ""}, after}
}

func draining(after time.Duration) PullcordError {
	return &Draining{said{codes.Unavailable, "stopping", ""}, after}
}

func storeDown() PullcordError {
	return &StoreUnavailable{said{codes.Unavailable, "the store", ""}}
}

// watching is the place of a run that is known.
func watching(afterSequence int64) *resume {
	return &resume{pace: Pace{}.withDefaults(), runID: runID, afterSequence: afterSequence, begun: true}
}

// waits is all waits of a line that stays broken, until the client gives up; and when that is.
func waits(t *testing.T, place *resume, now time.Time) ([]time.Duration, time.Time) {
	t.Helper()
	var all []time.Duration
	for {
		delay, err := place.lost(lost(), now, 1)
		if err != nil {
			if _, ok := err.(*ConnectionLost); !ok {
				t.Fatalf("it gave up with %#v", err)
			}
			return all, now
		}
		all, now = append(all, delay), now.Add(delay)
		place.opening(now)
	}
}

// A client waits 0.1 s, twice as long each time up to 5 s, and gives up after 60 s.
func TestWaitsDoubleUpToABoundAndEnd(t *testing.T) {
	all, end := waits(t, watching(0), began)
	for n, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 5000, 5000} {
		if all[n] != want*time.Millisecond {
			t.Errorf("wait %d is %v, and not %v", n, all[n], want*time.Millisecond)
		}
	}
	if end.Sub(began) != 60*time.Second {
		t.Errorf("it gave up after %v", end.Sub(began))
	}
}

// Clients that lost one server do not come back all at once.
func TestWaitsAreScatteredOverHalfTheirLength(t *testing.T) {
	for chance, want := range map[float64]time.Duration{0: 50, 0.5: 75, 1: 100} {
		if delay, _ := watching(0).lost(lost(), began, chance); delay != want*time.Millisecond {
			t.Errorf("by a chance of %v it waits %v", chance, delay)
		}
	}
}

// After progress the first wait is short again, and the 60 s begin anew.
func TestANewEventRestoresPatience(t *testing.T) {
	place := watching(0)
	_, now := waits(t, place, began)
	if !place.admit(wholeRun(0)[0]) {
		t.Error("a new event was dropped")
	}
	if delay, err := place.lost(lost(), now, 1); err != nil || delay != 100*time.Millisecond {
		t.Errorf("it waits %v, %v", delay, err)
	}
}

// A server that repeats itself and breaks is given up, too.
func TestAnEventSeenBeforeRestoresNoPatience(t *testing.T) {
	place := watching(1)
	_, now := waits(t, place, began)
	if place.admit(wholeRun(0)[0]) {
		t.Error("an event was shown again")
	}
	if _, err := place.lost(lost(), now, 1); err == nil {
		t.Error("patience was restored")
	}
}

// A silent run whose line is cut every ten minutes, with heartbeats between, is followed on; one whose
// line says nothing is not.
func TestALineThatLivedIsNoFailure(t *testing.T) {
	place, now := watching(1), began
	for range 20 {
		place.opening(now)
		place.admit(heartbeat(1))
		now = now.Add(10 * time.Minute)
		if delay, err := place.lost(lost(), now, 1); err != nil || delay != 100*time.Millisecond {
			t.Fatalf("it waits %v, %v", delay, err)
		}
	}
	for _, lived := range []time.Duration{4900 * time.Millisecond, 10 * time.Minute} {
		place, heard := watching(1), lived < 5*time.Second
		_, _ = place.lost(lost(), began, 1)
		place.opening(began)
		if heard {
			place.admit(heartbeat(1))
		}
		if delay, _ := place.lost(lost(), began.Add(lived), 1); delay == 100*time.Millisecond {
			t.Errorf("a line that lived %v and spoke (%v) restored patience", lived, heard)
		}
	}
}

// With a negative ReconnectFor the first break is the last.
func TestAClientThatMustNotReconnectDoesNot(t *testing.T) {
	place := watching(0)
	place.pace.ReconnectFor = -1
	if _, err := place.lost(lost(), began, 1); err == nil {
		t.Error("it comes back")
	}
}

// A typed refusal, or the caller's own deadline, is seen at once.
func TestAnAnswerIsNotAskedForAgain(t *testing.T) {
	base := said{codes.NotFound, "no", runID}
	for _, answer := range []PullcordError{
		&RunNotFound{base}, &RunExists{base}, &RunnableNotFound{base, "agents/a"}, &InvalidArgument{base, nil},
		&SessionBusy{base, "s"}, &TooManyAffected{base, 2, 1}, &RunNotPaused{said: base}, &ServerFault{base},
		errorWith(codes.DeadlineExceeded), errorWith(codes.PermissionDenied), errorWith(codes.Internal),
	} {
		for _, begun := range []bool{true, false} {
			place := watching(0)
			place.begun = begun
			if _, err := place.lost(answer, began, 1); err != answer {
				t.Errorf("%T becomes %v", answer, err)
			}
		}
	}
}

// A new run is refused at once; a watcher waits as long as it is told, and comes back.
func TestAServerThatHasNoTimeIsAskedAgainAboutAKnownRun(t *testing.T) {
	for _, c := range []struct {
		lost  PullcordError
		delay time.Duration
	}{
		{busy(2 * time.Second), 2 * time.Second},
		{draining(2 * time.Second), 2 * time.Second},
		{busy(time.Millisecond), 100 * time.Millisecond},
		{storeDown(), 100 * time.Millisecond},
	} {
		starting := watching(0)
		starting.begun = false
		if _, err := starting.lost(c.lost, began, 1); err != c.lost {
			t.Errorf("a new run that meets %T waits", c.lost)
		}
		place := watching(0)
		if delay, err := place.lost(c.lost, began, 1); err != nil || delay != c.delay {
			t.Errorf("a watcher that meets %T waits %v, %v", c.lost, delay, err)
		}
		if _, err := place.lost(c.lost, began.Add(time.Minute), 1); err != c.lost {
			t.Errorf("a watcher that met %T gives up with %v", c.lost, err)
		}
	}
}

// A bare CANCELLED, with which servers and proxies shed calls, is a break, and so is an end in peace;
// the last words of both are ConnectionLost.
func TestACallThatWasShedIsMadeAgain(t *testing.T) {
	for _, shed := range []PullcordError{errorWith(codes.Canceled), nil} {
		place := watching(0)
		if delay, err := place.lost(shed, began, 1); err != nil || delay != 100*time.Millisecond {
			t.Errorf("after %v it waits %v, %v", shed, delay, err)
		}
		_, err := place.lost(shed, began.Add(time.Minute), 1)
		var given *ConnectionLost
		if !errors.As(err, &given) || given.RunID() != runID || given.Code() != codes.Unavailable {
			t.Errorf("after %v it gives up with %#v", shed, err)
		}
	}
}

// Where the line breaks between gap and snapshot, both come again.
func TestAGapMovesThePlaceOnlyWithItsSnapshot(t *testing.T) {
	place := watching(3)
	for _, c := range []struct {
		event *pullcordv1.RunEvent
		isNew bool
		after int64
	}{
		{gap(4, 9), true, 3},
		{gap(4, 9), true, 3},
		{snapshot(9), true, 9},
		{gap(4, 9), false, 9},
		{snapshot(8), false, 9},
		{snapshot(9), true, 9},
		{completed(10, ""), true, 10},
	} {
		if isNew := place.admit(c.event); isNew != c.isNew || place.afterSequence != c.after {
			t.Fatalf("after %v: new %v, place %d", c.event, isNew, place.afterSequence)
		}
	}
	if !place.ended {
		t.Error("the run has not ended")
	}
}

// A stream that ended in peace is over where the run's end was seen, and else not.
func TestARunWhoseEndWasSeenHasEnded(t *testing.T) {
	for _, c := range []struct {
		state pullcordv1.RunState
		last  int64
		ended bool
	}{
		{pullcordv1.RunState_RUN_STATE_RUNNING, 6, false},
		{pullcordv1.RunState_RUN_STATE_CANCELLING, 6, false},
		{pullcordv1.RunState_RUN_STATE_COMPLETED, 7, false},
		{pullcordv1.RunState_RUN_STATE_COMPLETED, 6, true},
		{pullcordv1.RunState_RUN_STATE_CANCELLED, 5, true},
		{pullcordv1.RunState_RUN_STATE_FAILED, 6, true},
	} {
		place := watching(6)
		place.learn(&pullcordv1.Run{State: c.state, LastSequence: c.last})
		if place.ended != c.ended || place.result != nil {
			t.Errorf("%v at %d: ended %v, result %v", c.state, c.last, place.ended, place.result)
		}
	}
}

// A stream goes on after the terminal event of a member or step, which has a source.
func TestTheEndOfARunBeneathIsNotTheEnd(t *testing.T) {
	place := watching(0)
	theirs, ours := completed(1, "theirs"), completed(2, "ours")
	theirs.Source = &pullcordv1.Source{Id: "member"}
	if !place.admit(theirs) || place.ended || place.result != nil {
		t.Fatal("a member's end was taken for the run's")
	}
	if !place.admit(ours) || !place.ended || place.result != ours {
		t.Fatal("the run's end was not seen")
	}
}

// All three terminal events end a stream, and nothing else does.
func TestThreeEventsAreTerminal(t *testing.T) {
	for _, c := range []struct {
		event *pullcordv1.RunEvent
		ended bool
	}{
		{completed(1, ""), true},
		{&pullcordv1.RunEvent{Sequence: 1, Payload: &pullcordv1.RunEvent_RunCancelled{}}, true},
		{&pullcordv1.RunEvent{Sequence: 1, Payload: &pullcordv1.RunEvent_RunFailed{}}, true},
		{&pullcordv1.RunEvent{Sequence: 1, Payload: &pullcordv1.RunEvent_RunPaused{}}, false},
		{delta(1, "a"), false},
		{snapshot(1), false},
	} {
		place := watching(0)
		place.admit(c.event)
		if place.ended != c.ended || (place.result != nil) != c.ended {
			t.Errorf("after %v: ended %v", c.event, place.ended)
		}
	}
}

// From any overlapping pieces of a run the caller gets each event once and in order.
func TestWhateverIsRepeatedIsShownOnce(t *testing.T) {
	events := wholeRun(8)
	whole := func(pieces [][2]uint8) bool {
		place := watching(0)
		var shown []*pullcordv1.RunEvent
		for _, piece := range append(pieces, [2]uint8{0, math.MaxUint8}) {
			first := max(0, int(place.afterSequence)-int(piece[0]%12))
			for _, event := range events[first:min(len(events), first+int(piece[1]%12))] {
				if place.admit(event) {
					shown = append(shown, event)
				}
			}
		}
		for _, event := range events[place.afterSequence:] {
			place.admit(event)
			shown = append(shown, event)
		}
		for n := range events {
			if len(shown) != len(events) || !proto.Equal(shown[n], events[n]) {
				return false
			}
		}
		return place.result == events[len(events)-1]
	}
	if err := quick.Check(whole, nil); err != nil {
		t.Error(err)
	}
}
