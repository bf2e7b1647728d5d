package pullcord

// A followed list over whole and broken lines, and how it is left.

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	pullcordv1 "github.com/pullcord/pullcord/clients/go/v1"
)

// fourChanges are a live run, that this was all, a sign of life, and the run's end.
func fourChanges() []*pullcordv1.WatchRunsResponse {
	live := &pullcordv1.Run{RunId: runID, State: pullcordv1.RunState_RUN_STATE_RUNNING}
	ended := &pullcordv1.Run{RunId: runID, State: pullcordv1.RunState_RUN_STATE_COMPLETED}
	return []*pullcordv1.WatchRunsResponse{
		{Run: live, Position: "1"}, {CaughtUp: true, Position: "2"}, {Position: "3"}, {Run: ended, Position: "4"}}
}

// positions are those of so many changes, and the error behind them.
func positions(client *RunClient, request *pullcordv1.WatchRunsRequest, count int) (seen []string, failed error) {
	for change, err := range client.WatchRuns(context.Background(), request) {
		if err != nil {
			return seen, err
		}
		if seen = append(seen, change.GetPosition()); len(seen) == count {
			break
		}
	}
	return seen, nil
}

// A list goes on behind the last position, also one that is not shown, and leaves the request as it is.
func TestAListGoesOnBehindItsPosition(t *testing.T) {
	s := &script{changes: fourChanges(), breaks: []lineBreak{{after: 1, err: gone(codes.Unavailable)}, {after: 2}}}
	client, request := serve(t, s), &pullcordv1.WatchRunsRequest{UserId: "u"}
	seen, err := positions(client, request, 3)
	if fmt.Sprint(seen) != "[1 2 4]" || err != nil {
		t.Fatalf("%v, %v", seen, err)
	}
	<-s.left
	mustCall(t, s, "WatchRuns", "WatchRuns", "WatchRuns")
	for n, after := range []string{"", "1", "3"} {
		if asked := s.requests[n].(*pullcordv1.WatchRunsRequest); asked.GetAfter() != after || asked.GetUserId() != "u" {
			t.Errorf("call %d was %v", n, asked)
		}
	}
	if request.GetAfter() != "" {
		t.Errorf("the request is %v", request)
	}
}

// An error that is no lost connection is the last that a list says.
func TestAListEndsWithARefusal(t *testing.T) {
	s := &script{changes: fourChanges(), breaks: []lineBreak{{after: 1, err: gone(codes.PermissionDenied)}}}
	seen, err := positions(serve(t, s), nil, 3)
	var failed *CallFailed
	if fmt.Sprint(seen) != "[1]" || !errors.As(err, &failed) {
		t.Fatalf("%v, %v", seen, err)
	}
	mustCall(t, s, "WatchRuns")
}

// A list whose connections bring nothing is given up.
func TestAListIsGivenUp(t *testing.T) {
	s := &script{breaks: []lineBreak{{err: gone(codes.Unavailable)}}}
	_, err := positions(serve(t, s, WithPace(Pace{ReconnectFor: -1})), nil, 1)
	var lost *ConnectionLost
	if !errors.As(err, &lost) {
		t.Fatal(err)
	}
}

// A caller's context that ends is the list's error; a client that is closed ends it in peace.
func TestAListIsLeftByItsContextOrItsClient(t *testing.T) {
	s := &script{changes: fourChanges()}
	client := serve(t, s)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	count := 0
	for change, err := range client.WatchRuns(ctx, nil) {
		if count++; count == 3 {
			cancel()
		} else if count == 4 && (change != nil || !errors.Is(err, context.Canceled)) {
			t.Errorf("%v, %v", change, err)
		}
	}
	<-s.left
	for _, err := range client.WatchRuns(context.Background(), nil) {
		if err != nil {
			t.Error(err)
		}
		if count++; count == 7 {
			_ = client.Close()
		}
	}
	if count != 7 {
		t.Errorf("%d changes", count)
	}
	<-s.left
}
