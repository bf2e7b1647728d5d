// Package pullcord starts, follows, looks at and stops runs of AI agents on a Pullcord server.
//
// Make a [RunClient]; [RunClient.Run] starts a run and gives a [RunStream] of its events, which
// survives broken lines. Requests, runs and events are the messages of package pullcordv1.
package pullcord

// The client and its verbs: what is asked and for how long. Which events are new and when to come
// back is decided in resume.go, what a status means in errors.go.

import (
	"context"
	"crypto/tls"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pullcordv1 "github.com/pullcord/pullcord/clients/go/v1"
)

// Version is the client's own.
const Version = "0.1.0"

// DefaultTarget is where a server listens unless it was told otherwise.
const DefaultTarget = "127.0.0.1:50051"

// callTimeout is what a call may take which neither follows a run nor waits for one.
const callTimeout = 30 * time.Second

// A terminal event repeats all of a run's output, and a snapshot its input besides.
const maxMessageBytes = 64 << 20

// RunClient starts, follows, looks at and stops the runs of a server. It may be used by many
// goroutines at once. All its errors are [PullcordError]s.
type RunClient struct {
	channel  *grpc.ClientConn
	stub     pullcordv1.RunServiceClient
	settings settings
	whose    whose
	isShared bool            // the channel is another client's
	open     context.Context // ends with Close
	close    context.CancelFunc
}

// NewRunClient makes a client of the server at a target, as gRPC takes it; empty: DefaultTarget.
// It connects when it is first used.
func NewRunClient(target string, options ...ClientOption) (*RunClient, error) {
	if target == "" {
		target = DefaultTarget
	}
	s := settings{
		actor:       defaultActor(),
		credentials: insecure.NewCredentials(),
		keepalive:   keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second},
	}
	for _, option := range options {
		option(&s)
	}
	channel, err := grpc.NewClient(target, append(s.channelOptions(), s.dial...)...)
	if err != nil {
		return nil, err
	}
	open, end := context.WithCancel(context.Background())
	stub := pullcordv1.NewRunServiceClient(channel)
	return &RunClient{channel: channel, stub: stub, settings: s, open: open, close: end}, nil
}

// Close ends every stream and closes the channel. Runs go on as their disconnect policy says.
func (c *RunClient) Close() error {
	c.close()
	if c.isShared {
		return nil
	}
	return c.channel.Close()
}

// --- starting and following

// Run starts a run and follows it. The stream is ctx's: its deadline is the run's, too, which ends a
// little before it with cause DEADLINE; when ctx is cancelled, the run is left to its disconnect
// policy. Close the stream, unless ctx ends or the stream is read to its end.
func (c *RunClient) Run(ctx context.Context, spec *pullcordv1.RunSpec, options ...StreamOption) *RunStream {
	spec = withRunID(spec)
	return newStream(ctx, c, spec, &resume{runID: spec.GetRunId()}, options)
}

// Start starts a run in the background.
func (c *RunClient) Start(ctx context.Context, spec *pullcordv1.RunSpec) (*pullcordv1.Run, error) {
	spec = withRunID(spec)
	request := &pullcordv1.StartRunRequest{Spec: spec}
	response, err := call(ctx, c, c.stub.StartRun, request, spec.GetRunId(), callTimeout)
	return response.GetRun(), err
}

// Watch follows a run to its end: the events after a number, or with 0 all. The stream is ctx's, and
// its end changes nothing of the run but what the run's disconnect policy says.
func (c *RunClient) Watch(ctx context.Context, runID string, afterSequence int64, options ...StreamOption) *RunStream {
	place := &resume{runID: runID, afterSequence: afterSequence, begun: true}
	return newStream(ctx, c, nil, place, options)
}

// Wait waits until a run has ended. Where ctx has a deadline, the run may come as it is shortly
// before, which [IsTerminal] tells.
func (c *RunClient) Wait(ctx context.Context, runID string) (*pullcordv1.Run, error) {
	return c.wait(ctx, runID, time.Time{})
}

// WaitFor waits until a run has ended or the time is up, and returns it as it then is.
func (c *RunClient) WaitFor(ctx context.Context, runID string, timeout time.Duration) (*pullcordv1.Run, error) {
	return c.wait(ctx, runID, time.Now().Add(timeout))
}

func (c *RunClient) wait(ctx context.Context, runID string, until time.Time) (*pullcordv1.Run, error) {
	waiting, leave := c.bound(ctx)
	defer leave()
	if !until.IsZero() {
		var cancel context.CancelFunc
		waiting, cancel = context.WithDeadline(waiting, until)
		defer cancel()
	}
	place := &resume{pace: c.settings.pace.withDefaults(), runID: runID, begun: true}
	for {
		request, limit := &pullcordv1.WaitRunRequest{RunId: runID}, time.Duration(0)
		if !until.IsZero() {
			left := max(0, time.Until(until))
			request.Timeout, limit = durationpb.New(left), left+callTimeout
		}
		place.opening(time.Now())
		response, failed := call(ctx, c, c.stub.WaitRun, request, runID, limit)
		if failed == nil {
			return response.GetRun(), nil
		}
		delay, failed := place.lost(failed, time.Now(), rand.Float64())
		if failed == nil {
			failed = pause(waiting, delay, runID)
		}
		if failed != nil {
			return nil, failed
		}
	}
}

// --- looking

// Get is a run as it is now.
func (c *RunClient) Get(ctx context.Context, runID string) (*pullcordv1.Run, error) {
	request := &pullcordv1.GetRunRequest{RunId: runID}
	response, err := call(ctx, c, c.stub.GetRun, request, runID, callTimeout)
	return response.GetRun(), err
}

// List is all runs that match, the newest first, without input and output, page by page. It ends
// after an error.
func (c *RunClient) List(ctx context.Context, request *pullcordv1.ListRunsRequest) iter.Seq2[*pullcordv1.Run, error] {
	return func(yield func(*pullcordv1.Run, error) bool) {
		page := proto.CloneOf(request)
		if page == nil {
			page = &pullcordv1.ListRunsRequest{}
		}
		for {
			response, err := call(ctx, c, c.stub.ListRuns, page, "", callTimeout)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, run := range response.GetRuns() {
				if !yield(run, nil) {
					return
				}
			}
			if page.PageToken = response.GetNextPageToken(); page.PageToken == "" {
				return
			}
		}
	}
}

// Runnables is what can be run, in order of name.
func (c *RunClient) Runnables(ctx context.Context) ([]*pullcordv1.Runnable, error) {
	request := &pullcordv1.ListRunnablesRequest{}
	response, err := call(ctx, c, c.stub.ListRunnables, request, "", callTimeout)
	return response.GetRunnables(), err
}

// --- going on

// ContinueRun brings a paused run the decision on every call that waits, and returns the run as it
// then is. The error is a RunNotPaused where it does not wait, also because somebody else has decided.
func (c *RunClient) ContinueRun(ctx context.Context, request *pullcordv1.ContinueRunRequest) (*pullcordv1.Run, error) {
	response, err := call(ctx, c, c.stub.ContinueRun, request, request.GetRunId(), callTimeout)
	return response.GetRun(), err
}

// --- stopping

// Cancel stops a run and returns the receipt, which says in Outcome what was achieved by then.
func (c *RunClient) Cancel(ctx context.Context, request *pullcordv1.CancelRunRequest) (*pullcordv1.CancelRunResponse, error) {
	timeout := callTimeout + request.GetWait().AsDuration()
	return call(ctx, c, c.stub.CancelRun, request, request.GetRunId(), timeout)
}

// CancelMany stops every live run that matches, by session, user, runnable and labels.
func (c *RunClient) CancelMany(ctx context.Context, request *pullcordv1.CancelRunsRequest) (*pullcordv1.CancelRunsResponse, error) {
	return call(ctx, c, c.stub.CancelRuns, request, "", callTimeout)
}

// Erase deletes for good what is kept of the ended runs that match, by user, session, tenant or owner; at
// least one is needed. Live runs stay, and are named. With ValidateOnly it only says what would be deleted.
func (c *RunClient) Erase(ctx context.Context, request *pullcordv1.EraseRunsRequest) (*pullcordv1.EraseRunsResponse, error) {
	return call(ctx, c, c.stub.EraseRuns, request, "", callTimeout)
}

// CreateRunToken gets a short-lived token with which a web page may see one run, and stop it, and
// nothing else.
func (c *RunClient) CreateRunToken(ctx context.Context, request *pullcordv1.CreateRunTokenRequest) (*pullcordv1.CreateRunTokenResponse, error) {
	return call(ctx, c, c.stub.CreateRunToken, request, request.GetRunId(), callTimeout)
}

// --- calling

// call makes a unary call about a run (empty: none), which may take so long (0: as ctx says).
func call[Request, Response any](
	ctx context.Context,
	c *RunClient,
	method func(context.Context, *Request, ...grpc.CallOption) (*Response, error),
	request *Request,
	runID string,
	timeout time.Duration,
) (*Response, PullcordError) {
	limited := c.outgoing(ctx)
	if timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(limited, timeout)
		defer cancel()
	}
	response, err := method(limited, of(c.whose, request))
	if err == nil {
		return response, nil
	}
	if left := status.FromContextError(ctx.Err()); ctx.Err() != nil && left.Code() == status.Code(err) {
		return nil, fromContext(ctx.Err(), runID)
	}
	return nil, fromStatus(err, runID)
}

// pause waits before the next connection. The error says that ctx has ended.
func pause(ctx context.Context, delay time.Duration, runID string) PullcordError {
	select {
	case <-time.After(delay):
		return nil
	case <-ctx.Done():
		return fromContext(ctx.Err(), runID)
	}
}

// bound is ctx, which ends with the client, too.
func (c *RunClient) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	bound, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.open, cancel)
	return bound, func() {
		stop()
		cancel()
	}
}

// outgoing is ctx with what goes with every call: the client's own metadata, and who asks.
func (c *RunClient) outgoing(ctx context.Context) context.Context {
	said, _ := metadata.FromOutgoingContext(ctx)
	sent := metadata.Join(said, c.settings.metadata)
	if c.settings.token != nil {
		sent.Set("authorization", "Bearer "+c.settings.token())
	}
	if len(sent.Get(actorKey)) == 0 {
		sent.Set(actorKey, encodeActor(c.settings.actor))
	}
	return metadata.NewOutgoingContext(ctx, sent)
}

// withRunID is a copy of the spec with an id, so that a retry starts nothing twice.
func withRunID(spec *pullcordv1.RunSpec) *pullcordv1.RunSpec {
	spec = proto.CloneOf(spec)
	if spec == nil {
		spec = &pullcordv1.RunSpec{}
	}
	if spec.RunId == "" {
		spec.RunId = uuid.NewString()
	}
	return spec
}

// --- options

type settings struct {
	actor       string
	credentials credentials.TransportCredentials
	metadata    metadata.MD
	token       func() string
	pace        Pace
	keepalive   keepalive.ClientParameters
	dial        []grpc.DialOption
}

func (s *settings) channelOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(s.credentials),
		grpc.WithUserAgent("pullcord-go/" + Version),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)),
		grpc.WithKeepaliveParams(s.keepalive),
		// Else gRPC waits up to two minutes before it tries a server again that has come back.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2500 * time.Millisecond},
			MinConnectTimeout: 20 * time.Second, // gRPC's own default
		}),
	}
}

// ClientOption is how a client differs from the default one.
type ClientOption func(*settings)

// WithTLS encrypts the line; nil: with the system's certificate authorities.
func WithTLS(config *tls.Config) ClientOption {
	return func(s *settings) { s.credentials = credentials.NewTLS(config) }
}

// WithMetadata sends an entry with every call.
func WithMetadata(key, value string) ClientOption {
	return func(s *settings) { s.metadata = metadata.Join(s.metadata, metadata.Pairs(key, value)) }
}

// WithToken sends a bearer token with every call.
func WithToken(token string) ClientOption {
	return WithTokenFrom(func() string { return token })
}

// WithTokenFrom sends a bearer token that is asked for each call, so that one that was renewed is used
// at once. The provider must be quick: one that asks a network does so by itself, ahead of time.
func WithTokenFrom(provider func() string) ClientOption {
	return func(s *settings) { s.token = provider }
}

// WithActor says who asks, as receipts and events will say; without it: user@host of this process.
func WithActor(actor string) ClientOption {
	return func(s *settings) { s.actor = actor }
}

// WithPace says how a broken stream is taken up again.
func WithPace(pace Pace) ClientOption {
	return func(s *settings) { s.pace = pace }
}

// WithKeepalive says how long a connection may be silent, while a call is open, before it is pinged, and
// how long the answer may take before the connection is lost. Without it: 30 s and 10 s. gRPC for Go
// takes 10 s for a silence that is shorter.
func WithKeepalive(silence, timeout time.Duration) ClientOption {
	return func(s *settings) {
		s.keepalive = keepalive.ClientParameters{Time: silence, Timeout: timeout}
	}
}

// WithDialOptions gives gRPC options of its own, which win over the client's.
func WithDialOptions(options ...grpc.DialOption) ClientOption {
	return func(s *settings) { s.dial = append(s.dial, options...) }
}
