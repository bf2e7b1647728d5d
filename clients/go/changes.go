package pullcord

// The list of runs as it changes, over as many connections as it takes. When to come back is decided in
// resume.go.

import (
	"context"
	"io"
	"iter"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	pullcordv1 "github.com/pullcord/pullcord/clients/go/v1"
)

// WatchRuns is every live run that matches, and then each run that is new, changes or ends, without input
// and output; nil matches all. It goes on, over as many connections as it takes, until the loop is left,
// ctx ends, or the client is closed; otherwise it ends after an error. To go on later, set After to the
// Position of the last change seen.
func (c *RunClient) WatchRuns(ctx context.Context, request *pullcordv1.WatchRunsRequest) iter.Seq2[*pullcordv1.WatchRunsResponse, error] {
	return func(yield func(*pullcordv1.WatchRunsResponse, error) bool) {
		open, leave := c.bound(ctx)
		defer leave()
		asked := proto.CloneOf(request)
		if asked == nil {
			asked = &pullcordv1.WatchRunsRequest{}
		}
		place := &resume{pace: c.settings.pace.withDefaults(), begun: true}
		for {
			place.opening(time.Now())
			left, failed := c.watchRunsOnce(open, asked, place, yield)
			if left {
				return
			}
			var lost PullcordError
			if failed != io.EOF {
				lost = fromStatus(failed, "")
			}
			var delay time.Duration
			if open.Err() == nil {
				delay, lost = place.lost(lost, time.Now(), rand.Float64())
			}
			if open.Err() == nil && lost == nil {
				lost = pause(open, delay, "")
			}
			if ctx.Err() != nil {
				lost = fromContext(ctx.Err(), "")
			} else if open.Err() != nil { // the client was closed
				return
			}
			if lost != nil {
				yield(nil, lost)
				return
			}
		}
	}
}

// watchRunsOnce yields what comes on one connection, and moves the place on: whether the caller has left
// the loop, else why the connection ended.
func (c *RunClient) watchRunsOnce(
	open context.Context,
	asked *pullcordv1.WatchRunsRequest,
	place *resume,
	yield func(*pullcordv1.WatchRunsResponse, error) bool,
) (bool, error) {
	line, leave := context.WithCancel(c.outgoing(open))
	defer leave()
	call, err := c.stub.WatchRuns(line, of(c.whose, asked))
	if err != nil {
		return false, err
	}
	for {
		change, err := call.Recv()
		if err != nil {
			return false, err
		}
		place.progress()
		asked.After = change.GetPosition()
		isShown := change.GetRun() != nil || change.GetCaughtUp() || change.GetMissed()
		if isShown && !yield(change, nil) {
			return true, nil
		}
	}
}
