// Which error a status stands for, from real google.rpc details.
package dev.pullcord;

import static dev.pullcord.Events.RUN_ID;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import dev.pullcord.PullcordError.CallFailed;
import dev.pullcord.PullcordError.ConnectionLost;
import dev.pullcord.PullcordError.DeadlineExceeded;
import dev.pullcord.PullcordError.Draining;
import dev.pullcord.PullcordError.InvalidArgument;
import dev.pullcord.PullcordError.RunExists;
import dev.pullcord.PullcordError.RunNotFound;
import dev.pullcord.PullcordError.RunNotPaused;
import dev.pullcord.PullcordError.RunnableNotFound;
import dev.pullcord.PullcordError.ServerBusy;
import dev.pullcord.PullcordError.ServerFault;
import dev.pullcord.PullcordError.SessionBusy;
import dev.pullcord.PullcordError.StoreUnavailable;
import dev.pullcord.PullcordError.TooManyAffected;
import dev.pullcord.v1.ErrorReason;
import dev.pullcord.v1.RunState;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

class ErrorTableTest {
    static Stream<Arguments> rows() {
        Map<String, String> run = Map.of("run_id", "r");
        return Stream.of(
                Arguments.of(
                        "INVALID_ARGUMENT", Code.INVALID_ARGUMENT, Map.of(), InvalidArgument.class),
                Arguments.of("RUN_NOT_FOUND", Code.NOT_FOUND, run, RunNotFound.class),
                Arguments.of(
                        "RUNNABLE_NOT_FOUND",
                        Code.NOT_FOUND,
                        Map.of("runnable", "agents/a"),
                        RunnableNotFound.class),
                Arguments.of("RUN_EXISTS", Code.ALREADY_EXISTS, run, RunExists.class),
                Arguments.of("SERVER_BUSY", Code.RESOURCE_EXHAUSTED, Map.of(), ServerBusy.class),
                Arguments.of("DRAINING", Code.UNAVAILABLE, Map.of(), Draining.class),
                Arguments.of(
                        "STORE_UNAVAILABLE", Code.UNAVAILABLE, Map.of(), StoreUnavailable.class),
                Arguments.of(
                        "UNAUTHENTICATED",
                        Code.UNAUTHENTICATED,
                        Map.of(),
                        PullcordError.Unauthenticated.class),
                Arguments.of(
                        "PERMISSION_DENIED",
                        Code.PERMISSION_DENIED,
                        Map.of("verb", "cancel", "what", "run 'r'"),
                        PullcordError.PermissionDenied.class),
                Arguments.of(
                        "QUOTA_EXCEEDED",
                        Code.RESOURCE_EXHAUSTED,
                        Map.of("quota", "starts_per_minute", "subject", "caller"),
                        PullcordError.QuotaExceeded.class),
                Arguments.of(
                        "CREDENTIAL_EXPIRED",
                        Code.UNAUTHENTICATED,
                        Map.of("run_id", "r"),
                        PullcordError.CredentialExpired.class),
                Arguments.of(
                        "SESSION_BUSY",
                        Code.ABORTED,
                        Map.of("session_id", "s", "run_id", "r"),
                        SessionBusy.class),
                Arguments.of(
                        "TOO_MANY_AFFECTED",
                        Code.FAILED_PRECONDITION,
                        Map.of("matched", "12", "allowed", "10"),
                        TooManyAffected.class),
                Arguments.of(
                        "RUN_NOT_PAUSED",
                        Code.FAILED_PRECONDITION,
                        Map.of("run_id", "r", "state", "COMPLETED"),
                        RunNotPaused.class),
                Arguments.of("INTERNAL", Code.INTERNAL, Map.of(), ServerFault.class));
    }

    @ParameterizedTest
    @MethodSource("rows")
    @DisplayName("Every refusal is thrown as its class, with the status, the words and the run")
    void everyReasonHasAClass(
            String reason, Code code, Map<String, String> metadata, Class<?> expected) {
        StatusRuntimeException refused = refusal(code, info(reason, metadata));
        PullcordError error = ErrorTable.errorOf(refused, "asked");
        assertEquals(expected, error.getClass());
        assertEquals(code, error.code());
        assertEquals("in words", error.getMessage());
        assertEquals(metadata.getOrDefault("run_id", ""), error.runId());
        assertSame(refused, error.getCause());
    }

    @ParameterizedTest
    @EnumSource(
            value = ErrorReason.class,
            mode = EnumSource.Mode.EXCLUDE,
            names = {"ERROR_REASON_UNSPECIFIED", "UNRECOGNIZED"})
    @DisplayName("No reason of the API is unknown to this client")
    void noReasonIsForgotten(ErrorReason reason) {
        String name = reason.name().substring("ERROR_REASON_".length());
        assertTrue(rows().anyMatch(row -> row.get()[0].equals(name)), name);
    }

    @Test
    @DisplayName("An invalid argument names every wrong field")
    void violationsAreTold() {
        BadRequest request =
                BadRequest.newBuilder()
                        .addFieldViolations(violation("spec.runnable", "is required"))
                        .addFieldViolations(violation("", "2 more fields are wrong"))
                        .build();
        InvalidArgument error =
                heard(
                        InvalidArgument.class,
                        refusal(
                                Code.INVALID_ARGUMENT,
                                info("INVALID_ARGUMENT", Map.of()),
                                Any.pack(request)));
        assertEquals(request.getFieldViolationsList(), error.violations());
    }

    @Test
    @DisplayName("A busy or draining server says when to try again; else it is a second")
    void delaysAreTold() {
        Any retry =
                Any.pack(
                        RetryInfo.newBuilder()
                                .setRetryDelay(
                                        com.google.protobuf.Duration.newBuilder()
                                                .setSeconds(2)
                                                .setNanos(500_000_000))
                                .build());
        Any busy = info("SERVER_BUSY", Map.of());
        Any draining = info("DRAINING", Map.of());
        Duration told = Duration.ofMillis(2500);
        Duration usual = Duration.ofSeconds(1);
        Code full = Code.RESOURCE_EXHAUSTED;
        assertEquals(told, heard(ServerBusy.class, refusal(full, busy, retry)).retryAfter());
        assertEquals(usual, heard(ServerBusy.class, refusal(full, busy)).retryAfter());
        Code away = Code.UNAVAILABLE;
        assertEquals(told, heard(Draining.class, refusal(away, draining, retry)).retryAfter());
        assertEquals(usual, heard(Draining.class, refusal(away, draining)).retryAfter());
    }

    @Test
    @DisplayName("What a reason is about comes with it")
    void metadataIsTold() {
        RunnableNotFound missing =
                heard(
                        RunnableNotFound.class,
                        refusal(
                                Code.NOT_FOUND,
                                info("RUNNABLE_NOT_FOUND", Map.of("runnable", "agents/a"))));
        assertEquals("agents/a", missing.runnable());
        SessionBusy busy =
                heard(
                        SessionBusy.class,
                        refusal(
                                Code.ABORTED,
                                info("SESSION_BUSY", Map.of("session_id", "s", "run_id", "r"))));
        assertEquals("s", busy.sessionId());
        TooManyAffected many =
                heard(
                        TooManyAffected.class,
                        refusal(
                                Code.FAILED_PRECONDITION,
                                info(
                                        "TOO_MANY_AFFECTED",
                                        Map.of("matched", "12", "allowed", "10"))));
        assertEquals(12, many.matched());
        assertEquals(10, many.allowed());
    }

    @ParameterizedTest
    @CsvSource({
        "COMPLETED, true, RUN_STATE_COMPLETED, true",
        "CANCELLING, , RUN_STATE_CANCELLING, false",
        "HIBERNATING, false, UNRECOGNIZED, false",
    })
    @DisplayName(
            "A run that is not paused says where it is instead, and whether it was told before")
    void theStateIsTold(String name, String told, RunState state, boolean repeated) {
        Map<String, String> metadata =
                told == null
                        ? Map.of("run_id", "r", "state", name)
                        : Map.of("run_id", "r", "state", name, "repeated", told);
        RunNotPaused error =
                heard(
                        RunNotPaused.class,
                        refusal(Code.FAILED_PRECONDITION, info("RUN_NOT_PAUSED", metadata)));
        assertEquals(state, error.state());
        assertEquals(repeated, error.repeated());
    }

    @ParameterizedTest
    @CsvSource({
        "UNAVAILABLE, gone, ConnectionLost, UNAVAILABLE",
        "DEADLINE_EXCEEDED, late, DeadlineExceeded, DEADLINE_EXCEEDED",
        "INTERNAL, RST_STREAM closed stream, ConnectionLost, UNAVAILABLE",
        "UNKNOWN, Connection reset by peer, ConnectionLost, UNAVAILABLE",
        "INTERNAL, Received unexpected EOS on empty DATA frame, ConnectionLost, UNAVAILABLE",
        "INTERNAL, a bug, CallFailed, INTERNAL",
        "PERMISSION_DENIED, no, CallFailed, PERMISSION_DENIED",
        "CANCELLED, shed, CallFailed, CANCELLED",
    })
    @DisplayName("A status without words of ours is a failed call, a lost line, or time that is up")
    void aBareStatusIsAFailedCall(Code code, String words, String name, Code said) {
        StatusRuntimeException failed =
                Status.fromCode(code).withDescription(words).asRuntimeException();
        CallFailed error = heard(CallFailed.class, failed);
        assertEquals(name, error.getClass().getSimpleName());
        assertEquals(said, error.code());
        assertEquals(said + ": " + words, error.getMessage());
        assertEquals(RUN_ID, error.runId());
    }

    @Test
    @DisplayName("A lost line says what happened to it")
    void theCauseOfALostLineIsTold() {
        Status status =
                Status.UNAVAILABLE
                        .withDescription("io exception")
                        .withCause(new java.net.ConnectException("Connection refused"));
        assertEquals(
                "UNAVAILABLE: io exception: Connection refused",
                heard(ConnectionLost.class, status.asRuntimeException()).getMessage());
    }

    @Test
    @DisplayName("Words that this client does not know leave the status")
    void strangeWordsAreNoReason() {
        Any ours = info("RUN_NOT_FOUND", Map.of("run_id", "r"));
        ErrorInfo elsewhere =
                ErrorInfo.newBuilder()
                        .setReason("RUN_NOT_FOUND")
                        .setDomain("elsewhere")
                        .putMetadata("run_id", "r")
                        .build();
        Any theirs = Any.pack(elsewhere);
        Any garbled =
                ours.toBuilder().setValue(com.google.protobuf.ByteString.fromHex("ff")).build();
        Stream.of(
                        theirs,
                        garbled,
                        info("RUN_NOT_FOUND", Map.of()),
                        info("TOO_MANY_AFFECTED", Map.of("matched", "many", "allowed", "1")),
                        info("NEWER", Map.of()))
                .map(detail -> refusal(Code.NOT_FOUND, detail))
                .forEach(
                        refused -> {
                            PullcordError error = ErrorTable.errorOf(refused, RUN_ID);
                            assertEquals(CallFailed.class, error.getClass());
                            assertEquals(Code.NOT_FOUND, error.code());
                        });
        assertEquals(
                ConnectionLost.class,
                ErrorTable.errorOf(refusal(Code.UNAVAILABLE, info("NEWER", Map.of())), "")
                        .getClass());
    }

    @Test
    @DisplayName("Details that are garbled, or of another status, are not believed")
    void rewrittenDetailsAreNotBelieved() {
        Metadata garbled = new Metadata();
        garbled.put(
                Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER),
                new byte[] {(byte) 0xff});
        Metadata rewritten =
                refusal(Code.NOT_FOUND, info("RUN_NOT_FOUND", Map.of("run_id", "r"))).getTrailers();
        for (Metadata trailers : new Metadata[] {garbled, rewritten}) {
            StatusRuntimeException failed = Status.DEADLINE_EXCEEDED.asRuntimeException(trailers);
            heard(DeadlineExceeded.class, failed);
        }
    }

    static StatusRuntimeException refusal(Code code, Any... details) {
        com.google.rpc.Status.Builder status =
                com.google.rpc.Status.newBuilder().setCode(code.value()).setMessage("in words");
        for (Any detail : details) {
            status.addDetails(detail);
        }
        return StatusProto.toStatusRuntimeException(status.build());
    }

    static Any info(String reason, Map<String, String> metadata) {
        return Any.pack(
                ErrorInfo.newBuilder()
                        .setReason(reason)
                        .setDomain("pullcord")
                        .putAllMetadata(metadata)
                        .build());
    }

    private static <E extends PullcordError> E heard(Class<E> kind, StatusRuntimeException failed) {
        return assertInstanceOf(kind, ErrorTable.errorOf(failed, RUN_ID));
    }

    private static BadRequest.FieldViolation violation(String field, String description) {
        return BadRequest.FieldViolation.newBuilder()
                .setField(field)
                .setDescription(description)
                .build();
    }
}
