// How soon a broken line is made again, on a channel whose state the test says.
package dev.pullcord;

import static io.grpc.ConnectivityState.IDLE;
import static io.grpc.ConnectivityState.READY;
import static io.grpc.ConnectivityState.SHUTDOWN;
import static io.grpc.ConnectivityState.TRANSIENT_FAILURE;
import static org.junit.jupiter.api.Assertions.assertEquals;

import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ConnectivityState;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;

class RunClientBuilderTest {
    @Test
    @DisplayName("As long as the line is broken it is tried again and again, until it is closed")
    void aBrokenLineIsTriedAgain() throws InterruptedException {
        Line line = new Line(IDLE, READY, TRANSIENT_FAILURE, TRANSIENT_FAILURE, READY, SHUTDOWN);
        RunClientBuilder.keepTrying(line, Duration.ofNanos(1));
        for (String expected :
                List.of("left IDLE", "left READY", "try", "try", "left READY", "-")) {
            assertEquals(expected, line.seen.take());
        }
    }

    /** A channel that is in one state after the other, each time that it is asked. */
    private static final class Line extends ManagedChannel {
        final BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        private final Queue<ConnectivityState> states;

        Line(ConnectivityState... states) {
            this.states = new ArrayDeque<>(List.of(states));
        }

        @Override
        public ConnectivityState getState(boolean connect) {
            ConnectivityState state = states.remove();
            if (states.isEmpty()) {
                seen.add("-");
            }
            return state;
        }

        @Override
        public void notifyWhenStateChanged(ConnectivityState from, Runnable callback) {
            seen.add("left " + from);
            callback.run();
        }

        @Override
        public void resetConnectBackoff() {
            seen.add("try");
        }

        @Override
        public <Q, R> ClientCall<Q, R> newCall(MethodDescriptor<Q, R> method, CallOptions options) {
            throw new UnsupportedOperationException();
        }

        @Override
        public String authority() {
            return "nowhere";
        }

        @Override
        public ManagedChannel shutdown() {
            return this;
        }

        @Override
        public ManagedChannel shutdownNow() {
            return this;
        }

        @Override
        public boolean isShutdown() {
            return states.isEmpty();
        }

        @Override
        public boolean isTerminated() {
            return states.isEmpty();
        }

        @Override
        public boolean awaitTermination(long timeout, TimeUnit unit) {
            return isTerminated();
        }
    }
}
