package pullcord

// How a caller says who it is: one metadata entry. Whether an actor is who it says is not decided
// here.

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strings"

	"google.golang.org/grpc/metadata"
)

const (
	actorKey       = "pullcord-actor"
	maxActorLength = 256
)

// ContextWithActor is a context whose calls are made on somebody's behalf, such as a web server's for
// its user: receipts and events then say that actor instead of the client's own.
func ContextWithActor(ctx context.Context, actor string) context.Context {
	sent, _ := metadata.FromOutgoingContext(ctx)
	sent = sent.Copy() // never nil
	sent.Set(actorKey, encodeActor(actor))
	return metadata.NewOutgoingContext(ctx, sent)
}

// encodeActor writes an actor as metadata, which is ASCII: other characters, blanks and the percent
// sign travel percent-encoded.
func encodeActor(actor string) string {
	var said strings.Builder
	for count, char := range []rune(actor) {
		if count == maxActorLength {
			break
		}
		if char > 0x20 && char < 0x7f && char != '%' {
			said.WriteRune(char)
			continue
		}
		for _, octet := range []byte(string(char)) {
			fmt.Fprintf(&said, "%%%02X", octet)
		}
	}
	return said.String()
}

// defaultActor says who runs this process, and where, such as ann@host.
func defaultActor() string {
	name := fmt.Sprintf("uid-%d", os.Getuid()) // a container's user may have no name
	if current, err := user.Current(); err == nil && current.Username != "" {
		name = current.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return name + "@" + host
}
