// The events of one run over lines that break, with a real server that breaks them.
package dev.pullcord;

import static dev.pullcord.Events.RUN_ID;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.pullcord.PullcordError.CallFailed;
import dev.pullcord.PullcordError.ConnectionLost;
import dev.pullcord.PullcordError.DeadlineExceeded;
import dev.pullcord.PullcordError.RunNotFound;
import dev.pullcord.PullcordError.ServerBusy;
import dev.pullcord.v1.CancelMode;
import dev.pullcord.v1.CancelOutcome;
import dev.pullcord.v1.CancelRunRequest;
import dev.pullcord.v1.CancelRunResponse;
import dev.pullcord.v1.GetRunResponse;
import dev.pullcord.v1.Run;
import dev.pullcord.v1.RunEvent;
import dev.pullcord.v1.RunRequest;
import dev.pullcord.v1.RunSpec;
import dev.pullcord.v1.RunState;
import dev.pullcord.v1.WatchRunRequest;
import io.grpc.Context;
import io.grpc.Status;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.FutureTask;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.function.DoubleSupplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;

class RunStreamTest {
    private static final RunSpec SPEC =
            RunSpec.newBuilder().setRunId(RUN_ID).setRunnable("agents/counter").build();
    private static final StatusRuntimeException BUSY =
            ErrorTableTest.refusal(
                    Code.RESOURCE_EXHAUSTED, ErrorTableTest.info("SERVER_BUSY", Map.of()));

    private final ManualPace manual = new ManualPace();
    private final FakeServer server = new FakeServer();
    private final RunClient client = client(manual.quick());

    @AfterEach
    void close() {
        client.close();
        server.close();
    }

    // --- following

    @Test
    @DisplayName("A stream is the run's events, and ends after the terminal one")
    void aStreamIsTheRun() {
        server.answers(events(5));
        try (RunStream stream = client.run(SPEC)) {
            assertEquals(RUN_ID, stream.runId());
            assertEquals(Optional.empty(), stream.result());
            assertEquals(Events.wholeRun(5), all(stream));
            assertEquals(Optional.of(Events.completed(5)), stream.result());
            assertEquals(5, stream.afterSequence());
            assertThrows(NoSuchElementException.class, stream::next);
        }
        assertEquals(List.of("Run"), server.names());
    }

    @Test
    @DisplayName("Nothing comes after the terminal event, and the end of a run beneath is none")
    void onlyTheRunsOwnEndEndsIt() {
        server.answers(Events.completedBeneath(1), Events.completed(2), Events.delta(3));
        assertEquals(
                List.of(Events.completedBeneath(1), Events.completed(2)),
                all(client.watch(RUN_ID)));
    }

    @Test
    @DisplayName("Heartbeats are shown where they are asked for")
    void heartbeatsAreShownOnRequest() {
        server.answers(Events.heartbeat(0), Events.completed(1));
        assertEquals(List.of(Events.completed(1)), all(client.watch(RUN_ID)));
        server.answers(Events.heartbeat(0), Events.completed(1));
        assertEquals(
                List.of(Events.heartbeat(0), Events.completed(1)),
                all(client.watch(RUN_ID).withHeartbeats()));
    }

    @Test
    @DisplayName("A payload of a newer server is skipped, and its number is remembered")
    void unknownPayloadsAreSkipped() throws InterruptedException {
        server.breaks(Status.UNAVAILABLE, Events.started(), Events.unknown(2))
                .answers(Events.completed(3));
        assertEquals(List.of(Events.started(), Events.completed(3)), all(client.watch(RUN_ID)));
        assertEquals(watch(0), server.awaitCall().request());
        assertEquals(watch(2), server.awaitCall().request());
    }

    // --- coming back

    @Test
    @DisplayName("After a break the stream goes on behind the last event, and repeats none")
    void aBrokenStreamGoesOn() throws InterruptedException {
        server.breaks(Status.UNAVAILABLE, Events.started(), Events.delta(2))
                .breaks(Status.CANCELLED, Events.delta(2), Events.delta(3))
                .answers(Events.delta(4), Events.completed(5));
        assertEquals(Events.wholeRun(5), all(client.run(SPEC)));
        assertEquals(RunRequest.newBuilder().setSpec(SPEC).build(), server.awaitCall().request());
        assertEquals(watch(2), server.awaitCall().request());
        assertEquals(watch(3), server.awaitCall().request());
    }

    @Test
    @DisplayName("Until an event has come the run is asked for again, under the same id")
    void aRunThatMayNotHaveBegunIsStartedAgain() throws InterruptedException {
        server.breaks(Status.UNAVAILABLE).answers(events(3));
        RunStream stream = client.run("agents/counter", "3");
        assertEquals(Events.wholeRun(3), all(stream));
        RunRequest first = (RunRequest) server.awaitCall().request();
        assertEquals(stream.runId(), first.getSpec().getRunId());
        assertEquals(first, server.awaitCall().request());
    }

    @Test
    @DisplayName("A server that is gone, and comes back, is found again")
    void aLineThatIsCutIsMadeAgain() {
        server.holds(Events.started());
        RunStream stream = client.run(SPEC);
        assertEquals(Events.started(), stream.next());
        server.close();
        try (FakeServer back = new FakeServer(server.port())) {
            back.answers(Events.completed(2));
            assertEquals(Events.completed(2), stream.next());
            assertEquals(List.of("WatchRun"), back.names());
        }
    }

    @Test
    @DisplayName("A stream that ends in peace without an end is asked about, and taken up again")
    void peaceWithoutAnEndIsABreak() {
        server.answers(Events.started())
                .answers(run(RunState.RUN_STATE_RUNNING, 1))
                .answers(Events.delta(2), Events.completed(3));
        assertEquals(Events.wholeRun(3), all(client.run(SPEC)));
        assertEquals(List.of("Run", "GetRun", "WatchRun"), server.names());
    }

    @Test
    @DisplayName("A watch from after the run's end ends without an event")
    void aWatchFromBehindTheEndEnds() {
        server.answers().answers(run(RunState.RUN_STATE_CANCELLED, 7));
        assertEquals(List.of(), all(client.watch(RUN_ID, 7)));
        assertEquals(List.of("WatchRun", "GetRun"), server.names());
    }

    @Test
    @DisplayName("A run that has been forgotten meanwhile is not found")
    void whatGetRunSaysIsTold() {
        server.answers(Events.started())
                .refuses(
                        ErrorTableTest.refusal(
                                Code.NOT_FOUND,
                                ErrorTableTest.info("RUN_NOT_FOUND", Map.of("run_id", RUN_ID))));
        RunStream stream = client.run(SPEC);
        assertEquals(Events.started(), stream.next());
        assertThrows(RunNotFound.class, stream::next);
        assertFalse(stream.hasNext(), "it has ended, and does not throw twice");
    }

    @Test
    @DisplayName(
            "A busy server is an answer to a new run, and a delay to the watcher of a known one")
    void aBusyServerDelaysWatchersOnly() {
        server.refuses(BUSY);
        RunStream refused = client.run(SPEC);
        assertThrows(ServerBusy.class, refused::hasNext);
        server.breaks(Status.UNAVAILABLE, Events.started())
                .breaks(Status.UNAVAILABLE)
                .answers(Events.completed(2));
        assertEquals(Events.wholeRun(2), all(client.run(SPEC)));
    }

    @Test
    @DisplayName("A client that must not reconnect throws at the first break")
    void patienceMayBeNone() {
        server.breaks(Status.UNAVAILABLE, Events.started());
        try (RunClient hasty = client(manual.pace(1, Duration.ZERO))) {
            RunStream stream = hasty.run(SPEC);
            assertEquals(Events.started(), stream.next());
            assertEquals(RUN_ID, assertThrows(ConnectionLost.class, stream::next).runId());
        }
    }

    // --- time

    @Test
    @DisplayName("A deadline counts from the verb's call, over all connections")
    void aDeadlineCountsOverAllConnections() throws InterruptedException {
        server.breaks(Status.UNAVAILABLE, Events.started()).answers(Events.completed(2));
        RunStream stream = client.run(SPEC, Duration.ofSeconds(300));
        Duration first = server.awaitCall().left().orElseThrow();
        assertTrue(first.compareTo(Duration.ofSeconds(300)) <= 0, first.toString());
        assertTrue(first.compareTo(Duration.ofSeconds(200)) > 0, first.toString());
        manual.advance(Duration.ofSeconds(200));
        assertEquals(Events.wholeRun(2), all(stream));
        Duration second = server.awaitCall().left().orElseThrow();
        assertTrue(second.compareTo(Duration.ofSeconds(100)) <= 0, second.toString());
    }

    @Test
    @DisplayName("When the caller's time is up, the stream throws")
    void aDeadlineEndsTheStream() {
        server.holds(Events.started());
        RunStream stream = client.watch(RUN_ID, 0, Duration.ofMillis(300));
        assertEquals(RUN_ID, assertThrows(DeadlineExceeded.class, () -> all(stream)).runId());
    }

    @Test
    @DisplayName("A caller without time makes no call")
    void noTimeIsNoCall() {
        assertThrows(DeadlineExceeded.class, () -> client.run(SPEC, Duration.ZERO));
        assertEquals(List.of(), server.names());
    }

    @Test
    @DisplayName("Without a deadline none travels, but a gRPC context's does")
    void theContextsDeadlineHolds() throws Exception {
        server.holds(Events.started());
        client.watch(RUN_ID);
        assertEquals(Optional.empty(), server.awaitCall().left());
        server.holds(Events.started());
        ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
        try (Context.CancellableContext context =
                Context.current().withDeadlineAfter(300, TimeUnit.MILLISECONDS, timer)) {
            RunStream stream = context.call(() -> client.watch(RUN_ID));
            assertThrows(DeadlineExceeded.class, () -> all(stream));
        } finally {
            timer.shutdownNow();
        }
        assertTrue(server.awaitCall().left().isPresent());
    }

    // --- leaving

    @Test
    @DisplayName("Closing the stream ends the call, and asks for no cancel")
    void closingLeaves() throws InterruptedException {
        server.holds(Events.started());
        RunStream stream = client.run(SPEC);
        assertEquals(Events.started(), stream.next());
        stream.close();
        assertEquals("Run", server.left.take());
        assertFalse(stream.hasNext());
        assertEquals(List.of("Run"), server.names());
    }

    @Test
    @DisplayName("Whoever waits for the next event of a stream that is closed sees it end")
    void closingWakesTheReader() throws Exception {
        server.holds(Events.started());
        RunStream stream = client.run(SPEC);
        FutureTask<List<RunEvent>> reading = inThread(() -> all(stream));
        server.awaitCall();
        stream.close();
        assertEquals("Run", server.left.take());
        List<RunEvent> seen = reading.get();
        assertTrue(seen.isEmpty() || seen.equals(List.of(Events.started())), seen.toString());
    }

    @Test
    @DisplayName(
            "A wait for the next connection ends, too, when the stream or its client is closed")
    void closingEndsTheWait() throws Exception {
        for (boolean whole : List.of(false, true)) {
            server.breaks(Status.UNAVAILABLE);
            CountDownLatch waits = new CountDownLatch(1);
            RunClient patient = client(unhurried(waits));
            RunStream stream = patient.watch(RUN_ID);
            FutureTask<Boolean> waiting = inThread(stream::hasNext);
            waits.await();
            if (whole) {
                patient.close();
            } else {
                stream.close();
            }
            assertFalse(waiting.get());
            patient.close();
        }
    }

    @Test
    @DisplayName("Closing the client ends every stream of it in peace")
    void closingTheClientLeaves() throws InterruptedException {
        server.holds(Events.started());
        RunStream stream = client.run(SPEC);
        assertEquals(Events.started(), stream.next());
        client.close();
        assertEquals("Run", server.left.take());
        assertFalse(stream.hasNext());
        assertThrows(IllegalStateException.class, () -> client.run(SPEC));
        assertThrows(IllegalStateException.class, () -> client.waitFor(RUN_ID));
    }

    @Test
    @DisplayName("Interrupting the thread that iterates leaves the stream")
    void interruptingLeaves() throws Exception {
        server.holds(Events.started());
        RunStream stream = client.run(SPEC);
        assertEquals(Events.started(), stream.next());
        Thread.currentThread().interrupt();
        CallFailed left = assertThrows(CallFailed.class, stream::next);
        assertTrue(Thread.interrupted(), "the thread's interrupt stays set");
        assertEquals(Code.CANCELLED, left.code());
        assertEquals("Run", server.left.take());
        assertEquals(List.of("Run"), server.names());
    }

    @Test
    @DisplayName("Interrupting the thread ends its wait for the next connection")
    void interruptingEndsTheWait() throws Exception {
        server.breaks(Status.UNAVAILABLE);
        CountDownLatch waits = new CountDownLatch(1);
        try (RunClient patient = client(unhurried(waits))) {
            RunStream stream = patient.watch(RUN_ID);
            FutureTask<Boolean> waiting = new FutureTask<>(stream::hasNext);
            Thread reader = new Thread(waiting);
            reader.start();
            waits.await();
            reader.interrupt();
            ExecutionException thrown = assertThrows(ExecutionException.class, waiting::get);
            assertEquals(Code.CANCELLED, ((CallFailed) thrown.getCause()).code());
        }
    }

    @Test
    @DisplayName("Cancelling the gRPC context in which it was opened leaves the stream")
    void cancellingTheContextLeaves() throws Exception {
        server.holds(Events.started());
        try (Context.CancellableContext context = Context.current().withCancellation()) {
            RunStream stream = context.call(() -> client.run(SPEC));
            assertEquals(Events.started(), stream.next());
            context.cancel(null);
            assertEquals(Code.CANCELLED, assertThrows(CallFailed.class, stream::next).code());
            assertEquals("Run", server.left.take());
            assertEquals(List.of("Run"), server.names());
        }
    }

    // --- stopping

    @Test
    @DisplayName("A cancel that may overtake its run says so, and a later one does not")
    void cancelMayComeBeforeTheStart() throws InterruptedException {
        CancelRunResponse receipt =
                CancelRunResponse.newBuilder()
                        .setOutcome(CancelOutcome.CANCEL_OUTCOME_RECORDED)
                        .build();
        server.holds(Events.started());
        RunStream stream = client.run(SPEC);
        server.awaitCall();
        server.answers(receipt).answers(receipt);
        assertEquals(receipt, stream.cancel("too late"));
        CancelRunRequest early =
                CancelRunRequest.newBuilder()
                        .setRunId(RUN_ID)
                        .setReason("too late")
                        .setBeforeStart(true)
                        .build();
        assertEquals(early, server.awaitCall().request());
        assertEquals(Events.started(), stream.next());
        CancelRunRequest request =
                CancelRunRequest.newBuilder().setMode(CancelMode.CANCEL_MODE_IMMEDIATE).build();
        stream.cancel(request);
        assertEquals(request.toBuilder().setRunId(RUN_ID).build(), server.awaitCall().request());
    }

    // --- what the tests say in short

    private RunClient client(Pace pace) {
        return client(pace, server.target());
    }

    private static RunClient client(Pace pace, String target) {
        return RunClient.builder().target(target).pace(pace).build();
    }

    /** Waits for a day, and says that it is about to. */
    private static Pace unhurried(CountDownLatch waits) {
        Duration day = Duration.ofDays(1);
        DoubleSupplier whole =
                () -> {
                    waits.countDown();
                    return 1;
                };
        return new Pace(day.multipliedBy(9), day, day, System::nanoTime, whole);
    }

    private static RunEvent[] events(int last) {
        return Events.wholeRun(last).toArray(RunEvent[]::new);
    }

    private static List<RunEvent> all(RunStream stream) {
        List<RunEvent> events = new ArrayList<>();
        for (RunEvent event : stream) {
            events.add(event);
        }
        return events;
    }

    private static WatchRunRequest watch(long after) {
        return WatchRunRequest.newBuilder().setRunId(RUN_ID).setAfterSequence(after).build();
    }

    private static GetRunResponse run(RunState state, long lastSequence) {
        Run run = Run.newBuilder().setState(state).setLastSequence(lastSequence).build();
        return GetRunResponse.newBuilder().setRun(run).build();
    }

    private static <T> FutureTask<T> inThread(Callable<T> work) {
        FutureTask<T> task = new FutureTask<>(work);
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        thread.start();
        return task;
    }
}
