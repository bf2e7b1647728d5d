// The verbs, and what every call carries.
package dev.pullcord;

import static dev.pullcord.Events.RUN_ID;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.pullcord.PullcordError.ConnectionLost;
import dev.pullcord.PullcordError.RunNotFound;
import dev.pullcord.PullcordError.RunNotPaused;
import dev.pullcord.PullcordError.StoreUnavailable;
import dev.pullcord.v1.CancelOutcome;
import dev.pullcord.v1.CancelRunRequest;
import dev.pullcord.v1.CancelRunResponse;
import dev.pullcord.v1.CancelRunsRequest;
import dev.pullcord.v1.CancelRunsResponse;
import dev.pullcord.v1.CancelRunsResult;
import dev.pullcord.v1.ContinueRunRequest;
import dev.pullcord.v1.Decision;
import dev.pullcord.v1.EraseRunsRequest;
import dev.pullcord.v1.EraseRunsResponse;
import dev.pullcord.v1.GetRunResponse;
import dev.pullcord.v1.ListRunnablesResponse;
import dev.pullcord.v1.ListRunsRequest;
import dev.pullcord.v1.ListRunsResponse;
import dev.pullcord.v1.Run;
import dev.pullcord.v1.RunSpec;
import dev.pullcord.v1.Runnable;
import dev.pullcord.v1.StartRunRequest;
import dev.pullcord.v1.StartRunResponse;
import dev.pullcord.v1.WaitRunRequest;
import dev.pullcord.v1.WaitRunResponse;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.Status.Code;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;

class RunClientTest {
    private static final Run RUN = Run.newBuilder().setRunId(RUN_ID).build();
    private static final Duration USUAL = Duration.ofSeconds(30);

    private final ManualPace manual = new ManualPace();
    private final FakeServer server = new FakeServer();
    private final RunClient client = builder().pace(manual.quick()).build();

    @AfterEach
    void close() {
        client.close();
        server.close();
    }

    // --- verbs

    @Test
    @DisplayName("A run is given an id before the call, unless it has one")
    void startMintsAnId() throws InterruptedException {
        for (int call = 0; call < 3; call++) {
            server.answers(StartRunResponse.newBuilder().setRun(RUN).build());
        }
        assertEquals(RUN, client.start("agents/counter", "3"));
        client.start("agents/counter", "3");
        RunSpec first = ((StartRunRequest) server.awaitCall().request()).getSpec();
        RunSpec second = ((StartRunRequest) server.awaitCall().request()).getSpec();
        assertEquals(first.getRunId(), UUID.fromString(first.getRunId()).toString());
        assertNotEquals(first.getRunId(), second.getRunId());
        assertEquals("agents/counter", first.getRunnable());
        assertEquals("3", first.getInput());
        RunSpec own = first.toBuilder().setRunId("my-own").build();
        client.start(own);
        assertEquals(own, ((StartRunRequest) server.awaitCall().request()).getSpec());
    }

    @Test
    @DisplayName("Get answers the run, or says that there is none")
    void getAnswersTheRun() {
        server.answers(GetRunResponse.newBuilder().setRun(RUN).build())
                .refuses(
                        ErrorTableTest.refusal(
                                Code.NOT_FOUND,
                                ErrorTableTest.info("RUN_NOT_FOUND", Map.of("run_id", "no"))));
        assertEquals(RUN, client.get(RUN_ID));
        assertEquals("no", assertThrows(RunNotFound.class, () -> client.get("no")).runId());
    }

    @Test
    @DisplayName("Erase says what is gone, and what is live")
    void eraseSaysWhatIsGone() throws InterruptedException {
        EraseRunsResponse erased =
                EraseRunsResponse.newBuilder().setRuns(3).addLiveRunIds("live").build();
        server.answers(erased);
        EraseRunsRequest request =
                EraseRunsRequest.newBuilder().setUserId("ann").setValidateOnly(true).build();
        assertEquals(erased, client.erase(request));
        assertEquals(request, server.awaitCall().request());
    }

    @Test
    @DisplayName("A call that neither follows nor waits is made once")
    void plainCallsAreMadeOnce() {
        server.breaks(Status.UNAVAILABLE);
        assertEquals(RUN_ID, assertThrows(ConnectionLost.class, () -> client.get(RUN_ID)).runId());
        assertEquals(List.of("GetRun"), server.names());
    }

    @Test
    @DisplayName("List goes through all pages, each fetched when it is needed")
    void listGoesThroughAllPages() throws InterruptedException {
        server.answers(page("next", "a", "b")).answers(page("last", "c")).answers(page("", "d"));
        ListRunsRequest request =
                ListRunsRequest.newBuilder().setSessionId("s").setPageSize(2).build();
        Iterator<Run> runs = client.list(request).iterator();
        assertEquals("a", runs.next().getRunId());
        assertEquals(List.of("ListRuns"), server.names());
        assertEquals("b", runs.next().getRunId());
        assertEquals("c", runs.next().getRunId());
        assertEquals("d", runs.next().getRunId());
        assertFalse(runs.hasNext());
        assertEquals(request, server.awaitCall().request());
        assertEquals(
                request.toBuilder().setPageToken("next").build(), server.awaitCall().request());
        assertEquals(
                request.toBuilder().setPageToken("last").build(), server.awaitCall().request());
    }

    @Test
    @DisplayName("An empty list is one empty page")
    void listMayBeEmpty() {
        server.answers(page(""));
        assertEquals(0, client.list().count());
    }

    @Test
    @DisplayName("Runnables are what is on offer")
    void runnablesAreListed() {
        Runnable counter = Runnable.newBuilder().setName("agents/counter").build();
        server.answers(ListRunnablesResponse.newBuilder().addRunnables(counter).build());
        assertEquals(List.of(counter), client.runnables());
    }

    @Test
    @DisplayName("Cancel answers with the receipt, and may wait for it beyond the usual time")
    void cancelAnswersWithTheReceipt() throws InterruptedException {
        CancelRunResponse receipt =
                CancelRunResponse.newBuilder()
                        .setOutcome(CancelOutcome.CANCEL_OUTCOME_STOPPED)
                        .build();
        server.answers(receipt).answers(receipt);
        assertEquals(receipt, client.cancel(RUN_ID, "enough"));
        CancelRunRequest request =
                CancelRunRequest.newBuilder().setRunId(RUN_ID).setReason("enough").build();
        FakeServer.Call plain = server.awaitCall();
        assertEquals(request, plain.request());
        assertAbout(USUAL, plain);
        client.cancel(request.toBuilder().setWait(seconds(100)).build());
        assertAbout(USUAL.plusSeconds(100), server.awaitCall());
    }

    @Test
    @DisplayName("Cancelling by filter answers with a receipt for each run")
    void cancelManyAnswersWithReceipts() throws InterruptedException {
        CancelRunsResponse receipts =
                CancelRunsResponse.newBuilder()
                        .addResults(CancelRunsResult.newBuilder().setRunId("a"))
                        .build();
        server.answers(receipts);
        CancelRunsRequest request = CancelRunsRequest.newBuilder().setSessionId("s").build();
        assertEquals(receipts, client.cancelMany(request));
        assertEquals(request, server.awaitCall().request());
    }

    @Test
    @DisplayName("Of several who decide, all but one are told that the run does not wait")
    void continueRunMayComeTooLate() throws InterruptedException {
        server.refuses(
                ErrorTableTest.refusal(
                        Code.FAILED_PRECONDITION,
                        ErrorTableTest.info(
                                "RUN_NOT_PAUSED", Map.of("run_id", RUN_ID, "state", "RUNNING"))));
        ContinueRunRequest request =
                ContinueRunRequest.newBuilder()
                        .setRunId(RUN_ID)
                        .addDecisions(Decision.newBuilder().setToolCallId("t").setApproved(true))
                        .build();
        assertThrows(RunNotPaused.class, () -> client.continueRun(request));
        assertEquals(request, server.awaitCall().request());
    }

    // --- waiting

    @Test
    @DisplayName("Wait comes back after a break, with the time that is left")
    void waitComesBack() throws InterruptedException {
        manual.advanceInWait(2, Duration.ofSeconds(40));
        server.breaks(Status.UNAVAILABLE)
                .refuses(
                        ErrorTableTest.refusal(
                                Code.UNAVAILABLE,
                                ErrorTableTest.info("STORE_UNAVAILABLE", Map.of())))
                .answers(WaitRunResponse.newBuilder().setRun(RUN).build());
        assertEquals(RUN, client.waitFor(RUN_ID, Duration.ofSeconds(100)));
        FakeServer.Call first = server.awaitCall();
        assertEquals(waiting(100), first.request());
        assertAbout(USUAL.plusSeconds(100), first);
        assertEquals(waiting(100), server.awaitCall().request());
        FakeServer.Call last = server.awaitCall();
        assertEquals(waiting(60), last.request());
        assertAbout(USUAL.plusSeconds(60), last);
    }

    @Test
    @DisplayName("A wait without end has no deadline")
    void waitMayBeEndless() throws InterruptedException {
        server.answers(WaitRunResponse.newBuilder().setRun(RUN).build());
        assertEquals(RUN, client.waitFor(RUN_ID));
        FakeServer.Call call = server.awaitCall();
        assertEquals(WaitRunRequest.newBuilder().setRunId(RUN_ID).build(), call.request());
        assertEquals(Optional.empty(), call.left());
    }

    @Test
    @DisplayName("A store that is away for longer than the client's patience is given up")
    void waitGivesUp() {
        manual.advanceInWait(1, Duration.ofSeconds(61));
        for (int call = 0; call < 2; call++) {
            server.refuses(
                    ErrorTableTest.refusal(
                            Code.UNAVAILABLE, ErrorTableTest.info("STORE_UNAVAILABLE", Map.of())));
        }
        assertThrows(StoreUnavailable.class, () -> client.waitFor(RUN_ID));
        assertEquals(List.of("WaitRun", "WaitRun"), server.names());
    }

    // --- what every call carries

    @Test
    @DisplayName("Every call says who asks, for whom it was made and what the caller adds")
    void callsCarryMetadata() throws InterruptedException {
        try (RunClient told =
                builder().actor("Ægir").metadata("tenant", "a").bearerToken("secret").build()) {
            server.answers(ListRunnablesResponse.getDefaultInstance());
            told.runnables();
        }
        Metadata metadata = server.awaitCall().metadata();
        assertEquals("%C3%86gir", said(metadata, "pullcord-actor"));
        assertEquals("a", said(metadata, "tenant"));
        assertEquals("Bearer secret", said(metadata, "authorization"));
        String agent = said(metadata, "user-agent");
        assertTrue(agent.startsWith("pullcord-java/" + RunClient.VERSION), agent);
    }

    @Test
    @DisplayName("A caller who says nothing is its process; one entry says who asks, never two")
    void theActorIsSaidOnce() throws InterruptedException {
        RunClientBuilder builder = builder();
        for (int client = 0; client < 3; client++) {
            server.answers(ListRunnablesResponse.getDefaultInstance());
        }
        ask(builder);
        ask(builder.metadata("pullcord-actor", "entry"));
        ask(builder.actor("actor"));
        for (String actor : List.of(Actor.encode(Actor.ofThisProcess()), "entry", "actor")) {
            Metadata metadata = server.awaitCall().metadata();
            assertEquals(actor, said(metadata, "pullcord-actor"));
            metadata.remove(Actor.KEY, actor);
            assertFalse(metadata.containsKey(Actor.KEY));
        }
    }

    @Test
    @DisplayName("The caller has the last word on the channel")
    void optionsAreTheCallers() {
        RunClientBuilder small = builder().options(channel -> channel.maxInboundMessageSize(1));
        server.answers(ListRunnablesResponse.newBuilder().addRunnables(big(100)).build());
        PullcordError refused = assertThrows(PullcordError.class, () -> ask(small));
        assertEquals(Code.RESOURCE_EXHAUSTED, refused.code());
    }

    @Test
    @DisplayName("Messages of more than gRPC's usual 4 MiB are taken")
    void largeMessagesAreTaken() {
        Runnable large = big(8 * 1024 * 1024);
        server.answers(ListRunnablesResponse.newBuilder().addRunnables(large).build());
        assertEquals(List.of(large), client.runnables());
    }

    // --- what the tests say in short

    private RunClientBuilder builder() {
        return RunClient.builder().target(server.target());
    }

    private static void ask(RunClientBuilder builder) {
        try (RunClient client = builder.build()) {
            client.runnables();
        }
    }

    private static String said(Metadata metadata, String key) {
        return metadata.get(Metadata.Key.of(key, Metadata.ASCII_STRING_MARSHALLER));
    }

    private static Runnable big(int length) {
        return Runnable.newBuilder().setDescription("a".repeat(length)).build();
    }

    private static ListRunsResponse page(String next, String... ids) {
        ListRunsResponse.Builder page = ListRunsResponse.newBuilder().setNextPageToken(next);
        for (String id : ids) {
            page.addRuns(Run.newBuilder().setRunId(id));
        }
        return page.build();
    }

    private static WaitRunRequest waiting(long timeout) {
        return WaitRunRequest.newBuilder().setRunId(RUN_ID).setTimeout(seconds(timeout)).build();
    }

    private static com.google.protobuf.Duration seconds(long length) {
        return com.google.protobuf.Duration.newBuilder().setSeconds(length).build();
    }

    /** The deadline that travelled, less what the call had taken; no test takes 20 seconds. */
    private static void assertAbout(Duration expected, FakeServer.Call call) {
        Duration left = call.left().orElseThrow();
        assertTrue(left.compareTo(expected) <= 0, left.toString());
        assertTrue(left.compareTo(expected.minusSeconds(20)) > 0, left.toString());
    }
}
