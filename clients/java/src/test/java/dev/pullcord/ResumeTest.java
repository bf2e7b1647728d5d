// What a broken stream does next, without any stream.
package dev.pullcord;

import static dev.pullcord.Events.RUN_ID;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.pullcord.PullcordError.CallFailed;
import dev.pullcord.PullcordError.ConnectionLost;
import dev.pullcord.PullcordError.DeadlineExceeded;
import dev.pullcord.PullcordError.Draining;
import dev.pullcord.PullcordError.InvalidArgument;
import dev.pullcord.PullcordError.RunExists;
import dev.pullcord.PullcordError.RunNotFound;
import dev.pullcord.PullcordError.RunnableNotFound;
import dev.pullcord.PullcordError.ServerBusy;
import dev.pullcord.PullcordError.SessionBusy;
import dev.pullcord.PullcordError.StoreUnavailable;
import dev.pullcord.v1.Run;
import dev.pullcord.v1.RunEvent;
import dev.pullcord.v1.RunState;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class ResumeTest {
    private static final Optional<PullcordError> LOST =
            Optional.of(new ConnectionLost("gone", RUN_ID));
    private static final Duration TOLD = Duration.ofSeconds(2);

    private final ManualPace manual = new ManualPace();

    @Test
    @DisplayName("A client waits 0.1 s, twice as long each time up to 5 s, and gives up after 60 s")
    void waitsDoubleUpToABoundAndEnd() {
        List<Duration> waits = waitsUntilItGivesUp(watching(manual.pace(), 0));
        List<Duration> first =
                Stream.of(100, 200, 400, 800, 1600, 3200, 5000, 5000)
                        .map(Duration::ofMillis)
                        .toList();
        assertEquals(first, waits.subList(0, 8));
        assertEquals(Duration.ofSeconds(60), waits.stream().reduce(Duration.ZERO, Duration::plus));
    }

    @Test
    @DisplayName("Clients that lost one server do not come back all at once")
    void waitsAreScatteredOverHalfTheirLength() {
        assertEquals(Duration.ofMillis(50), watching(manual.pace(0.0), 0).lost(LOST));
        assertEquals(Duration.ofMillis(75), watching(manual.pace(0.5), 0).lost(LOST));
    }

    @Test
    @DisplayName("After a new event the first wait is short again, and the 60 s begin anew")
    void aNewEventRestoresPatience() {
        Resume resume = watching(manual.pace(), 0);
        waitsUntilItGivesUp(resume);
        assertTrue(resume.admit(Events.started()));
        assertEquals(Duration.ofMillis(100), resume.lost(LOST));
    }

    @Test
    @DisplayName("A server that repeats itself and breaks is given up, too")
    void anEventSeenBeforeRestoresNoPatience() {
        Resume resume = watching(manual.pace(), 1);
        waitsUntilItGivesUp(resume);
        assertFalse(resume.admit(Events.started()));
        assertThrows(ConnectionLost.class, () -> resume.lost(LOST));
    }

    @Test
    @DisplayName("A silent run whose line is cut again and again, with heartbeats, is followed on")
    void aLineThatLivedIsNoFailure() {
        Resume resume = watching(manual.pace(), 1);
        for (int cut = 0; cut < 20; cut++) {
            resume.opening();
            assertTrue(resume.admit(Events.heartbeat(1)));
            manual.advance(Duration.ofMinutes(10));
            assertEquals(Duration.ofMillis(100), resume.lost(LOST));
        }
    }

    @Test
    @DisplayName("A line that said nothing restores no patience, however long it lived")
    void aLineThatOnlyLivedIsAFailure() {
        Resume resume = watching(manual.pace(), 1);
        resume.lost(LOST);
        resume.opening();
        manual.advance(Duration.ofMinutes(10));
        assertThrows(ConnectionLost.class, () -> resume.lost(LOST));
    }

    @Test
    @DisplayName("With reconnectFor of zero the first break is the last")
    void aClientThatMustNotReconnectDoesNot() {
        Resume resume = watching(manual.pace(1.0, Duration.ZERO), 0);
        assertSame(LOST.get(), assertThrows(ConnectionLost.class, () -> resume.lost(LOST)));
    }

    static Stream<PullcordError> answers() {
        return Stream.of(
                new RunNotFound("no", RUN_ID),
                new RunExists("no", RUN_ID),
                new RunnableNotFound("no", "agents/a"),
                new InvalidArgument("no", List.of()),
                new SessionBusy("no", "session", RUN_ID),
                new DeadlineExceeded("late", RUN_ID),
                new CallFailed(Status.Code.PERMISSION_DENIED, "", RUN_ID),
                new CallFailed(Status.Code.INTERNAL, "", RUN_ID));
    }

    @ParameterizedTest
    @MethodSource("answers")
    @DisplayName("A typed refusal, or the caller's own deadline, is thrown at once")
    void anAnswerIsNotAskedForAgain(PullcordError answer) {
        for (Resume resume : List.of(starting(), watching(manual.pace(), 0))) {
            Optional<PullcordError> error = Optional.of(answer);
            assertSame(answer, assertThrows(PullcordError.class, () -> resume.lost(error)));
        }
    }

    static Stream<PullcordError> delays() {
        return Stream.of(
                new Draining("", TOLD), new ServerBusy("", TOLD), new StoreUnavailable(""));
    }

    @ParameterizedTest
    @MethodSource("delays")
    @DisplayName("A new run is refused at once; a watcher waits as long as it is told, and returns")
    void aServerThatHasNoTimeIsAskedAgainAboutAKnownRun(PullcordError delay) {
        Optional<PullcordError> error = Optional.of(delay);
        assertSame(delay, assertThrows(PullcordError.class, () -> starting().lost(error)));
        Resume watching = watching(manual.pace(), 0);
        boolean isTold = !(delay instanceof StoreUnavailable);
        assertEquals(isTold ? TOLD : Duration.ofMillis(100), watching.lost(error));
        manual.advance(Duration.ofSeconds(60));
        assertSame(delay, assertThrows(PullcordError.class, () -> watching.lost(error)));
    }

    @Test
    @DisplayName("A bare CANCELLED, with which servers and proxies shed calls, is a break")
    void aCallThatWasShedIsMadeAgain() {
        Optional<PullcordError> shed =
                Optional.of(new CallFailed(Status.Code.CANCELLED, "shed", RUN_ID));
        Resume resume = starting();
        assertEquals(Duration.ofMillis(100), resume.lost(shed));
        manual.advance(Duration.ofSeconds(60));
        ConnectionLost last = assertThrows(ConnectionLost.class, () -> resume.lost(shed));
        assertSame(shed.get(), last.getCause());
    }

    @Test
    @DisplayName("A stream that ends in peace again and again, and without an end, is lost")
    void peaceWithoutAnEndIsABreak() {
        Resume resume = watching(manual.pace(), 0);
        assertEquals(Duration.ofMillis(100), resume.lost(Optional.empty()));
        manual.advance(Duration.ofSeconds(60));
        ConnectionLost last =
                assertThrows(ConnectionLost.class, () -> resume.lost(Optional.empty()));
        assertEquals(RUN_ID, last.runId());
    }

    @Test
    @DisplayName("A wait ends with the caller's deadline, and the next connection is not made")
    void nobodyWaitsBeyondTheDeadline() {
        Duration timeout = Duration.ofMillis(250);
        Resume resume = Resume.watching(RUN_ID, manual.pace(), Optional.of(timeout), 0);
        assertEquals(Optional.of(timeout), resume.opening());
        assertEquals(Duration.ofMillis(100), resume.lost(LOST));
        manual.advance(Duration.ofMillis(100));
        assertEquals(Optional.of(Duration.ofMillis(150)), resume.opening());
        assertEquals(Duration.ofMillis(150), resume.lost(LOST));
        manual.advance(Duration.ofMillis(150));
        assertEquals(RUN_ID, assertThrows(DeadlineExceeded.class, resume::opening).runId());
    }

    @Test
    @DisplayName("A time too long to count is as good as none")
    void anEndlessTimeDoesNotOverflow() {
        Optional<Duration> forever = Optional.of(Duration.ofSeconds(Long.MAX_VALUE));
        Resume resume = Resume.starting(RUN_ID, manual.pace(), forever);
        assertTrue(resume.opening().orElseThrow().compareTo(Duration.ofDays(36_000)) > 0);
    }

    @Test
    @DisplayName("Where the line breaks between gap and snapshot, both come again")
    void aGapMovesThePlaceOnlyWithItsSnapshot() {
        Resume resume = watching(manual.pace(), 3);
        assertTrue(resume.admit(Events.gap(4, 9)));
        assertEquals(3, resume.afterSequence());
        assertTrue(resume.admit(Events.gap(4, 9)));
        assertTrue(resume.admit(Events.snapshot(9)));
        assertEquals(9, resume.afterSequence());
        assertFalse(resume.admit(Events.gap(4, 9)));
        assertTrue(resume.admit(Events.snapshot(9)));
        assertFalse(resume.admit(Events.snapshot(8)));
        assertTrue(resume.admit(Events.completed(10)));
        assertTrue(resume.hasEnded());
    }

    @Test
    @DisplayName("A watch from after the terminal event ends without an event")
    void aRunWhoseEndWasSeenHasEnded() {
        Resume resume = watching(manual.pace(), 6);
        resume.learn(run(RunState.RUN_STATE_RUNNING, 6));
        resume.learn(run(RunState.RUN_STATE_COMPLETED, 7));
        assertFalse(resume.hasEnded());
        resume.learn(run(RunState.RUN_STATE_COMPLETED, 6));
        assertTrue(resume.hasEnded());
        assertEquals(Optional.empty(), resume.result());
    }

    @Test
    @DisplayName("A stream goes on after the end of a member or step, which bears a source")
    void theEndOfARunBeneathIsNotTheEnd() {
        Resume resume = watching(manual.pace(), 0);
        assertTrue(resume.admit(Events.completedBeneath(1)));
        assertFalse(resume.hasEnded());
        assertTrue(resume.admit(Events.completed(2)));
        assertTrue(resume.hasEnded());
        assertEquals(Optional.of(Events.completed(2)), resume.result());
    }

    @Test
    @DisplayName("The run is known to the server from its first sign of life on")
    void anyEventSaysThatTheRunHasBegun() {
        Resume resume = starting();
        assertFalse(resume.hasBegun());
        assertTrue(resume.admit(Events.heartbeat(0)));
        assertTrue(resume.hasBegun());
    }

    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3, 4, 5})
    @DisplayName("From any overlapping pieces of a run the caller gets each event once, in order")
    void whateverIsRepeatedIsShownOnce(long seed) {
        Random random = new Random(seed);
        List<RunEvent> events = Events.wholeRun(30);
        Resume resume = starting();
        List<RunEvent> shown = new ArrayList<>();
        while (!resume.hasEnded()) {
            int first = Math.max(0, (int) resume.afterSequence() - random.nextInt(10));
            int last = Math.min(events.size(), first + random.nextInt(12));
            events.subList(first, last).stream().filter(resume::admit).forEach(shown::add);
        }
        assertEquals(events, shown);
    }

    private Resume starting() {
        return Resume.starting(RUN_ID, manual.pace(), Optional.empty());
    }

    private static Resume watching(Pace pace, long afterSequence) {
        return Resume.watching(RUN_ID, pace, Optional.empty(), afterSequence);
    }

    private static Run run(RunState state, long lastSequence) {
        return Run.newBuilder().setState(state).setLastSequence(lastSequence).build();
    }

    private List<Duration> waitsUntilItGivesUp(Resume resume) {
        List<Duration> waits = new ArrayList<>();
        while (true) {
            try {
                waits.add(resume.lost(LOST));
            } catch (ConnectionLost last) {
                return waits;
            }
            manual.advance(waits.get(waits.size() - 1));
            resume.opening();
        }
    }
}
