// A real gRPC server on a port of its own, whose every answer the test says beforehand. What it is
// asked is kept, and judged by the test.
package dev.pullcord;

import com.google.protobuf.Message;
import dev.pullcord.v1.CancelRunRequest;
import dev.pullcord.v1.CancelRunResponse;
import dev.pullcord.v1.CancelRunsRequest;
import dev.pullcord.v1.CancelRunsResponse;
import dev.pullcord.v1.ContinueRunRequest;
import dev.pullcord.v1.ContinueRunResponse;
import dev.pullcord.v1.EraseRunsRequest;
import dev.pullcord.v1.EraseRunsResponse;
import dev.pullcord.v1.GetRunRequest;
import dev.pullcord.v1.GetRunResponse;
import dev.pullcord.v1.ListRunnablesRequest;
import dev.pullcord.v1.ListRunnablesResponse;
import dev.pullcord.v1.ListRunsRequest;
import dev.pullcord.v1.ListRunsResponse;
import dev.pullcord.v1.RunEvent;
import dev.pullcord.v1.RunRequest;
import dev.pullcord.v1.RunResponse;
import dev.pullcord.v1.RunServiceGrpc;
import dev.pullcord.v1.StartRunRequest;
import dev.pullcord.v1.StartRunResponse;
import dev.pullcord.v1.WaitRunRequest;
import dev.pullcord.v1.WaitRunResponse;
import dev.pullcord.v1.WatchRunRequest;
import dev.pullcord.v1.WatchRunResponse;
import dev.pullcord.v1.WatchRunsRequest;
import dev.pullcord.v1.WatchRunsResponse;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.stream.Stream;

final class FakeServer extends RunServiceGrpc.RunServiceImplBase implements AutoCloseable {
    private static final Context.Key<Metadata> METADATA = Context.key("metadata");

    /** A call as it came. */
    record Call(Message request, Optional<Duration> left, Metadata metadata) {
        String name() {
            return request.getClass().getSimpleName().replaceFirst("Request$", "");
        }
    }

    /** What one call is answered: messages, and then an end; none: it is held until it is left. */
    private record Answer(List<? extends Message> messages, Optional<StatusRuntimeException> end) {}

    /** The calls that came, and those that the client has left. */
    final BlockingQueue<Call> calls = new LinkedBlockingQueue<>();

    final BlockingQueue<String> left = new LinkedBlockingQueue<>();
    private final BlockingQueue<Answer> answers = new LinkedBlockingQueue<>();
    private final Server server;
    private final int port;

    FakeServer() {
        this(0);
    }

    FakeServer(int port) {
        server =
                NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", port))
                        .addService(this)
                        .intercept(new Reader())
                        .build();
        try {
            server.start();
        } catch (IOException refused) {
            throw new UncheckedIOException(refused);
        }
        this.port = server.getPort();
    }

    int port() {
        return port;
    }

    String target() {
        return "127.0.0.1:" + port;
    }

    /** Cuts every line, and gives the port back. */
    @Override
    public void close() {
        try {
            server.shutdownNow().awaitTermination();
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    // --- what the next call is answered

    FakeServer answers(Message... messages) {
        return then(List.of(messages), Optional.of(Status.OK.asRuntimeException()));
    }

    FakeServer breaks(Status status, Message... messages) {
        return then(List.of(messages), Optional.of(status.asRuntimeException()));
    }

    FakeServer refuses(StatusRuntimeException refusal) {
        return then(List.of(), Optional.of(refusal));
    }

    FakeServer holds(Message... messages) {
        return then(List.of(messages), Optional.empty());
    }

    private FakeServer then(
            List<? extends Message> messages, Optional<StatusRuntimeException> end) {
        answers.add(new Answer(messages, end));
        return this;
    }

    // --- what has come

    Call awaitCall() throws InterruptedException {
        return calls.take();
    }

    List<String> names() {
        return calls.stream().map(Call::name).toList();
    }

    // --- calls

    @Override
    public void run(RunRequest request, StreamObserver<RunResponse> out) {
        stream(request, out, event -> RunResponse.newBuilder().setEvent(event).build());
    }

    @Override
    public void watchRun(WatchRunRequest request, StreamObserver<WatchRunResponse> out) {
        stream(request, out, event -> WatchRunResponse.newBuilder().setEvent(event).build());
    }

    @Override
    public void startRun(StartRunRequest request, StreamObserver<StartRunResponse> out) {
        play(request, out, StartRunResponse.class::cast);
    }

    @Override
    public void waitRun(WaitRunRequest request, StreamObserver<WaitRunResponse> out) {
        play(request, out, WaitRunResponse.class::cast);
    }

    @Override
    public void getRun(GetRunRequest request, StreamObserver<GetRunResponse> out) {
        play(request, out, GetRunResponse.class::cast);
    }

    @Override
    public void listRuns(ListRunsRequest request, StreamObserver<ListRunsResponse> out) {
        play(request, out, ListRunsResponse.class::cast);
    }

    @Override
    public void watchRuns(WatchRunsRequest request, StreamObserver<WatchRunsResponse> out) {
        play(request, out, WatchRunsResponse.class::cast);
    }

    @Override
    public void cancelRun(CancelRunRequest request, StreamObserver<CancelRunResponse> out) {
        play(request, out, CancelRunResponse.class::cast);
    }

    @Override
    public void cancelRuns(CancelRunsRequest request, StreamObserver<CancelRunsResponse> out) {
        play(request, out, CancelRunsResponse.class::cast);
    }

    @Override
    public void eraseRuns(EraseRunsRequest request, StreamObserver<EraseRunsResponse> out) {
        play(request, out, EraseRunsResponse.class::cast);
    }

    @Override
    public void continueRun(ContinueRunRequest request, StreamObserver<ContinueRunResponse> out) {
        play(request, out, ContinueRunResponse.class::cast);
    }

    @Override
    public void listRunnables(
            ListRunnablesRequest request, StreamObserver<ListRunnablesResponse> out) {
        play(request, out, ListRunnablesResponse.class::cast);
    }

    private <T> void stream(
            Message request, StreamObserver<T> out, Function<RunEvent, T> response) {
        play(request, out, message -> response.apply((RunEvent) message));
    }

    private <T> void play(Message request, StreamObserver<T> out, Function<Message, T> response) {
        Optional<Duration> remaining =
                Optional.ofNullable(Context.current().getDeadline())
                        .map(deadline -> deadline.timeRemaining(TimeUnit.NANOSECONDS))
                        .map(Duration::ofNanos);
        Call call = new Call(request, remaining, METADATA.get());
        ((ServerCallStreamObserver<T>) out).setOnCancelHandler(() -> left.add(call.name()));
        Answer answer = answers.poll();
        calls.add(call);
        if (answer == null) {
            out.onError(Status.UNIMPLEMENTED.withDescription("not awaited").asRuntimeException());
            return;
        }
        Stream.of(answer.messages().toArray(Message[]::new)).map(response).forEach(out::onNext);
        answer.end()
                .ifPresent(
                        end -> {
                            if (end.getStatus().isOk()) {
                                out.onCompleted();
                            } else {
                                out.onError(end);
                            }
                        });
    }

    /** Brings a call's metadata to where the call is answered. */
    private static final class Reader implements ServerInterceptor {
        @Override
        public <Q, R> ServerCall.Listener<Q> interceptCall(
                ServerCall<Q, R> call, Metadata metadata, ServerCallHandler<Q, R> next) {
            Context context = Context.current().withValue(METADATA, metadata);
            return Contexts.interceptCall(context, call, metadata, next);
        }
    }
}
