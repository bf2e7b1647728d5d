// How patiently a broken stream is taken up again: figures, and where time and chance come from.
// What they are used for is Resume's.
package dev.pullcord;

import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.DoubleSupplier;
import java.util.function.LongSupplier;

/**
 * How a broken stream is taken up again.
 *
 * @param reconnectFor without progress for so long, the client gives up; zero: it never reconnects
 * @param firstDelay the longest wait after the first break; it doubles with each further one
 * @param maxDelay the longest wait of all
 * @param clock nanoseconds that only ever rise, as {@link System#nanoTime}
 * @param random from 0 to 1: waits are between half their length and all of it, so that clients
 *     part ways
 */
public record Pace(
        Duration reconnectFor,
        Duration firstDelay,
        Duration maxDelay,
        LongSupplier clock,
        DoubleSupplier random) {

    /** Waits of 0.1 s to 5 s, for 60 s. */
    public static final Pace DEFAULT =
            new Pace(Duration.ofSeconds(60), Duration.ofMillis(100), Duration.ofSeconds(5));

    /**
     * A pace on the system's clock.
     *
     * @param reconnectFor without progress for so long, the client gives up; zero: it never
     *     reconnects
     * @param firstDelay the longest wait after the first break
     * @param maxDelay the longest wait of all
     */
    public Pace(Duration reconnectFor, Duration firstDelay, Duration maxDelay) {
        this(
                reconnectFor,
                firstDelay,
                maxDelay,
                System::nanoTime,
                () -> ThreadLocalRandom.current().nextDouble());
    }
}
