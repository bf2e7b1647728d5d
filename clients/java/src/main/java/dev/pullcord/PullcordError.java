// The errors a caller can meet, each saying whose fault it is and what to do next. How a status
// becomes one of them is decided in ErrorTable; a run's own failure is data, and never here.
package dev.pullcord;

import com.google.rpc.BadRequest.FieldViolation;
import dev.pullcord.v1.RunState;
import io.grpc.Status;
import java.time.Duration;
import java.util.List;

/**
 * The root of every refused or failed call.
 *
 * <p>A run that fails is no failed call: its stream ends in peace after {@code run_failed}.
 */
@SuppressWarnings("serial") // thrown and caught in one process, never stored
public abstract sealed class PullcordError extends RuntimeException {
    private final Status.Code code;
    private final String runId;

    private PullcordError(Status.Code code, String message, String runId) {
        super(message);
        this.code = code;
        this.runId = runId;
    }

    /** {@return the gRPC status that the call ended with} */
    public final Status.Code code() {
        return code;
    }

    /** {@return the run that the error is about, by its id; empty where none is known} */
    public final String runId() {
        return runId;
    }

    /** The caller's mistake: {@link #violations} names every wrong field. */
    public static final class InvalidArgument extends PullcordError {
        private final List<FieldViolation> violations;

        InvalidArgument(String message, List<FieldViolation> violations) {
            super(Status.Code.INVALID_ARGUMENT, message, "");
            this.violations = List.copyOf(violations);
        }

        /** {@return every wrong field, by its path in the request, and what is wrong with it} */
        public List<FieldViolation> violations() {
            return violations;
        }
    }

    /** No such run, or it has been forgotten. */
    public static final class RunNotFound extends PullcordError {
        RunNotFound(String message, String runId) {
            super(Status.Code.NOT_FOUND, message, runId);
        }
    }

    /** Nothing of that name is on offer. */
    public static final class RunnableNotFound extends PullcordError {
        private final String runnable;

        RunnableNotFound(String message, String runnable) {
            super(Status.Code.NOT_FOUND, message, "");
            this.runnable = runnable;
        }

        /** {@return the full name that was asked for} */
        public String runnable() {
            return runnable;
        }
    }

    /** The run id belongs to a run with another spec. */
    public static final class RunExists extends PullcordError {
        RunExists(String message, String runId) {
            super(Status.Code.ALREADY_EXISTS, message, runId);
        }
    }

    /** No room for another run. Try again after {@link #retryAfter}. */
    public static final class ServerBusy extends PullcordError {
        private final Duration retryAfter;

        ServerBusy(String message, Duration retryAfter) {
            super(Status.Code.RESOURCE_EXHAUSTED, message, "");
            this.retryAfter = retryAfter;
        }

        /** {@return how long to wait before trying again} */
        public Duration retryAfter() {
            return retryAfter;
        }
    }

    /** The server is stopping. Try another, or again after {@link #retryAfter}. */
    public static final class Draining extends PullcordError {
        private final Duration retryAfter;

        Draining(String message, Duration retryAfter) {
            super(Status.Code.UNAVAILABLE, message, "");
            this.retryAfter = retryAfter;
        }

        /** {@return how long to wait before trying again} */
        public Duration retryAfter() {
            return retryAfter;
        }
    }

    /** The shared store does not answer. Nothing was changed. */
    public static final class StoreUnavailable extends PullcordError {
        StoreUnavailable(String message) {
            super(Status.Code.UNAVAILABLE, message, "");
        }
    }

    /** The session is busy with another run, and the spec said to reject. */
    public static final class SessionBusy extends PullcordError {
        private final String sessionId;

        SessionBusy(String message, String sessionId, String runId) {
            super(Status.Code.ABORTED, message, runId);
            this.sessionId = sessionId;
        }

        /**
         * The busy session; {@link #runId} is the run that it is busy with.
         *
         * @return its id
         */
        public String sessionId() {
            return sessionId;
        }
    }

    /** A filter matches more runs than the caller allowed. Nothing was cancelled. */
    public static final class TooManyAffected extends PullcordError {
        private final int matched;
        private final int allowed;

        TooManyAffected(String message, int matched, int allowed) {
            super(Status.Code.FAILED_PRECONDITION, message, "");
            this.matched = matched;
            this.allowed = allowed;
        }

        /** {@return how many runs the filter matches} */
        public int matched() {
            return matched;
        }

        /** {@return how many the caller allowed} */
        public int allowed() {
            return allowed;
        }
    }

    /** The run does not wait for a decision. Nothing was changed. */
    public static final class RunNotPaused extends PullcordError {
        private final RunState state;
        private final boolean repeated;

        RunNotPaused(String message, String runId, RunState state, boolean repeated) {
            super(Status.Code.FAILED_PRECONDITION, message, runId);
            this.state = state;
            this.repeated = repeated;
        }

        /** {@return where the run is instead; UNRECOGNIZED where this client does not know it} */
        public RunState state() {
            return state;
        }

        /**
         * {@return whether it has gone on by the same decisions, such as when a call is tried
         * again}
         */
        public boolean repeated() {
            return repeated;
        }
    }

    /** The call carries no credential, or one that is not valid. */
    public static final class Unauthenticated extends PullcordError {
        Unauthenticated(String message) {
            super(Status.Code.UNAUTHENTICATED, message, "");
        }
    }

    /** The caller may see this, but not do it. Nothing was changed. */
    public static final class PermissionDenied extends PullcordError {
        private final String verb;

        PermissionDenied(String message, String verb) {
            super(Status.Code.PERMISSION_DENIED, message, "");
            this.verb = verb;
        }

        /** {@return what was asked for, such as {@code cancel}} */
        public String verb() {
            return verb;
        }
    }

    /** The caller, or its tenant, has its share. Try again after {@link #retryAfter}. */
    public static final class QuotaExceeded extends PullcordError {
        private final String quota;
        private final Duration retryAfter;

        QuotaExceeded(String message, String quota, Duration retryAfter) {
            super(Status.Code.RESOURCE_EXHAUSTED, message, "");
            this.quota = quota;
            this.retryAfter = retryAfter;
        }

        /** {@return the name of the quota} */
        public String quota() {
            return quota;
        }

        /** {@return how long to wait before trying again} */
        public Duration retryAfter() {
            return retryAfter;
        }
    }

    /**
     * A stream's credential is not valid any more. The run goes on for its lease: watch it with a
     * fresh one, after the last event seen.
     */
    public static final class CredentialExpired extends PullcordError {
        CredentialExpired(String message, String runId) {
            super(Status.Code.UNAUTHENTICATED, message, runId);
        }
    }

    /** The server's own fault, never the caller's and never the run's. Its log says more. */
    public static final class ServerFault extends PullcordError {
        ServerFault(String message) {
            super(Status.Code.INTERNAL, message, "");
        }
    }

    /** A call that failed on its way, or with words that this client does not know. */
    public static sealed class CallFailed extends PullcordError {
        CallFailed(Status.Code code, String message, String runId) {
            super(code, message.isEmpty() ? code.name() : code + ": " + message, runId);
        }
    }

    /**
     * The server cannot be reached. The run may be at work all the same: watch it, or ask again.
     */
    public static final class ConnectionLost extends CallFailed {
        ConnectionLost(String message, String runId) {
            super(Status.Code.UNAVAILABLE, message, runId);
        }
    }

    /**
     * The caller's own time for the call was up. The run is stopped only where the call says so.
     */
    public static final class DeadlineExceeded extends CallFailed {
        DeadlineExceeded(String message, String runId) {
            super(Status.Code.DEADLINE_EXCEEDED, message, runId);
        }
    }
}
