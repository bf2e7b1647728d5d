// What a stream that broke does next: which events are new, when to come back, when to give up.
// Nothing here calls a server, sleeps, or reads a clock of its own.
package dev.pullcord;

import dev.pullcord.PullcordError.CallFailed;
import dev.pullcord.PullcordError.ConnectionLost;
import dev.pullcord.PullcordError.CredentialExpired;
import dev.pullcord.PullcordError.DeadlineExceeded;
import dev.pullcord.PullcordError.Draining;
import dev.pullcord.PullcordError.ServerBusy;
import dev.pullcord.PullcordError.StoreUnavailable;
import dev.pullcord.v1.Run;
import dev.pullcord.v1.RunEvent;
import dev.pullcord.v1.RunState;
import io.grpc.Status;
import java.time.Duration;
import java.util.Optional;
import java.util.Set;

/**
 * One stream's place in its run, over as many connections as it takes.
 *
 * <ol>
 *   <li>An event is shown once: what is numbered at most {@code afterSequence} was seen.
 *   <li>A gap alone does not move the place. The snapshot behind it does, so that a line that
 *       breaks between the two loses neither.
 *   <li>A break costs patience, a new event restores it. So does a connection that said something
 *       and lived for {@code maxDelay}, since a run may be silent for longer than that.
 * </ol>
 *
 * <p>The thread that follows the run changes it; any thread may ask where it is.
 */
final class Resume {
    private static final Set<RunState> TERMINAL =
            Set.of(
                    RunState.RUN_STATE_COMPLETED,
                    RunState.RUN_STATE_CANCELLED,
                    RunState.RUN_STATE_FAILED);

    private final String runId;
    private final Pace pace;
    private final Optional<Long> deadline;

    private volatile long afterSequence;
    private volatile boolean begun;
    private volatile boolean ended;
    private volatile Optional<RunEvent> result = Optional.empty();

    private long opened;
    private boolean heard;
    private Optional<Long> lostAt = Optional.empty();
    private int attempts;

    private Resume(String runId, Pace pace, Optional<Duration> timeout, long after, boolean begun) {
        this.runId = runId;
        this.pace = pace;
        this.opened = pace.clock().getAsLong();
        this.deadline = timeout.map(length -> opened + nanos(length));
        this.afterSequence = after;
        this.begun = begun;
    }

    /** The place before the first event of a run that the server may not know yet. */
    static Resume starting(String runId, Pace pace, Optional<Duration> timeout) {
        return new Resume(runId, pace, timeout, 0, false);
    }

    /** The place after an event of a run that the server has. */
    static Resume watching(
            String runId, Pace pace, Optional<Duration> timeout, long afterSequence) {
        return new Resume(runId, pace, timeout, afterSequence, true);
    }

    String runId() {
        return runId;
    }

    /** The number of the last event seen: what to come back with. */
    long afterSequence() {
        return afterSequence;
    }

    /** Whether the server is known to have the run; else it must be asked for again. */
    boolean hasBegun() {
        return begun;
    }

    /** Whether nothing more will come. */
    boolean hasEnded() {
        return ended;
    }

    /** The terminal event, once it was seen. */
    Optional<RunEvent> result() {
        return result;
    }

    /**
     * A connection is about to be made; the time it may take, empty: any.
     *
     * @throws DeadlineExceeded none is left
     */
    Optional<Duration> opening() {
        opened = pace.clock().getAsLong();
        heard = false;
        if (deadline.isPresent() && deadline.get() - opened <= 0) {
            throw new DeadlineExceeded("the call's time was up before the stream was", runId);
        }
        return deadline.map(end -> Duration.ofNanos(end - opened));
    }

    /** Takes note of an event that came; whether it is new to the caller. */
    boolean admit(RunEvent event) {
        heard = true;
        begun = true;
        long sequence = event.getSequence();
        switch (event.getPayloadCase()) {
            case HEARTBEAT -> {
                return true;
            }
            case GAP -> {
                return event.getGap().getLastSequence() > afterSequence;
            }
            case SNAPSHOT -> {
                if (sequence < afterSequence) {
                    return false;
                }
            }
            default -> {
                if (sequence <= afterSequence) {
                    return false;
                }
            }
        }
        afterSequence = sequence;
        bePatientAgain();
        if (isTerminal(event)) {
            result = Optional.of(event);
            ended = true;
        }
        return true;
    }

    /** Takes note that something came which is no event of a run. */
    void progress() {
        heard = true;
        bePatientAgain();
    }

    /** Whether it is the run's own end: with a source it is the end of a run beneath. */
    private static boolean isTerminal(RunEvent event) {
        return switch (event.getPayloadCase()) {
            case RUN_COMPLETED, RUN_CANCELLED, RUN_FAILED -> !event.hasSource();
            default -> false;
        };
    }

    /**
     * Takes note of how the run stands, after a stream that ended in peace but without an end.
     *
     * <p>That is no break where the caller had seen the terminal event before.
     */
    void learn(Run run) {
        if (TERMINAL.contains(run.getState()) && run.getLastSequence() <= afterSequence) {
            ended = true;
        }
    }

    /**
     * The connection has ended before the run did; how long to wait before the next one.
     *
     * @param error why; empty where it ended in peace
     * @throws PullcordError what the caller is to see, where coming back is of no use or patience
     *     is at its end
     */
    Duration lost(Optional<PullcordError> error) {
        if (error.isPresent() && !mayPass(error.get())) {
            throw error.get();
        }
        long now = pace.clock().getAsLong();
        long longest = nanos(pace.maxDelay());
        if (heard && now - opened >= longest) {
            bePatientAgain();
        }
        long since = lostAt.orElse(now);
        lostAt = Optional.of(since);
        long left = since - now + nanos(pace.reconnectFor());
        if (left <= 0) {
            throw lastWords(error);
        }
        double doubled = nanos(pace.firstDelay()) * Math.pow(2, attempts++);
        double delay = Math.min(longest, doubled) * (1 + pace.random().getAsDouble()) / 2;
        delay = Math.max(delay, error.map(Resume::retryAfter).orElse(0L));
        if (deadline.isPresent()) {
            left = Math.min(left, Math.max(0, deadline.get() - now));
        }
        return Duration.ofNanos(Math.min((long) delay, left));
    }

    private void bePatientAgain() {
        lostAt = Optional.empty();
        attempts = 0;
    }

    private boolean mayPass(PullcordError error) {
        if (error instanceof CredentialExpired // the next connection has the token of that time
                || error instanceof Draining
                || error instanceof ServerBusy
                || error instanceof StoreUnavailable) {
            // Said to a new run it is an answer; said to a watcher of a known run it is a delay.
            return begun;
        }
        // A bare CANCELLED that is not ours comes from a server or proxy that shed the call.
        return error instanceof ConnectionLost
                || error instanceof CallFailed && error.code() == Status.Code.CANCELLED;
    }

    private PullcordError lastWords(Optional<PullcordError> error) {
        if (error.isEmpty()) {
            return new ConnectionLost("the stream ended before the run did", runId);
        }
        if (error.get().code() != Status.Code.CANCELLED) {
            return error.get();
        }
        PullcordError last = new ConnectionLost(error.get().getMessage(), runId);
        last.initCause(error.get());
        return last;
    }

    private static long retryAfter(PullcordError error) {
        if (error instanceof ServerBusy busy) {
            return nanos(busy.retryAfter());
        }
        return error instanceof Draining draining ? nanos(draining.retryAfter()) : 0;
    }

    /** A length of time; a century stands for all that is longer and would overflow. */
    private static long nanos(Duration length) {
        Duration century = Duration.ofDays(36_525);
        return (length.compareTo(century) < 0 ? length : century).toNanos();
    }
}
