// The face of the client: its verbs. It calls and waits; what a broken line means is decided in
// Resume, what a status means in ErrorTable, and how the line is made in Builder.
package dev.pullcord;

import dev.pullcord.v1.CancelRunRequest;
import dev.pullcord.v1.CancelRunResponse;
import dev.pullcord.v1.CancelRunsRequest;
import dev.pullcord.v1.CancelRunsResponse;
import dev.pullcord.v1.ContinueRunRequest;
import dev.pullcord.v1.CreateRunTokenRequest;
import dev.pullcord.v1.CreateRunTokenResponse;
import dev.pullcord.v1.EraseRunsRequest;
import dev.pullcord.v1.EraseRunsResponse;
import dev.pullcord.v1.GetRunRequest;
import dev.pullcord.v1.ListRunnablesRequest;
import dev.pullcord.v1.ListRunsRequest;
import dev.pullcord.v1.ListRunsResponse;
import dev.pullcord.v1.Run;
import dev.pullcord.v1.RunEvent;
import dev.pullcord.v1.RunRequest;
import dev.pullcord.v1.RunResponse;
import dev.pullcord.v1.RunServiceGrpc;
import dev.pullcord.v1.RunServiceGrpc.RunServiceBlockingStub;
import dev.pullcord.v1.RunSpec;
import dev.pullcord.v1.StartRunRequest;
import dev.pullcord.v1.WaitRunRequest;
import dev.pullcord.v1.WatchRunRequest;
import dev.pullcord.v1.WatchRunResponse;
import dev.pullcord.v1.WatchRunsRequest;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.stream.Stream;

/**
 * Starts, follows, looks at and stops the runs of a server, from any thread.
 *
 * <p>Close it, or use it in {@code try (…)}. Every refusal is thrown as its class in {@link
 * PullcordError}; what has no class of its own is a {@link PullcordError.CallFailed}. Deadlines and
 * cancellation of the caller's {@link io.grpc.Context} hold for every verb.
 */
public final class RunClient implements AutoCloseable {
    /** The address that is called where no other is given. */
    public static final String DEFAULT_TARGET = "127.0.0.1:50051";

    /** The version of this client. */
    public static final String VERSION = Version.read();

    /** What a call may take which neither follows a run nor waits for one. */
    static final Duration CALL_TIMEOUT = Duration.ofSeconds(30);

    private final ManagedChannel channel;
    private final RunServiceBlockingStub stub;
    private final Pace pace;
    private final Whose whose;
    private final Optional<RunClient> shared;
    private final Set<Presence> present = ConcurrentHashMap.newKeySet();
    private volatile boolean closed;

    RunClient(ManagedChannel channel, Pace pace) {
        this.channel = channel;
        this.stub = RunServiceGrpc.newBlockingStub(channel);
        this.pace = pace;
        this.whose = Whose.ANYBODY;
        this.shared = Optional.empty();
    }

    private RunClient(RunClient shared, Whose whose) {
        this.channel = shared.channel;
        this.stub = shared.stub;
        this.pace = shared.pace;
        this.whose = whose;
        this.shared = Optional.of(shared);
    }

    /** A client on a line that is not encrypted; for all else there is {@link #builder}. */
    public static RunClient connect(String target) {
        return builder().target(target).build();
    }

    /** How a client is made that needs TLS, a token, an actor or a pace of its own. */
    public static RunClientBuilder builder() {
        return new RunClientBuilder();
    }

    /**
     * {@return the same client for the runs of one owner, and of one tenant} For a caller that may
     * see the runs of several, which may have the same ids. Empty: the caller's own, else any that
     * it may see. What a request says itself stands. It shares the connection; closing it ends its
     * own streams.
     */
    public RunClient of(String tenant, String owner) {
        return new RunClient(this, new Whose(tenant, owner));
    }

    /** Ends every stream and closes the channel. Runs go on as their disconnect policy says. */
    @Override
    public void close() {
        closed = true;
        present.forEach(Presence::leave);
        if (shared.isEmpty()) {
            channel.shutdownNow();
        }
    }

    // --- starting and following

    /** Starts a run of what has this full name, on this text, and follows it. */
    public RunStream run(String runnable, String input) {
        return run(RunSpec.newBuilder().setRunnable(runnable).setInput(input).build());
    }

    /** Starts a run and follows it. A spec without a {@code run_id} is given one. */
    public RunStream run(RunSpec spec) {
        return run(spec, null);
    }

    /**
     * Starts a run and follows it. Where there is a {@code timeout}, the run ends with cause
     * DEADLINE a little before that is up; null: there is none.
     */
    public RunStream run(RunSpec spec, Duration timeout) {
        RunSpec known = withRunId(spec);
        Resume place = Resume.starting(known.getRunId(), pace, Optional.ofNullable(timeout));
        return follow(
                place, resume -> resume.hasBegun() ? openWatch(resume) : openRun(known, resume));
    }

    /** Starts a run of what has this full name, on this text, in the background. */
    public Run start(String runnable, String input) {
        return start(RunSpec.newBuilder().setRunnable(runnable).setInput(input).build());
    }

    /** Starts a run in the background. A spec without a {@code run_id} is given one. */
    public Run start(RunSpec spec) {
        RunSpec known = withRunId(spec);
        StartRunRequest request = StartRunRequest.newBuilder().setSpec(known).build();
        return call(known.getRunId(), stub -> stub.startRun(request).getRun());
    }

    /** Follows a run from its first event to its end. */
    public RunStream watch(String runId) {
        return watch(runId, 0);
    }

    /** Follows a run to its end, from after the event that was the last one seen. */
    public RunStream watch(String runId, long afterSequence) {
        return watch(runId, afterSequence, null);
    }

    /**
     * Follows a run to its end, from after the event that was the last one seen. Where there is a
     * {@code timeout}, the watching ends then, and not the run; null: there is none.
     */
    public RunStream watch(String runId, long afterSequence, Duration timeout) {
        Optional<Duration> time = Optional.ofNullable(timeout);
        return follow(Resume.watching(runId, pace, time, afterSequence), this::openWatch);
    }

    /** {@return a run once it has ended} */
    public Run waitFor(String runId) {
        return waitFor(runId, null);
    }

    /** {@return a run once it has ended, or as it is after {@code timeout}; null: there is none} */
    public Run waitFor(String runId, Duration timeout) {
        Optional<Duration> left = Optional.ofNullable(timeout);
        Resume resume = Resume.watching(runId, pace, left, 0);
        Presence presence = attend(new Presence());
        try {
            while (true) {
                Optional<Duration> length = left;
                try {
                    return presence.call(() -> waitOnce(runId, length));
                } catch (PullcordError error) {
                    presence.check(runId);
                    if (presence.hasLeft()) {
                        throw error;
                    }
                    presence.pause(resume.lost(Optional.of(error)));
                }
                left = resume.opening();
            }
        } finally {
            presence.leave();
            forget(presence);
        }
    }

    // --- looking

    /** {@return a run as it is now} */
    public Run get(String runId) {
        GetRunRequest request = GetRunRequest.newBuilder().setRunId(runId).build();
        return call(runId, stub -> stub.getRun(whose.of(request)).getRun());
    }

    /** {@return all runs, the newest first, without input and output, fetched page by page} */
    public Stream<Run> list() {
        return list(ListRunsRequest.getDefaultInstance());
    }

    /**
     * {@return the runs that match, the newest first, without input and output, fetched page by
     * page}
     */
    public Stream<Run> list(ListRunsRequest request) {
        return Stream.iterate(
                        page(request),
                        Optional::isPresent,
                        page ->
                                page.map(ListRunsResponse::getNextPageToken)
                                        .filter(token -> !token.isEmpty())
                                        .map(token -> request.toBuilder().setPageToken(token))
                                        .flatMap(next -> page(next.build())))
                .flatMap(page -> page.orElseThrow().getRunsList().stream());
    }

    /** {@return the list of all runs as it changes} */
    public RunChanges watchRuns() {
        return watchRuns(WatchRunsRequest.getDefaultInstance());
    }

    /**
     * {@return the list of the runs that match, as it changes} Where {@code after} is the position
     * of a change that was seen, it goes on behind that one. Close it.
     */
    public RunChanges watchRuns(WatchRunsRequest request) {
        return new RunChanges(
                this,
                Resume.watching("", pace, Optional.empty(), 0),
                attend(new Presence()),
                request.getAfter(),
                after -> stub.watchRuns(whose.of(request).toBuilder().setAfter(after).build()));
    }

    /** {@return what can be run, in order of name} */
    public List<dev.pullcord.v1.Runnable> runnables() {
        ListRunnablesRequest request = ListRunnablesRequest.getDefaultInstance();
        return call("", stub -> stub.listRunnables(request).getRunnablesList());
    }

    // --- going on

    /**
     * Brings a paused run the decision on every call that waits; the run as it then is.
     *
     * @throws PullcordError.RunNotPaused it does not wait, also because somebody else has decided
     */
    public Run continueRun(ContinueRunRequest request) {
        return call(request.getRunId(), stub -> stub.continueRun(whose.of(request)).getRun());
    }

    // --- stopping

    /** Stops a run, for a reason in the asker's words; the receipt. */
    public CancelRunResponse cancel(String runId, String reason) {
        return cancel(CancelRunRequest.newBuilder().setRunId(runId).setReason(reason).build());
    }

    /** Stops a run; the receipt. With {@code wait} the answer waits for the stop. */
    public CancelRunResponse cancel(CancelRunRequest request) {
        com.google.protobuf.Duration wait = request.getWait();
        Duration limit = CALL_TIMEOUT.plusSeconds(wait.getSeconds()).plusNanos(wait.getNanos());
        return call(
                request.getRunId(), Optional.of(limit), stub -> stub.cancelRun(whose.of(request)));
    }

    /** Stops every live run that the filter matches, by session, user, runnable and labels. */
    public CancelRunsResponse cancelMany(CancelRunsRequest request) {
        return call("", stub -> stub.cancelRuns(whose.of(request)));
    }

    /**
     * Deletes for good what is kept of the ended runs that match, by user, session, tenant or
     * owner; at least one is needed. Live runs stay, and are named.
     */
    public EraseRunsResponse erase(EraseRunsRequest request) {
        return call("", stub -> stub.eraseRuns(whose.of(request)));
    }

    /** A short-lived token with which a web page may see one run, and stop it, and nothing else. */
    public CreateRunTokenResponse createRunToken(CreateRunTokenRequest request) {
        return call(request.getRunId(), stub -> stub.createRunToken(whose.of(request)));
    }

    // --- calling

    private Optional<ListRunsResponse> page(ListRunsRequest request) {
        return Optional.of(call("", stub -> stub.listRuns(whose.of(request))));
    }

    private <T> T call(String runId, Function<RunServiceBlockingStub, T> method) {
        return call(runId, Optional.of(CALL_TIMEOUT), method);
    }

    private <T> T call(
            String runId, Optional<Duration> limit, Function<RunServiceBlockingStub, T> method) {
        try {
            return method.apply(within(limit));
        } catch (StatusRuntimeException failure) {
            throw ErrorTable.errorOf(failure, runId);
        }
    }

    private Run waitOnce(String runId, Optional<Duration> length) {
        WaitRunRequest.Builder request = WaitRunRequest.newBuilder().setRunId(runId);
        length.ifPresent(time -> request.setTimeout(message(time)));
        return call(
                runId,
                length.map(CALL_TIMEOUT::plus),
                stub -> stub.waitRun(whose.of(request.build())).getRun());
    }

    private RunStream follow(Resume resume, Function<Resume, Iterator<RunEvent>> connect) {
        Presence presence = attend(new Presence());
        try {
            return new RunStream(this, resume, presence, connect);
        } catch (RuntimeException tooLate) { // the caller's time was up before it began
            forget(presence);
            throw tooLate;
        }
    }

    private Iterator<RunEvent> openRun(RunSpec spec, Resume resume) {
        RunRequest request = RunRequest.newBuilder().setSpec(spec).build();
        return map(within(resume.opening()).run(request), RunResponse::getEvent);
    }

    private Iterator<RunEvent> openWatch(Resume resume) {
        WatchRunRequest request =
                WatchRunRequest.newBuilder()
                        .setRunId(resume.runId())
                        .setAfterSequence(resume.afterSequence())
                        .build();
        return map(
                within(resume.opening()).watchRun(whose.of(request)), WatchRunResponse::getEvent);
    }

    private RunServiceBlockingStub within(Optional<Duration> limit) {
        return limit.map(length -> stub.withDeadlineAfter(length.toNanos(), TimeUnit.NANOSECONDS))
                .orElse(stub);
    }

    private Presence attend(Presence presence) {
        present.add(presence);
        shared.ifPresent(client -> client.attend(presence));
        if (closed) {
            forget(presence);
            throw new IllegalStateException("the client is closed");
        }
        return presence;
    }

    void forget(Presence presence) {
        present.remove(presence);
        shared.ifPresent(client -> client.forget(presence));
    }

    private static RunSpec withRunId(RunSpec spec) {
        return spec.getRunId().isEmpty()
                ? spec.toBuilder().setRunId(UUID.randomUUID().toString()).build()
                : spec;
    }

    private static com.google.protobuf.Duration message(Duration length) {
        return com.google.protobuf.Duration.newBuilder()
                .setSeconds(length.getSeconds())
                .setNanos(length.getNano())
                .build();
    }

    private static <T, R> Iterator<R> map(Iterator<T> items, Function<T, R> part) {
        return new Iterator<>() {
            @Override
            public boolean hasNext() {
                return items.hasNext();
            }

            @Override
            public R next() {
                return part.apply(items.next());
            }
        };
    }
}
