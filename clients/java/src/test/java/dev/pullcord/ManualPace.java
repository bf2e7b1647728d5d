// A pace whose clock moves when it is told to, and whose chance is no surprise.
package dev.pullcord;

import java.time.Duration;
import java.util.concurrent.atomic.AtomicLong;

final class ManualPace {
    private final AtomicLong now = new AtomicLong(Long.MAX_VALUE - 1); // nanoTime may overflow

    private int waits;
    private int due;
    private Duration leap = Duration.ZERO;

    /** Moves the clock while a client waits for the so-manieth time. */
    void advanceInWait(int wait, Duration length) {
        due = wait;
        leap = length;
    }

    void advance(Duration length) {
        now.addAndGet(length.toNanos());
    }

    /** The client's own figures, and waits of their whole length. */
    Pace pace() {
        return pace(1.0);
    }

    Pace pace(double random) {
        return pace(random, Pace.DEFAULT.reconnectFor());
    }

    Pace pace(double random, Duration reconnectFor) {
        Pace usual = Pace.DEFAULT;
        return new Pace(reconnectFor, usual.firstDelay(), usual.maxDelay(), now::get, () -> random);
    }

    /** Waits that nobody notices, on the manual clock. */
    Pace quick() {
        return new Pace(
                Pace.DEFAULT.reconnectFor(),
                Duration.ofMillis(1),
                Duration.ofMillis(1),
                now::get,
                () -> {
                    if (++waits == due) {
                        advance(leap);
                    }
                    return 0.5;
                });
    }
}
