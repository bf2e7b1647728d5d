// The events of one run, over many connections. It calls and waits; what a broken line means is
// decided in Resume.
package dev.pullcord;

import dev.pullcord.v1.CancelRunRequest;
import dev.pullcord.v1.CancelRunResponse;
import dev.pullcord.v1.RunEvent;
import dev.pullcord.v1.RunEvent.PayloadCase;
import io.grpc.StatusRuntimeException;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.function.Function;

/**
 * The events of one run, in order, each once, over as many connections as it takes.
 *
 * <p>It ends after the terminal event, and can be iterated once. Closing it leaves the run to its
 * disconnect policy, and so do interrupting the thread that iterates and cancelling the {@link
 * io.grpc.Context} in which it was opened; {@link #cancel} stops the run. One thread iterates;
 * every other method may be called from any thread.
 */
public final class RunStream implements Iterable<RunEvent>, Iterator<RunEvent>, AutoCloseable {
    private final RunClient client;
    private final Resume resume;
    private final Presence presence;
    private final Function<Resume, Iterator<RunEvent>> connect;

    private volatile boolean heartbeats;
    private Optional<Iterator<RunEvent>> connection;
    private Optional<RunEvent> upcoming = Optional.empty();

    RunStream(
            RunClient client,
            Resume resume,
            Presence presence,
            Function<Resume, Iterator<RunEvent>> connect) {
        this.client = client;
        this.resume = resume;
        this.presence = presence;
        this.connect = connect;
        this.connection = Optional.of(open());
    }

    /**
     * {@return the run that is followed, by its id, which is known before the server has answered}
     */
    public String runId() {
        return resume.runId();
    }

    /** {@return the number of the last event seen: what another watch can go on with} */
    public long afterSequence() {
        return resume.afterSequence();
    }

    /**
     * {@return the terminal event, once it was seen: {@code run_completed}, {@code run_cancelled}
     * or {@code run_failed}}
     */
    public Optional<RunEvent> result() {
        return resume.result();
    }

    /** Shows heartbeats, too, which say that the line is alive. */
    public RunStream withHeartbeats() {
        heartbeats = true;
        return this;
    }

    /** Stops the run, also where it has not begun; its last events then come as usual. */
    public CancelRunResponse cancel(String reason) {
        return cancel(CancelRunRequest.newBuilder().setReason(reason).build());
    }

    /**
     * Stops the run, also where it has not begun; its last events then come as usual. The stream
     * fills in {@code run_id} and {@code before_start}.
     */
    public CancelRunResponse cancel(CancelRunRequest request) {
        return client.cancel(
                request.toBuilder().setRunId(runId()).setBeforeStart(!resume.hasBegun()).build());
    }

    /** Leaves the stream; a reader that waits for its next event sees it end. */
    @Override
    public void close() {
        presence.leave();
        client.forget(presence);
    }

    /** {@return this stream, for a {@code for} loop} */
    @Override
    public Iterator<RunEvent> iterator() {
        return this;
    }

    /**
     * Waits for the next event.
     *
     * @return whether there is one; false: the run has ended, or the stream was closed
     * @throws PullcordError the run was refused, or the line is lost for good
     */
    @Override
    public boolean hasNext() {
        try {
            while (upcoming.isEmpty() && !resume.hasEnded() && !presence.hasLeft()) {
                upcoming = receive();
            }
        } catch (RuntimeException | Error failure) {
            close();
            throw failure;
        }
        if (upcoming.isEmpty()) {
            close(); // not before: a call's status follows its last event, and needs no cancelling
        }
        return upcoming.isPresent();
    }

    /**
     * Waits for the next event.
     *
     * @return the event
     * @throws NoSuchElementException the run has ended, or the stream was closed
     * @throws PullcordError the run was refused, or the line is lost for good
     */
    @Override
    public RunEvent next() {
        if (!hasNext()) {
            throw new NoSuchElementException("the stream of run " + runId() + " has ended");
        }
        RunEvent event = upcoming.orElseThrow();
        upcoming = Optional.empty();
        return event;
    }

    /** The next event that is shown; empty if something else happened. */
    private Optional<RunEvent> receive() {
        Optional<RunEvent> event;
        try {
            Iterator<RunEvent> events = connection.orElseGet(this::open);
            connection = Optional.of(events);
            event = events.hasNext() ? Optional.of(events.next()) : Optional.empty();
        } catch (StatusRuntimeException failure) {
            recover(Optional.of(ErrorTable.errorOf(failure, runId())));
            return Optional.empty();
        }
        if (event.isEmpty()) {
            recover(Optional.empty());
            return Optional.empty();
        }
        return event.filter(resume::admit).filter(this::isShown);
    }

    /** A payload that this client does not know is a newer server's, and skipped. */
    private boolean isShown(RunEvent event) {
        return event.getPayloadCase() != PayloadCase.PAYLOAD_NOT_SET
                && (heartbeats || event.getPayloadCase() != PayloadCase.HEARTBEAT);
    }

    private Iterator<RunEvent> open() {
        return presence.call(() -> connect.apply(resume));
    }

    /** Waits until it is time for the next connection. Throws what the caller is to see. */
    private void recover(Optional<PullcordError> failure) {
        connection = Optional.empty();
        if (presence.hasLeft()) {
            return;
        }
        presence.check(runId());
        Optional<PullcordError> error = failure;
        if (error.isEmpty() && resume.hasBegun()) {
            try {
                resume.learn(presence.call(() -> client.get(runId())));
            } catch (PullcordError failed) {
                error = Optional.of(failed);
            }
        }
        if (!resume.hasEnded() && !presence.hasLeft()) {
            presence.pause(resume.lost(error));
        }
    }
}
