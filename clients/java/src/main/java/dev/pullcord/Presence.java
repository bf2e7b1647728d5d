// Whether somebody is still there for what is being followed: the caller leaves by closing, by
// interrupting the thread, or by cancelling the gRPC context it came in. Which run it is about is
// not known here.
package dev.pullcord;

import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

final class Presence {
    private final Context.CancellableContext context = Context.current().withCancellation();
    private final CountDownLatch over = new CountDownLatch(1);
    private volatile boolean left;

    Presence() {
        context.addListener(cancelled -> over.countDown(), Runnable::run);
    }

    /** Makes a call that ends when the caller leaves. */
    <T> T call(Supplier<T> call) {
        Context before = context.attach();
        try {
            return call.get();
        } finally {
            context.detach(before);
        }
    }

    /** Waits for so long, or until the caller leaves. */
    void pause(Duration length) {
        try {
            over.await(length.toNanos(), TimeUnit.NANOSECONDS);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    /** Ends the calls that are being made, at once. */
    void leave() {
        left = true;
        context.cancel(null);
    }

    /** Whether somebody has closed what was followed. */
    boolean hasLeft() {
        return left;
    }

    /**
     * Throws the error that a caller gets who left without closing.
     *
     * <p>gRPC leaves the interrupt of a thread set, and so do we.
     */
    void check(String runId) {
        if (Thread.currentThread().isInterrupted()) {
            throw new PullcordError.CallFailed(
                    io.grpc.Status.Code.CANCELLED, "the thread was interrupted", runId);
        }
        if (context.isCancelled() && !left) {
            StatusRuntimeException why = Contexts.statusFromCancelled(context).asRuntimeException();
            throw ErrorTable.errorOf(why, runId);
        }
    }
}
