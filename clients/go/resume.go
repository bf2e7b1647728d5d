package pullcord

// What a stream that broke does next: which events are new, when to come back, when to give up.
// Nothing here calls a server, waits, or reads a clock of its own.

import (
	"time"

	"google.golang.org/grpc/codes"

	pullcordv1 "github.com/pullcord/pullcord/clients/go/v1"
)

// Pace is how a broken stream is taken up again. Fields that are 0 have their defaults.
type Pace struct {
	// ReconnectFor is how long the client tries without progress before it gives up. 0: 60 s;
	// negative: it never reconnects.
	ReconnectFor time.Duration
	// FirstDelay is the longest wait after the first break; it doubles with each further one. 0: 0.1 s.
	FirstDelay time.Duration
	// MaxDelay is the longest wait of all. 0: 5 s.
	MaxDelay time.Duration
}

func (p Pace) withDefaults() Pace {
	if p.ReconnectFor == 0 {
		p.ReconnectFor = 60 * time.Second
	}
	if p.FirstDelay == 0 {
		p.FirstDelay = 100 * time.Millisecond
	}
	if p.MaxDelay == 0 {
		p.MaxDelay = 5 * time.Second
	}
	return p
}

// resume is one stream's place in its run, over as many connections as it takes.
//
//  1. An event is shown once: what is numbered at most afterSequence was seen.
//  2. A gap alone does not move the place. The snapshot behind it does, so that a line that breaks
//     between the two loses neither.
//  3. A break costs patience, a new event restores it. So does a connection that said something and
//     lived for MaxDelay, since a run may be silent for longer than that.
type resume struct {
	pace  Pace
	runID string
	// afterSequence is the number of the last event seen: what to come back with.
	afterSequence int64
	// begun says whether the server is known to have the run; else it must be asked for again.
	begun bool
	// result is the run's terminal event, once it was seen.
	result *pullcordv1.RunEvent
	// ended says whether nothing more will come.
	ended bool

	opened  time.Time     // when the connection was
	heard   bool          // whether it has said anything
	lostAt  time.Time     // the first break since there was progress; zero: none
	longest time.Duration // what the wait before was at most; 0: none since there was progress
}

// opening takes note that a connection is about to be made.
func (r *resume) opening(now time.Time) {
	r.opened, r.heard = now, false
}

// admit takes note of an event that came; whether it is new to the caller. One of a kind that this
// client does not know is noted like any other.
func (r *resume) admit(event *pullcordv1.RunEvent) bool {
	r.heard, r.begun = true, true
	sequence := event.GetSequence()
	switch payload := event.GetPayload().(type) {
	case *pullcordv1.RunEvent_Heartbeat:
		return true
	case *pullcordv1.RunEvent_Gap:
		return payload.Gap.GetLastSequence() > r.afterSequence
	case *pullcordv1.RunEvent_Snapshot:
		if sequence < r.afterSequence {
			return false
		}
	case *pullcordv1.RunEvent_RunCompleted, *pullcordv1.RunEvent_RunCancelled, *pullcordv1.RunEvent_RunFailed:
		if sequence <= r.afterSequence {
			return false
		}
		if event.GetSource() == nil { // with one it is the end of a run beneath
			r.result, r.ended = event, true
		}
	default:
		if sequence <= r.afterSequence {
			return false
		}
	}
	r.afterSequence = sequence
	r.bePatientAgain()
	return true
}

// learn takes note of how the run stands, after a stream that ended in peace but without an end. That
// is no break where the caller had seen the terminal event before.
func (r *resume) learn(run *pullcordv1.Run) {
	if IsTerminal(run.GetState()) && run.GetLastSequence() <= r.afterSequence {
		r.ended = true
	}
}

// lost says how long to wait before the next connection, after one that ended before the run did, or
// which error the caller is to see: where coming back is of no use, or patience is at its end.
// lost is nil where the connection ended in peace; chance is a random number from 0 to 1, by which
// clients that lost one server part ways.
func (r *resume) lost(lost PullcordError, now time.Time, chance float64) (time.Duration, PullcordError) {
	if lost != nil && !r.mayPass(lost) {
		return 0, lost
	}
	if r.heard && now.Sub(r.opened) >= r.pace.MaxDelay {
		r.bePatientAgain()
	}
	if r.lostAt.IsZero() {
		r.lostAt = now
	}
	left := r.pace.ReconnectFor - now.Sub(r.lostAt)
	if left <= 0 {
		return 0, r.lastWords(lost)
	}
	r.longest = min(r.pace.MaxDelay, max(r.pace.FirstDelay, 2*r.longest))
	delay := time.Duration(float64(r.longest) * (1 + chance) / 2)
	switch lost := lost.(type) {
	case *ServerBusy:
		delay = max(delay, lost.RetryAfter)
	case *Draining:
		delay = max(delay, lost.RetryAfter)
	}
	return min(delay, left), nil
}

// progress takes note that something came which is no event of a run.
func (r *resume) progress() {
	r.heard = true
	r.bePatientAgain()
}

func (r *resume) bePatientAgain() {
	r.lostAt, r.longest = time.Time{}, 0
}

func (r *resume) mayPass(lost PullcordError) bool {
	switch lost.(type) {
	case *ConnectionLost:
		return true
	case *CredentialExpired:
		return r.begun // the next connection has the token of that time
	case *ServerBusy, *Draining, *StoreUnavailable:
		return r.begun // said to a new run it is an answer, to the watcher of a known run a delay
	case *CallFailed:
		return lost.Code() == codes.Canceled // by a server or proxy that shed the call
	}
	return false
}

func (r *resume) lastWords(lost PullcordError) PullcordError {
	words := "the stream ended before the run did"
	switch lost := lost.(type) {
	case nil:
	case *CallFailed:
		words = lost.Error()
	default:
		return lost
	}
	return &ConnectionLost{CallFailed{said: said{codes.Unavailable, words, r.runID}}}
}

// IsTerminal says whether a run in this state has ended.
func IsTerminal(state pullcordv1.RunState) bool {
	switch state {
	case pullcordv1.RunState_RUN_STATE_COMPLETED, pullcordv1.RunState_RUN_STATE_CANCELLED, pullcordv1.RunState_RUN_STATE_FAILED:
		return true
	}
	return false
}
