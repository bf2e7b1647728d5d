package pullcord

// Whose run is meant, where a caller may see the runs of several. What is asked about it is in client.go.

import (
	"context"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Of is the same client for the runs of one owner, and of one tenant, for a caller that may see the runs of
// several, which may have the same ids. Empty: the caller's own, else any that it may see. What a request
// says itself stands. It shares the connection; closing it ends its own streams.
func (c *RunClient) Of(tenant, owner string) *RunClient {
	other := *c
	other.whose, other.isShared = whose{tenant, owner}, true
	other.open, other.close = context.WithCancel(c.open)
	return &other
}

// whose says whose run is meant, of several with one id.
type whose struct{ tenant, owner string }

// of is the request with what it does not say itself of whose run is meant, where it can say that.
func of[Request any](said whose, request *Request) *Request {
	message, ok := any(request).(proto.Message)
	if !ok || said == (whose{}) {
		return request
	}
	named := proto.Clone(message)
	fields := named.ProtoReflect().Descriptor().Fields()
	for name, value := range map[protoreflect.Name]string{"tenant": said.tenant, "owner": said.owner} {
		field := fields.ByName(name)
		if field != nil && value != "" && !named.ProtoReflect().Has(field) {
			named.ProtoReflect().Set(field, protoreflect.ValueOfString(value))
		}
	}
	return any(named).(*Request)
}
