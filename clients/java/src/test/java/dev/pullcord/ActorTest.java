// How a caller's name travels.
package dev.pullcord;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ActorTest {
    @ParameterizedTest
    @CsvSource({
        "ann@example.com, ann@example.com",
        "Ann Lee, Ann%20Lee",
        "100%, 100%25",
        "Ægir, %C3%86gir",
        "🚋, %F0%9F%9A%8B",
        "a+b/c~d!, a+b/c~d!",
    })
    @DisplayName("All but printable ASCII is percent-encoded UTF-8")
    void namesTravelAsAscii(String actor, String encoded) {
        assertEquals(encoded, Actor.encode(actor));
    }

    @Test
    @DisplayName("A name is cut after 256 characters, and none of them is cut in two")
    void longNamesAreCut() {
        assertEquals("a".repeat(256), Actor.encode("a".repeat(300)));
        assertEquals("%F0%9F%9A%8B".repeat(256), Actor.encode("🚋".repeat(300)));
    }

    @Test
    @DisplayName("Half a character is sent as a question mark")
    void halfACharacterIsNoFailure() {
        assertEquals("a?", Actor.encode("a\ud83d"));
    }

    @Test
    @DisplayName("A caller who says nothing is the user and host of its process")
    void theProcessHasAName() {
        assertTrue(Actor.ofThisProcess().matches(".+@.+"), Actor.ofThisProcess());
    }
}
