// How a caller says who it is: one metadata entry, which every language writes alike. Whether an
// actor is who it says is not decided here.
package dev.pullcord;

import io.grpc.Metadata;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.charset.StandardCharsets;
import java.util.Optional;

final class Actor {
    static final Metadata.Key<String> KEY =
            Metadata.Key.of("pullcord-actor", Metadata.ASCII_STRING_MARSHALLER);

    private static final int MAX_LENGTH = 256;

    private Actor() {}

    /** Metadata is ASCII and names are not: all but printable ASCII is percent-encoded UTF-8. */
    static String encode(String actor) {
        int length = Math.min(MAX_LENGTH, actor.codePointCount(0, actor.length()));
        String said = actor.substring(0, actor.offsetByCodePoints(0, length));
        StringBuilder encoded = new StringBuilder();
        for (byte octet : said.getBytes(StandardCharsets.UTF_8)) {
            if (octet > ' ' && octet < 0x7f && octet != '%') {
                encoded.append((char) octet);
            } else {
                encoded.append(String.format("%%%02X", octet));
            }
        }
        return encoded.toString();
    }

    /** Who runs this process, and where, such as {@code ann@host}. */
    static String ofThisProcess() {
        return System.getProperty("user.name", "unknown") + "@" + host();
    }

    private static String host() {
        try {
            return InetAddress.getLocalHost().getHostName();
        } catch (UnknownHostException nameless) { // a container's name may be in no table
            return Optional.ofNullable(System.getenv("HOSTNAME")).orElse("localhost");
        }
    }
}
