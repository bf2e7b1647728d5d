// The events of a run as tests need them. They are not sent from here.
package dev.pullcord;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnknownFieldSet;
import dev.pullcord.v1.ContentDelta;
import dev.pullcord.v1.Gap;
import dev.pullcord.v1.Heartbeat;
import dev.pullcord.v1.Run;
import dev.pullcord.v1.RunCompleted;
import dev.pullcord.v1.RunEvent;
import dev.pullcord.v1.RunStarted;
import dev.pullcord.v1.Snapshot;
import dev.pullcord.v1.Source;
import java.util.ArrayList;
import java.util.List;

final class Events {
    static final String RUN_ID = "run-1";

    private Events() {}

    static RunEvent started() {
        return at(1).setRunStarted(RunStarted.newBuilder().setRunnable("agents/counter")).build();
    }

    static RunEvent delta(long sequence) {
        return at(sequence)
                .setContentDelta(ContentDelta.newBuilder().setText(sequence + " "))
                .build();
    }

    static RunEvent heartbeat(long sequence) {
        return at(sequence).setHeartbeat(Heartbeat.getDefaultInstance()).build();
    }

    static RunEvent gap(long first, long last) {
        Gap gap = Gap.newBuilder().setFirstSequence(first).setLastSequence(last).build();
        return at(last).setGap(gap).build();
    }

    static RunEvent snapshot(long sequence) {
        Run run = Run.newBuilder().setRunId(RUN_ID).setOutput("so far").build();
        return at(sequence).setSnapshot(Snapshot.newBuilder().setRun(run)).build();
    }

    static RunEvent completed(long sequence) {
        return at(sequence).setRunCompleted(RunCompleted.newBuilder().setOutput("all")).build();
    }

    /** The end of a run beneath. */
    static RunEvent completedBeneath(long sequence) {
        return completed(sequence).toBuilder()
                .setSource(Source.newBuilder().setId("member"))
                .build();
    }

    /** A payload of a newer server. */
    static RunEvent unknown(long sequence) {
        UnknownFieldSet.Field text =
                UnknownFieldSet.Field.newBuilder()
                        .addLengthDelimited(ByteString.copyFromUtf8("new"))
                        .build();
        return at(sequence)
                .setUnknownFields(UnknownFieldSet.newBuilder().addField(99, text).build())
                .build();
    }

    /** A run that started, wrote, and completed with the event of this number. */
    static List<RunEvent> wholeRun(int last) {
        List<RunEvent> events = new ArrayList<>(List.of(started()));
        for (int sequence = 2; sequence < last; sequence++) {
            events.add(delta(sequence));
        }
        events.add(completed(last));
        return events;
    }

    private static RunEvent.Builder at(long sequence) {
        return RunEvent.newBuilder().setRunId(RUN_ID).setSequence(sequence);
    }
}
