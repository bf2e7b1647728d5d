// Does through this client's public face what the conformance suite asks for, one JSON object a
// line:
// see tests/conformance/README.md. What is right or wrong is the suite's to say.
package dev.pullcord.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.MessageLite;
import com.google.protobuf.Parser;
import com.google.rpc.BadRequest.FieldViolation;
import dev.pullcord.Pace;
import dev.pullcord.PullcordError;
import dev.pullcord.RunChanges;
import dev.pullcord.RunClient;
import dev.pullcord.RunClientBuilder;
import dev.pullcord.RunStream;
import dev.pullcord.v1.CancelRunRequest;
import dev.pullcord.v1.CancelRunsRequest;
import dev.pullcord.v1.ContinueRunRequest;
import dev.pullcord.v1.EraseRunsRequest;
import dev.pullcord.v1.ListRunsRequest;
import dev.pullcord.v1.RunEvent;
import dev.pullcord.v1.RunSpec;
import dev.pullcord.v1.WatchRunsRequest;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** The driver: one client, and the streams that are open on it. */
public final class Driver {
    private final Map<Integer, RunStream> streams = new HashMap<>();
    private final Map<Integer, RunChanges> lists = new HashMap<>();
    private RunClient client = RunClient.builder().build();
    private int lastStream;

    private Driver() {}

    public static void main(String[] args) throws IOException {
        BufferedReader in =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        Driver driver = new Driver();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.println(driver.answer(JsonParser.parseString(line).getAsJsonObject()));
        }
        driver.client.close();
    }

    private JsonObject answer(JsonObject request) throws InvalidProtocolBufferException {
        try {
            return perform(request);
        } catch (PullcordError error) {
            return object("error", describe(error));
        }
    }

    private JsonObject perform(JsonObject request) throws InvalidProtocolBufferException {
        String op = request.get("op").getAsString();
        return switch (op) {
            case "connect" -> connect(request);
            case "run" -> opened(client.run(spec(request), time(request, "timeout")));
            case "watch" -> {
                long after = request.has("after_sequence") ? after(request) : 0;
                yield opened(of(request).watch(runId(request), after, time(request, "timeout")));
            }
            case "watch_runs" -> {
                lists.put(
                        ++lastStream,
                        client.watchRuns(message(request, WatchRunsRequest.parser())));
                JsonObject answer = new JsonObject();
                answer.addProperty("stream", lastStream);
                yield answer;
            }
            case "next" ->
                    lists.containsKey(number(request))
                            ? one(lists.get(number(request)).next())
                            : next(stream(request));
            case "drop" -> {
                if (lists.containsKey(number(request))) {
                    lists.remove(number(request)).close();
                } else {
                    stream(request).close();
                }
                yield new JsonObject();
            }
            case "start" -> one(client.start(spec(request)));
            case "wait" -> one(of(request).waitFor(runId(request), time(request, "timeout")));
            case "get" -> one(of(request).get(runId(request)));
            case "list" -> many(client.list(message(request, ListRunsRequest.parser())).toList());
            case "cancel" -> one(client.cancel(message(request, CancelRunRequest.parser())));
            case "cancel_many" ->
                    one(client.cancelMany(message(request, CancelRunsRequest.parser())));
            case "continue_run" ->
                    one(client.continueRun(message(request, ContinueRunRequest.parser())));
            case "erase" -> one(client.erase(message(request, EraseRunsRequest.parser())));
            case "runnables" -> many(client.runnables());
            default -> throw new IllegalArgumentException("unknown op " + op);
        };
    }

    private JsonObject connect(JsonObject request) {
        client.close();
        streams.clear();
        lists.clear();
        RunClientBuilder builder = RunClient.builder().target(request.get("target").getAsString());
        if (request.has("metadata")) {
            Map<String, JsonElement> entries = request.getAsJsonObject("metadata").asMap();
            entries.forEach((key, value) -> builder.metadata(key, value.getAsString()));
        }
        if (request.has("actor")) {
            builder.actor(request.get("actor").getAsString());
        }
        if (request.has("keepalive")) {
            builder.keepalive(time(request, "keepalive"));
            builder.keepaliveTimeout(time(request, "keepalive_timeout"));
        }
        if (request.has("reconnect_for")) {
            Pace usual = Pace.DEFAULT;
            builder.pace(
                    new Pace(time(request, "reconnect_for"), usual.firstDelay(), usual.maxDelay()));
        }
        client = builder.build();
        JsonObject answer = new JsonObject();
        answer.addProperty("language", "java");
        answer.addProperty("version", RunClient.VERSION);
        return answer;
    }

    private JsonObject opened(RunStream stream) {
        streams.put(++lastStream, stream);
        JsonObject answer = new JsonObject();
        answer.addProperty("stream", lastStream);
        answer.addProperty("run_id", stream.runId());
        return answer;
    }

    private static JsonObject next(RunStream stream) {
        JsonObject answer = new JsonObject();
        if (stream.hasNext()) {
            RunEvent event = stream.next();
            answer.addProperty("event", base64(event));
            answer.addProperty("payload", payload(event));
        } else {
            answer.addProperty("end", true);
        }
        return answer;
    }

    /** The payload's name as the proto has it. */
    private static String payload(RunEvent event) {
        return switch (event.getPayloadCase()) {
            case RUN_STARTED -> "run_started";
            case CONTENT_DELTA -> "content_delta";
            case REASONING_DELTA -> "reasoning_delta";
            case TOOL_CALL_STARTED -> "tool_call_started";
            case TOOL_CALL_COMPLETED -> "tool_call_completed";
            case STEP_STARTED -> "step_started";
            case STEP_COMPLETED -> "step_completed";
            case USAGE_UPDATED -> "usage_updated";
            case CANCEL_REQUESTED -> "cancel_requested";
            case RUN_PAUSED -> "run_paused";
            case RUN_CONTINUED -> "run_continued";
            case HEARTBEAT -> "heartbeat";
            case GAP -> "gap";
            case SNAPSHOT -> "snapshot";
            case CUSTOM -> "custom";
            case RUN_COMPLETED -> "run_completed";
            case RUN_CANCELLED -> "run_cancelled";
            case RUN_FAILED -> "run_failed";
            case PROGRESS -> "progress";
            case PAYLOAD_NOT_SET ->
                    throw new IllegalStateException("the client shows no such event");
        };
    }

    private static JsonObject describe(PullcordError error) {
        JsonObject told = new JsonObject();
        told.addProperty("kind", error.getClass().getSimpleName());
        told.addProperty("code", error.code().name());
        told.addProperty("message", error.getMessage());
        if (!error.runId().isEmpty()) {
            told.addProperty("run_id", error.runId());
        }
        if (error instanceof PullcordError.InvalidArgument wrong) {
            JsonArray violations = new JsonArray();
            for (FieldViolation violation : wrong.violations()) {
                JsonObject field = new JsonObject();
                field.addProperty("field", violation.getField());
                field.addProperty("description", violation.getDescription());
                violations.add(field);
            }
            told.add("violations", violations);
        } else if (error instanceof PullcordError.ServerBusy busy) {
            told.addProperty("retry_after", seconds(busy.retryAfter()));
        } else if (error instanceof PullcordError.QuotaExceeded full) {
            told.addProperty("retry_after", seconds(full.retryAfter()));
        } else if (error instanceof PullcordError.Draining draining) {
            told.addProperty("retry_after", seconds(draining.retryAfter()));
        } else if (error instanceof PullcordError.RunnableNotFound missing) {
            told.addProperty("runnable", missing.runnable());
        } else if (error instanceof PullcordError.SessionBusy busy) {
            told.addProperty("session_id", busy.sessionId());
        } else if (error instanceof PullcordError.RunNotPaused going) {
            told.addProperty("state", going.state().name().replaceFirst("^RUN_STATE_", ""));
        } else if (error instanceof PullcordError.TooManyAffected filter) {
            told.addProperty("matched", filter.matched());
            told.addProperty("allowed", filter.allowed());
        }
        return told;
    }

    // --- JSON

    private RunStream stream(JsonObject request) {
        return streams.get(number(request));
    }

    /** The client for the runs of whom a request names. */
    private RunClient of(JsonObject request) {
        return request.has("tenant") || request.has("owner")
                ? client.of(text(request, "tenant"), text(request, "owner"))
                : client;
    }

    private static String text(JsonObject request, String name) {
        return request.has(name) ? request.get(name).getAsString() : "";
    }

    private static int number(JsonObject request) {
        return request.get("stream").getAsInt();
    }

    private static String runId(JsonObject request) {
        return request.get("run_id").getAsString();
    }

    private static long after(JsonObject request) {
        return request.get("after_sequence").getAsLong();
    }

    /** A number of seconds, or null where it is missing. */
    private static Duration time(JsonObject request, String name) {
        JsonElement seconds = request.get(name);
        return seconds == null || seconds.isJsonNull()
                ? null
                : Duration.ofNanos(Math.round(seconds.getAsDouble() * 1e9));
    }

    private static double seconds(Duration length) {
        return length.toNanos() / 1e9;
    }

    private static RunSpec spec(JsonObject request) throws InvalidProtocolBufferException {
        return RunSpec.parseFrom(Base64.getDecoder().decode(request.get("spec").getAsString()));
    }

    private static <M> M message(JsonObject request, Parser<M> parser)
            throws InvalidProtocolBufferException {
        return parser.parseFrom(Base64.getDecoder().decode(request.get("request").getAsString()));
    }

    private static String base64(MessageLite message) {
        return Base64.getEncoder().encodeToString(message.toByteArray());
    }

    private static JsonObject one(MessageLite message) {
        JsonObject answer = new JsonObject();
        answer.addProperty("message", base64(message));
        return answer;
    }

    private static JsonObject many(List<? extends MessageLite> messages) {
        JsonArray encoded = new JsonArray();
        messages.forEach(message -> encoded.add(base64(message)));
        return object("messages", encoded);
    }

    private static JsonObject object(String name, JsonElement value) {
        JsonObject object = new JsonObject();
        object.add(name, value);
        return object;
    }
}
