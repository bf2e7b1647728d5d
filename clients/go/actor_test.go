package pullcord

// How a caller says who it is.

import (
	"context"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"
)

// What is not printable ASCII travels percent-encoded, and at most 256 characters travel.
func TestAnActorTravelsAsASCII(t *testing.T) {
	for actor, want := range map[string]string{
		"ann@example.com":              "ann@example.com",
		"Änne":                         "%C3%84nne",
		"the reader":                   "the%20reader",
		"100%":                         "100%25",
		"a\n\x7f":                      "a%0A%7F",
		"\xff":                         "%EF%BF%BD",
		"":                             "",
		strings.Repeat("x", 300):       strings.Repeat("x", 256),
		strings.Repeat("é", 256) + "!": strings.Repeat("%C3%A9", 256),
	} {
		if got := encodeActor(actor); got != want {
			t.Errorf("%q travels as %q", actor, got)
		}
	}
}

// A context may speak for somebody else; what else it says stays, and the last actor stands.
func TestAContextMaySpeakForSomebody(t *testing.T) {
	outer := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer t")
	inner := ContextWithActor(ContextWithActor(outer, "ann"), "bea é")
	sent, _ := metadata.FromOutgoingContext(inner)
	if len(sent.Get(actorKey)) != 1 || sent.Get(actorKey)[0] != "bea%20%C3%A9" || len(sent.Get("authorization")) != 1 {
		t.Errorf("%v", sent)
	}
	if before, _ := metadata.FromOutgoingContext(outer); len(before.Get(actorKey)) != 0 {
		t.Errorf("the outer context was changed: %v", before)
	}
}

// Without a word from the caller, an actor is who runs the process, and where.
func TestTheDefaultActorIsUserAtHost(t *testing.T) {
	name, host, _ := strings.Cut(defaultActor(), "@")
	if here, err := os.Hostname(); name == "" || err != nil || host != here {
		t.Errorf("%q", defaultActor())
	}
}
