// A stop button: streams a story, stops it on Enter or after two seconds, and shows what is left of
// it and the receipt. Needs a server: pullcord serve --listen 127.0.0.1:50051

import com.google.protobuf.Timestamp;
import dev.pullcord.RunClient;
import dev.pullcord.RunStream;
import dev.pullcord.v1.CancelRunRequest;
import dev.pullcord.v1.CancelRunResponse;
import dev.pullcord.v1.Cancellation;
import dev.pullcord.v1.RunEvent;
import java.io.IOException;
import java.time.Instant;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** Run it with the server's address, or without, for 127.0.0.1:50051. */
public final class StopButton {
    private static final long PATIENCE_SECONDS = 2;

    private StopButton() {}

    public static void main(String[] args) {
        String target = args.length > 0 ? args[0] : RunClient.DEFAULT_TARGET;
        try (RunClient client = RunClient.builder().target(target).actor("the reader").build();
                RunStream story = client.run("agents/storyteller", "a lighthouse that hums")) {
            CompletableFuture<CancelRunResponse> receipt =
                    pressed().thenApplyAsync(reason -> stop(story, reason));
            for (RunEvent event : story) {
                System.out.print(event.getContentDelta().getText()); // of other events it is empty
                System.out.flush();
            }
            System.out.println();
            show(story.result().orElseThrow(), receipt.join());
        }
    }

    /** Why the button was pressed, once it was. */
    private static CompletableFuture<String> pressed() {
        CompletableFuture<String> button = new CompletableFuture<>();
        if (System.console() != null) {
            System.out.println("Press Enter to stop.");
            Thread keyboard = new Thread(() -> awaitEnter(button));
            keyboard.setDaemon(true);
            keyboard.start();
        }
        return button.completeOnTimeout(
                "two seconds were over", PATIENCE_SECONDS, TimeUnit.SECONDS);
    }

    private static void awaitEnter(CompletableFuture<String> button) {
        try {
            if (System.in.read() >= 0) { // below it, the keyboard has gone
                button.complete("Enter was pressed");
            }
        } catch (IOException closed) {
            button.completeExceptionally(closed);
        }
    }

    private static CancelRunResponse stop(RunStream story, String reason) {
        return story.cancel(
                CancelRunRequest.newBuilder()
                        .setReason(reason)
                        .setWait(com.google.protobuf.Duration.newBuilder().setSeconds(5))
                        .build());
    }

    private static void show(RunEvent end, CancelRunResponse receipt) {
        String kept =
                switch (end.getPayloadCase()) {
                    case RUN_CANCELLED -> end.getRunCancelled().getOutput();
                    case RUN_COMPLETED -> end.getRunCompleted().getOutput();
                    default -> end.getRunFailed().getOutput();
                };
        Cancellation stop = receipt.getRun().getCancellation();
        System.out.printf("%nkept       %d characters%n", kept.length());
        System.out.printf("outcome    %s%n", word(receipt.getOutcome()));
        System.out.printf("cause      %s%n", word(stop.getCause()));
        System.out.printf("actor      %s%n", stop.getActor());
        System.out.printf("reason     %s%n", stop.getReason());
        System.out.printf(
                "accepted   %s%n", time(receipt.hasAcceptTime(), receipt.getAcceptTime()));
        System.out.printf(
                "delivered  %s%n", time(receipt.hasDeliverTime(), receipt.getDeliverTime()));
        System.out.printf("stopped    %s%n", time(receipt.hasStopTime(), receipt.getStopTime()));
    }

    /** An enum's word without the prefix that protobuf asks for. */
    private static String word(Enum<?> value) {
        return value.name().replaceFirst("^CANCEL_(OUTCOME|CAUSE)_", "");
    }

    private static String time(boolean known, Timestamp at) {
        return Optional.of(at)
                .filter(time -> known)
                .map(time -> Instant.ofEpochSecond(time.getSeconds(), time.getNanos()).toString())
                .orElse("never");
    }
}
