// A followed list over whole and broken lines, and how it is left.
package dev.pullcord;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.pullcord.PullcordError.CallFailed;
import dev.pullcord.PullcordError.ConnectionLost;
import dev.pullcord.v1.Run;
import dev.pullcord.v1.WatchRunsRequest;
import dev.pullcord.v1.WatchRunsResponse;
import io.grpc.Context;
import io.grpc.Status;
import java.time.Duration;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;

class RunChangesTest {
    private static final WatchRunsRequest REQUEST =
            WatchRunsRequest.newBuilder().setUserId("u").build();
    private static final WatchRunsResponse LIVE =
            place("1").toBuilder().setRun(Run.newBuilder().setRunId("r")).build();

    private final ManualPace manual = new ManualPace();
    private final FakeServer server = new FakeServer();
    private final RunClient client = with(manual.quick());

    @AfterEach
    void close() {
        client.close();
        server.close();
    }

    @Test
    @DisplayName("A list goes on behind its last position, also one that is not shown")
    void aListGoesOnBehindItsPosition() throws InterruptedException {
        WatchRunsResponse caughtUp = place("2").toBuilder().setCaughtUp(true).build();
        WatchRunsResponse missed = place("4").toBuilder().setMissed(true).build();
        server.breaks(Status.UNAVAILABLE, LIVE, caughtUp, place("3"))
                .breaks(Status.CANCELLED)
                .answers(missed)
                .holds(LIVE);
        try (RunChanges changes = client.watchRuns(REQUEST)) {
            assertEquals(LIVE, changes.next());
            assertEquals(caughtUp, changes.next());
            assertEquals(missed, changes.next());
            assertEquals(LIVE, changes.next());
        }
        for (String after : new String[] {"", "3", "3", "4"}) {
            assertEquals(REQUEST.toBuilder().setAfter(after).build(), server.awaitCall().request());
        }
        assertEquals("WatchRuns", server.left.take());
    }

    @Test
    @DisplayName("An error that is no lost connection is the last that a list says")
    void aListEndsWithARefusal() {
        server.breaks(Status.PERMISSION_DENIED, LIVE);
        RunChanges changes = client.watchRuns();
        assertEquals(LIVE, changes.next());
        assertThrows(CallFailed.class, changes::hasNext);
        assertFalse(changes.hasNext());
    }

    @Test
    @DisplayName("A list whose connections bring nothing is given up")
    void aListIsGivenUp() {
        server.breaks(Status.UNAVAILABLE);
        try (RunClient impatient = with(manual.pace(1.0, Duration.ZERO))) {
            assertThrows(ConnectionLost.class, () -> impatient.watchRuns().next());
        }
    }

    @Test
    @DisplayName(
            "A list ends when its context is cancelled, and in peace when its client is closed")
    void aListIsLeft() throws InterruptedException {
        server.holds(LIVE).holds(LIVE);
        try (Context.CancellableContext context = Context.current().withCancellation()) {
            RunChanges changes = context.wrap(() -> client.watchRuns()).call();
            assertEquals(LIVE, changes.next());
            context.cancel(null);
            assertThrows(CallFailed.class, changes::hasNext);
        } catch (Exception failure) {
            throw new AssertionError(failure);
        }
        assertEquals("WatchRuns", server.left.take());
        RunChanges changes = client.watchRuns();
        assertEquals(LIVE, changes.next());
        client.close();
        assertFalse(changes.hasNext());
    }

    private RunClient with(Pace pace) {
        return RunClient.builder().target(server.target()).actor("tester").pace(pace).build();
    }

    private static WatchRunsResponse place(String position) {
        return WatchRunsResponse.newBuilder().setPosition(position).build();
    }
}
