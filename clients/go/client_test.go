package pullcord

// The verbs that ask once, and wait, which asks again; what goes with every call.

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	pullcordv1 "github.com/pullcord/pullcord/clients/go/v1"
)

// everyVerb calls each verb that makes one call, and returns their errors by the call's name.
func everyVerb(ctx context.Context, client *RunClient) map[string]error {
	failed := map[string]error{}
	_, failed["StartRun"] = client.Start(ctx, counter)
	_, failed["GetRun"] = client.Get(ctx, runID)
	for _, err := range client.List(ctx, nil) {
		failed["ListRuns"] = err
	}
	_, failed["ListRunnables"] = client.Runnables(ctx)
	_, failed["ContinueRun"] = client.ContinueRun(ctx, &pullcordv1.ContinueRunRequest{RunId: runID})
	_, failed["CancelRun"] = client.Cancel(ctx, &pullcordv1.CancelRunRequest{RunId: runID, Wait: durationpb.New(time.Hour)})
	_, failed["CancelRuns"] = client.CancelMany(ctx, &pullcordv1.CancelRunsRequest{SessionId: "s"})
	_, failed["EraseRuns"] = client.Erase(ctx, &pullcordv1.EraseRunsRequest{UserId: "u"})
	return failed
}

// Every verb reads its answer.
func TestTheVerbsReadTheirAnswers(t *testing.T) {
	ctx, s := context.Background(), &script{events: wholeRun(4)}
	client := serve(t, s)
	if run, err := client.Start(ctx, counter); err != nil || run.GetRunId() != runID {
		t.Errorf("Start: %v, %v", run, err)
	}
	if run, err := client.Get(ctx, runID); err != nil || !IsTerminal(run.GetState()) {
		t.Errorf("Get: %v, %v", run, err)
	}
	if all, err := client.Runnables(ctx); err != nil || len(all) != 1 || all[0].GetName() != "agents/a" {
		t.Errorf("Runnables: %v, %v", all, err)
	}
	if run, err := client.ContinueRun(ctx, &pullcordv1.ContinueRunRequest{RunId: runID}); err != nil || run.GetRunId() != runID {
		t.Errorf("ContinueRun: %v, %v", run, err)
	}
	receipt, err := client.Cancel(ctx, &pullcordv1.CancelRunRequest{RunId: runID})
	if err != nil || receipt.GetOutcome() != pullcordv1.CancelOutcome_CANCEL_OUTCOME_REQUESTED {
		t.Errorf("Cancel: %v, %v", receipt, err)
	}
	receipts, err := client.CancelMany(ctx, &pullcordv1.CancelRunsRequest{SessionId: "s"})
	if err != nil || len(receipts.GetResults()) != 1 {
		t.Errorf("CancelMany: %v, %v", receipts, err)
	}
	erased, err := client.Erase(ctx, &pullcordv1.EraseRunsRequest{UserId: "u"})
	if err != nil || erased.GetRuns() != 3 || len(erased.GetLiveRunIds()) != 1 {
		t.Errorf("Erase: %v, %v", erased, err)
	}
}

// List turns the pages, and leaves the caller's request as it is.
func TestListTurnsThePages(t *testing.T) {
	s := &script{}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		s.runs = append(s.runs, &pullcordv1.Run{RunId: id})
	}
	request, listed := &pullcordv1.ListRunsRequest{PageSize: 2, UserId: "u"}, ""
	client := serve(t, s)
	for run, err := range client.List(context.Background(), request) {
		if err != nil {
			t.Fatal(err)
		}
		listed += run.GetRunId()
	}
	if listed != "abcde" || request.GetPageToken() != "" {
		t.Errorf("%q, and the request is %v", listed, request)
	}
	mustCall(t, s, "ListRuns", "ListRuns", "ListRuns")
	for n, token := range []string{"", "2", "4"} {
		if page := s.requests[n].(*pullcordv1.ListRunsRequest); page.GetPageToken() != token || page.GetUserId() != "u" {
			t.Errorf("page %d was asked for by %v", n, page)
		}
	}
	for run := range client.List(context.Background(), request) {
		if run.GetRunId() == "c" {
			break
		}
	}
	mustCall(t, s, "ListRuns", "ListRuns", "ListRuns", "ListRuns", "ListRuns")
	if request.GetPageToken() != "" {
		t.Errorf("the request is %v", request)
	}
}

// A refusal is of its kind, whatever the verb.
func TestEveryVerbTellsARefusal(t *testing.T) {
	client := serve(t, &script{refusal: refused(t, codes.Aborted, reason("SESSION_BUSY", "session_id", "s", "run_id", "r"))})
	for name, err := range everyVerb(context.Background(), client) {
		var busy *SessionBusy
		if !errors.As(err, &busy) || busy.SessionID != "s" {
			t.Errorf("%s: %#v", name, err)
		}
	}
}

// The caller's own context ends a call in the words of a context.
func TestACallerThatHasLeftIsTold(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, err := range everyVerb(ctx, serve(t, &script{})) {
		var failed PullcordError
		if !errors.Is(err, context.Canceled) || !errors.As(err, &failed) {
			t.Errorf("%s: %#v", name, err)
		}
	}
}

// Calls that neither follow nor wait have 30 s, a cancel that waits has as much more, and the caller's
// own deadline counts where it is nearer.
func TestCallsHaveTheirTime(t *testing.T) {
	s := &script{events: wholeRun(0)}
	client := serve(t, s)
	everyVerb(context.Background(), client)
	for n, name := range s.calls() {
		longest := 30 * time.Second
		if name == "CancelRun" {
			longest += time.Hour
		}
		if s.deadlines[n] > longest || s.deadlines[n] < longest/2 {
			t.Errorf("%s has %v", name, s.deadlines[n])
		}
	}

	before := len(s.calls())
	if _, err := read(client.Run(context.Background(), counter)); err != nil {
		t.Fatal(err)
	}
	near, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := read(client.Run(near, counter)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get(near, runID); err != nil {
		t.Fatal(err)
	}
	left := s.deadlines[before:]
	if left[0] != 0 || left[1] <= 0 || left[1] > 20*time.Second || left[2] <= 0 || left[2] > 20*time.Second {
		t.Errorf("they have %v", left)
	}
}

// wait asks again after a break, and where the server has no time; it asks for what is left of the time.
func TestAWaitOutlivesABrokenLine(t *testing.T) {
	s := &script{breaks: []lineBreak{
		{0, gone(codes.Unavailable), 0}, {0, gone(codes.Canceled), 0}, {0, refused(t, codes.Unavailable, reason("STORE_UNAVAILABLE")), 0}}}
	client := serve(t, s)
	if run, err := client.WaitFor(context.Background(), runID, time.Hour); err != nil || !IsTerminal(run.GetState()) {
		t.Errorf("%v, %v", run, err)
	}
	mustCall(t, s, "WaitRun", "WaitRun", "WaitRun", "WaitRun")
	previous := time.Hour
	for n, request := range s.requests {
		timeout := request.(*pullcordv1.WaitRunRequest).GetTimeout().AsDuration()
		if timeout >= previous || timeout < time.Minute || s.deadlines[n] <= timeout {
			t.Errorf("wait %d asks for %v, after %v, with %v left", n, timeout, previous, s.deadlines[n])
		}
		previous = timeout
	}

	if _, err := client.Wait(context.Background(), runID); err != nil {
		t.Fatal(err)
	}
	if last := s.requests[4].(*pullcordv1.WaitRunRequest); last.GetTimeout() != nil || s.deadlines[4] != 0 {
		t.Errorf("a wait without end asks for %v, with %v left", last, s.deadlines[4])
	}
}

// A wait says what it meets that does not pass, and that its time is up or its caller gone.
func TestAWaitEnds(t *testing.T) {
	client := serve(t, &script{breaks: []lineBreak{
		{0, refused(t, codes.NotFound, reason("RUN_NOT_FOUND", "run_id", runID)), 0},
		{0, gone(codes.Unavailable), 0}, {0, gone(codes.Unavailable), 0}}},
		WithPace(Pace{FirstDelay: time.Hour, MaxDelay: time.Hour, ReconnectFor: 2 * time.Hour}))
	var missing *RunNotFound
	if _, err := client.Wait(context.Background(), runID); !errors.As(err, &missing) {
		t.Errorf("%#v", err)
	}
	var late *DeadlineExceeded
	if _, err := client.WaitFor(context.Background(), runID, 200*time.Millisecond); !errors.As(err, &late) || late.RunID() != runID {
		t.Errorf("%#v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := client.Wait(ctx, runID); !errors.As(err, &late) {
		t.Errorf("%#v", err)
	}
}

// A terminal event repeats all of a run's output, so messages beyond gRPC's usual 4 MiB are taken.
func TestLargeMessagesAreTaken(t *testing.T) {
	output := strings.Repeat("x", 20<<20)
	stream := serve(t, &script{events: []*pullcordv1.RunEvent{completed(1, output)}}).Watch(context.Background(), runID, 0)
	if _, err := read(stream); err != nil || stream.Result().GetRunCompleted().GetOutput() != output {
		t.Error(err)
	}
}

// With TLS the line is encrypted, and a server that is not known is not spoken to.
func TestTheLineMayBeEncrypted(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"runs.example.com"}, NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{secret: &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}}
	known := x509.NewCertPool()
	known.AddCert(certificate)
	client := serve(t, s, WithTLS(&tls.Config{RootCAs: known, ServerName: "runs.example.com"}), WithToken("secret"))
	if _, err := client.Get(context.Background(), runID); err != nil {
		t.Fatal(err)
	}
	if s.metadata[0].Get("authorization")[0] != "Bearer secret" {
		t.Error("the token was not sent")
	}
	for name, stranger := range map[string]*RunClient{"nil": serve(t, s, WithTLS(nil)), "plain": serve(t, s)} {
		var lost *ConnectionLost
		if _, err := stranger.Get(context.Background(), runID); !errors.As(err, &lost) {
			t.Errorf("%s: %#v", name, err)
		}
	}
}

// Every call says who asks, and carries the client's metadata beside the context's own.
func TestEveryCallSaysWhoAsks(t *testing.T) {
	s := &script{events: wholeRun(0)}
	client := serve(t, s, WithActor("the reader"), WithToken("secret"), WithMetadata("x-tenant", "t"))
	ctx := metadata.AppendToOutgoingContext(context.Background(), "x-trace", "1")
	everyVerb(ctx, client)
	_, _ = client.Wait(ctx, runID)
	_, _ = read(client.Run(ctx, counter))
	_, _ = read(client.Watch(ctx, runID, 0))
	if len(s.metadata) != 11 {
		t.Fatalf("%d calls", len(s.metadata))
	}
	for n, sent := range s.metadata {
		for key, want := range map[string]string{
			"pullcord-actor": "the%20reader", "authorization": "Bearer secret", "x-tenant": "t", "x-trace": "1",
		} {
			if got := sent.Get(key); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %s is %q", s.names[n], key, got)
			}
		}
	}

	_, _ = client.Get(ContextWithActor(ctx, "ann"), runID)
	if got := s.metadata[11].Get("pullcord-actor"); len(got) != 1 || got[0] != "ann" {
		t.Errorf("on somebody's behalf it says %q", got)
	}
}
