// The list of runs as it changes, over many connections. It calls and waits; what a broken line
// means
// is decided in Resume.
package dev.pullcord;

import dev.pullcord.v1.WatchRunsResponse;
import io.grpc.StatusRuntimeException;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.function.Function;

/**
 * Every live run that matches, and then each run that is new, changes or ends, without input and
 * output, over as many connections as it takes.
 *
 * <p>It goes on until it is closed, the thread that iterates is interrupted, or the {@link
 * io.grpc.Context} in which it was opened is cancelled; the runs are not touched by that. It can be
 * iterated once. One thread iterates; {@link #close} may be called from any thread.
 */
public final class RunChanges
        implements Iterable<WatchRunsResponse>, Iterator<WatchRunsResponse>, AutoCloseable {
    private final RunClient client;
    private final Resume resume;
    private final Presence presence;
    private final Function<String, Iterator<WatchRunsResponse>> connect;

    private String position;
    private Optional<Iterator<WatchRunsResponse>> connection = Optional.empty();
    private Optional<WatchRunsResponse> upcoming = Optional.empty();

    /** Connects when it is first asked for a change: {@code connect} takes a position. */
    RunChanges(
            RunClient client,
            Resume resume,
            Presence presence,
            String after,
            Function<String, Iterator<WatchRunsResponse>> connect) {
        this.client = client;
        this.resume = resume;
        this.presence = presence;
        this.position = after;
        this.connect = connect;
    }

    /** Leaves the list; a reader that waits for its next change sees it end. */
    @Override
    public void close() {
        presence.leave();
        client.forget(presence);
    }

    /** {@return these changes, for a {@code for} loop} */
    @Override
    public Iterator<WatchRunsResponse> iterator() {
        return this;
    }

    /**
     * Waits for the next change.
     *
     * @return whether there is one; false: the list was closed
     * @throws PullcordError the list was refused, or the line is lost for good
     */
    @Override
    public boolean hasNext() {
        try {
            while (upcoming.isEmpty() && !presence.hasLeft()) {
                upcoming = receive();
            }
        } catch (RuntimeException | Error failure) {
            close();
            throw failure;
        }
        return upcoming.isPresent();
    }

    /**
     * Waits for the next change.
     *
     * @return the change; its {@code position} is what another list can go on after
     * @throws NoSuchElementException the list was closed
     * @throws PullcordError the list was refused, or the line is lost for good
     */
    @Override
    public WatchRunsResponse next() {
        if (!hasNext()) {
            throw new NoSuchElementException("the list was closed");
        }
        WatchRunsResponse change = upcoming.orElseThrow();
        upcoming = Optional.empty();
        return change;
    }

    /** The next change that says something; empty where something else happened. */
    private Optional<WatchRunsResponse> receive() {
        try {
            Iterator<WatchRunsResponse> changes = connection.orElseGet(this::open);
            connection = Optional.of(changes);
            if (!changes.hasNext()) {
                recover(Optional.empty());
                return Optional.empty();
            }
            WatchRunsResponse change = changes.next();
            resume.progress();
            position = change.getPosition();
            return Optional.of(change).filter(RunChanges::isShown);
        } catch (StatusRuntimeException failure) {
            recover(Optional.of(ErrorTable.errorOf(failure, "")));
            return Optional.empty();
        }
    }

    private static boolean isShown(WatchRunsResponse change) {
        return change.hasRun() || change.getCaughtUp() || change.getMissed();
    }

    private Iterator<WatchRunsResponse> open() {
        resume.opening();
        return presence.call(() -> connect.apply(position));
    }

    /** Waits until it is time for the next connection. Throws what the caller is to see. */
    private void recover(Optional<PullcordError> failure) {
        connection = Optional.empty();
        if (!presence.hasLeft()) {
            presence.check("");
            presence.pause(resume.lost(failure));
        }
    }
}
