// The one table of errors: which PullcordError a gRPC status stands for, by its google.rpc details.
// Nothing here calls a server or decides what happens next.
package dev.pullcord;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import dev.pullcord.PullcordError.CallFailed;
import dev.pullcord.PullcordError.ConnectionLost;
import dev.pullcord.PullcordError.CredentialExpired;
import dev.pullcord.PullcordError.DeadlineExceeded;
import dev.pullcord.PullcordError.Draining;
import dev.pullcord.PullcordError.InvalidArgument;
import dev.pullcord.PullcordError.PermissionDenied;
import dev.pullcord.PullcordError.QuotaExceeded;
import dev.pullcord.PullcordError.RunExists;
import dev.pullcord.PullcordError.RunNotFound;
import dev.pullcord.PullcordError.RunNotPaused;
import dev.pullcord.PullcordError.RunnableNotFound;
import dev.pullcord.PullcordError.ServerBusy;
import dev.pullcord.PullcordError.ServerFault;
import dev.pullcord.PullcordError.SessionBusy;
import dev.pullcord.PullcordError.StoreUnavailable;
import dev.pullcord.PullcordError.TooManyAffected;
import dev.pullcord.PullcordError.Unauthenticated;
import dev.pullcord.v1.RunState;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Objects;
import java.util.Optional;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.Stream;

final class ErrorTable {
    static final String DOMAIN = "pullcord";

    /** By the reason that travels: the name in ErrorReason without its prefix. */
    private static final Map<String, Function<Told, PullcordError>> TABLE =
            Map.ofEntries(
                    Map.entry("INVALID_ARGUMENT", ErrorTable::invalidArgument),
                    Map.entry("RUN_NOT_FOUND", t -> new RunNotFound(t.words(), t.get("run_id"))),
                    Map.entry(
                            "RUNNABLE_NOT_FOUND",
                            t -> new RunnableNotFound(t.words(), t.get("runnable"))),
                    Map.entry("RUN_EXISTS", t -> new RunExists(t.words(), t.get("run_id"))),
                    Map.entry("SERVER_BUSY", t -> new ServerBusy(t.words(), t.retryAfter())),
                    Map.entry("DRAINING", t -> new Draining(t.words(), t.retryAfter())),
                    Map.entry("STORE_UNAVAILABLE", t -> new StoreUnavailable(t.words())),
                    Map.entry(
                            "SESSION_BUSY",
                            t -> new SessionBusy(t.words(), t.get("session_id"), t.get("run_id"))),
                    Map.entry(
                            "TOO_MANY_AFFECTED",
                            t ->
                                    new TooManyAffected(
                                            t.words(),
                                            Integer.parseInt(t.get("matched")),
                                            Integer.parseInt(t.get("allowed")))),
                    Map.entry("RUN_NOT_PAUSED", ErrorTable::runNotPaused),
                    Map.entry("UNAUTHENTICATED", t -> new Unauthenticated(t.words())),
                    Map.entry(
                            "PERMISSION_DENIED",
                            t -> new PermissionDenied(t.words(), t.get("verb"))),
                    Map.entry(
                            "QUOTA_EXCEEDED",
                            t -> new QuotaExceeded(t.words(), t.get("quota"), t.retryAfter())),
                    Map.entry(
                            "CREDENTIAL_EXPIRED",
                            t -> new CredentialExpired(t.words(), t.get("run_id"))),
                    Map.entry("INTERNAL", t -> new ServerFault(t.words())));

    private ErrorTable() {}

    /**
     * The error that the server meant, or what is known of a call that failed without words.
     *
     * <p>{@code runId} is the run that the call was about; empty where none is known.
     */
    static PullcordError errorOf(StatusRuntimeException failure, String runId) {
        PullcordError error = hear(failure).orElseGet(() -> unheard(failure.getStatus(), runId));
        error.initCause(failure);
        return error;
    }

    private static PullcordError unheard(Status status, String runId) {
        // gRPC for Java leaves it to the cause to say what "io exception" it was.
        String words =
                Stream.of(status.getDescription(), causeOf(status))
                        .filter(Objects::nonNull)
                        .collect(Collectors.joining(": "));
        return switch (status.getCode()) {
            case DEADLINE_EXCEEDED -> new DeadlineExceeded(words, runId);
            case UNAVAILABLE -> new ConnectionLost(words, runId);
            case INTERNAL, UNKNOWN ->
                    isBrokenStream(words)
                            ? new ConnectionLost(words, runId)
                            : new CallFailed(status.getCode(), words, runId);
            default -> new CallFailed(status.getCode(), words, runId);
        };
    }

    private static String causeOf(Status status) {
        return status.getCause() == null ? null : status.getCause().getMessage();
    }

    /** Whether HTTP/2 ended the call and no application did: gRPC has no code for just that. */
    private static boolean isBrokenStream(String words) {
        return Stream.of("RST_STREAM", "GOAWAY", "Connection reset", "unexpected EOS")
                .anyMatch(words::contains);
    }

    private static Optional<PullcordError> hear(StatusRuntimeException failure) {
        try {
            com.google.rpc.Status status = StatusProto.fromThrowable(failure);
            if (status == null) {
                return Optional.empty();
            }
            ErrorInfo info = detail(status, ErrorInfo.getDefaultInstance());
            Function<Told, PullcordError> row = TABLE.get(info.getReason());
            if (row == null || !info.getDomain().equals(DOMAIN)) {
                return Optional.empty();
            }
            return Optional.of(row.apply(new Told(status, info)));
        } catch (IllegalArgumentException | NoSuchElementException changed) {
            // Somebody on the way rewrote the status, or a newer server tells it in another way.
            return Optional.empty();
        }
    }

    private static PullcordError invalidArgument(Told told) {
        BadRequest request = detail(told.status(), BadRequest.getDefaultInstance());
        return new InvalidArgument(told.words(), request.getFieldViolationsList());
    }

    private static PullcordError runNotPaused(Told told) {
        String name = "RUN_STATE_" + told.get("state");
        RunState state =
                Stream.of(RunState.values())
                        .filter(known -> known.name().equals(name))
                        .findFirst()
                        .orElse(RunState.UNRECOGNIZED);
        boolean repeated = told.info().getMetadataOrDefault("repeated", "").equals("true");
        return new RunNotPaused(told.words(), told.get("run_id"), state, repeated);
    }

    /** The first detail of this type, or the empty one. */
    private static <M extends Message> M detail(com.google.rpc.Status status, M empty) {
        for (Any detail : status.getDetailsList()) {
            if (detail.is(empty.getClass())) {
                try {
                    @SuppressWarnings(
                            "unchecked") // the class of a message is that of its empty one
                    M message = (M) detail.unpack(empty.getClass());
                    return message;
                } catch (InvalidProtocolBufferException garbled) {
                    throw new IllegalArgumentException(garbled);
                }
            }
        }
        return empty;
    }

    /** What a status says of an error. */
    private record Told(com.google.rpc.Status status, ErrorInfo info) {
        String words() {
            return status.getMessage();
        }

        String get(String key) {
            return Optional.ofNullable(info.getMetadataMap().get(key)).orElseThrow();
        }

        Duration retryAfter() {
            RetryInfo retry = detail(status, RetryInfo.getDefaultInstance());
            return retry.hasRetryDelay()
                    ? Duration.ofSeconds(
                            retry.getRetryDelay().getSeconds(), retry.getRetryDelay().getNanos())
                    : Duration.ofSeconds(1);
        }
    }
}
