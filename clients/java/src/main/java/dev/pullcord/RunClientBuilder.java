// How a client's line is made: where to, by whom, how it is secured, kept alive and made again.
// What is said on it is RunClient's.
package dev.pullcord;

import io.grpc.ChannelCredentials;
import io.grpc.ConnectivityState;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Supplier;

/** Makes a {@link RunClient}. */
public final class RunClientBuilder {
    private static final int MAX_MESSAGE_BYTES = 64 * 1024 * 1024;
    private static final Duration RECONNECT = Duration.ofSeconds(3);

    private final Metadata metadata = new Metadata();
    private String target = RunClient.DEFAULT_TARGET;
    private ChannelCredentials credentials = InsecureChannelCredentials.create();
    private Optional<String> actor = Optional.empty();
    private Optional<Supplier<String>> token = Optional.empty();
    private Consumer<ManagedChannelBuilder<?>> options = channel -> {};
    private Pace pace = Pace.DEFAULT;
    private Duration keepalive = Duration.ofSeconds(30);
    private Duration keepaliveTimeout = Duration.ofSeconds(10);

    RunClientBuilder() {}

    /** Whom to call, as gRPC takes it. */
    public RunClientBuilder target(String target) {
        this.target = target;
        return this;
    }

    /**
     * How the line is secured, such as by {@link io.grpc.TlsChannelCredentials#create}; without
     * this it is not encrypted.
     */
    public RunClientBuilder credentials(ChannelCredentials credentials) {
        this.credentials = credentials;
        return this;
    }

    /**
     * Sends {@code authorization: Bearer} and this token with every call. The line should be
     * encrypted.
     */
    public RunClientBuilder bearerToken(String token) {
        return bearerToken(() -> token);
    }

    /**
     * The same with a token that is asked for each call, so that one that was renewed is used at
     * once. The provider must be quick: one that asks a network does so by itself, ahead of time.
     */
    public RunClientBuilder bearerToken(Supplier<String> provider) {
        this.token = Optional.of(provider);
        return this;
    }

    /** Sends an entry of metadata with every call; the value is printable ASCII. */
    public RunClientBuilder metadata(String key, String value) {
        metadata.put(Metadata.Key.of(key, Metadata.ASCII_STRING_MARSHALLER), value);
        return this;
    }

    /**
     * Says who asks, as receipts and events will show, in at most 256 characters; without this it
     * is {@code user@host}.
     */
    public RunClientBuilder actor(String actor) {
        this.actor = Optional.of(actor);
        return this;
    }

    /** How a broken stream is taken up again. */
    public RunClientBuilder pace(Pace pace) {
        this.pace = pace;
        return this;
    }

    /**
     * How long a connection may be silent, while a call is open, before it is pinged; without this
     * 30 s. gRPC for Java takes 10 s for what is shorter.
     */
    public RunClientBuilder keepalive(Duration silence) {
        this.keepalive = silence;
        return this;
    }

    /** How long a ping may go unanswered before the connection is lost; without this 10 s. */
    public RunClientBuilder keepaliveTimeout(Duration timeout) {
        this.keepaliveTimeout = timeout;
        return this;
    }

    /** Has the last word on the channel, such as to add interceptors or to set a proxy. */
    public RunClientBuilder options(Consumer<ManagedChannelBuilder<?>> options) {
        this.options = options;
        return this;
    }

    /** Makes the client, which must be closed; it connects at its first call. */
    public RunClient build() {
        Metadata entries = new Metadata();
        entries.merge(metadata);
        actor.ifPresent(name -> entries.discardAll(Actor.KEY));
        if (!entries.containsKey(Actor.KEY)) {
            entries.put(Actor.KEY, Actor.encode(actor.orElseGet(Actor::ofThisProcess)));
        }
        ManagedChannelBuilder<?> builder =
                Grpc.newChannelBuilder(target, credentials)
                        .userAgent("pullcord-java/" + RunClient.VERSION)
                        // A terminal event repeats all of a run's output, a snapshot its input too.
                        .maxInboundMessageSize(MAX_MESSAGE_BYTES)
                        .keepAliveTime(keepalive.toNanos(), TimeUnit.NANOSECONDS)
                        .keepAliveTimeout(keepaliveTimeout.toNanos(), TimeUnit.NANOSECONDS)
                        // A connection that is being made counts as one without calls, and gRPC
                        // for Java waits for a frozen server's first words without an end.
                        .keepAliveWithoutCalls(true)
                        .intercept(MetadataUtils.newAttachHeadersInterceptor(entries));
        token.ifPresent(provider -> builder.intercept(new BearerToken(provider)));
        options.accept(builder);
        ManagedChannel channel = builder.build();
        keepTrying(channel, RECONNECT);
        return new RunClient(channel, pace);
    }

    /**
     * Has a broken line made again soon. Left alone, gRPC for Java comes to wait for two minutes
     * between its attempts, and has no setting for that.
     */
    static void keepTrying(ManagedChannel channel, Duration every) {
        ConnectivityState state = channel.getState(false);
        switch (state) {
            case SHUTDOWN -> {}
            case TRANSIENT_FAILURE ->
                    CompletableFuture.delayedExecutor(every.toNanos(), TimeUnit.NANOSECONDS)
                            .execute(
                                    () -> {
                                        channel.resetConnectBackoff();
                                        keepTrying(channel, every);
                                    });
            default -> channel.notifyWhenStateChanged(state, () -> keepTrying(channel, every));
        }
    }
}
