package main

// What the suite calls the kinds of events and errors, found through their types in Go.

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"

	pullcord "github.com/pullcord/pullcord/clients/go"
	pullcordv1 "github.com/pullcord/pullcord/clients/go/v1"
)

var inner = regexp.MustCompile(`(.)([A-Z])`)

// payloadName is what the proto calls an event's payload: RunEvent_ContentDelta is content_delta.
func payloadName(event *pullcordv1.RunEvent) string {
	_, kind, _ := strings.Cut(fmt.Sprintf("%T", event.GetPayload()), "RunEvent_")
	return strings.ToLower(inner.ReplaceAllString(kind, "${1}_${2}"))
}

// described is an error as the suite reads it. One that is not the client's has no code.
func described(err error) answer {
	var failed pullcord.PullcordError
	if !errors.As(err, &failed) {
		return answer{"kind": fmt.Sprintf("%T", err), "message": err.Error()}
	}
	said := answer{
		"kind":    strings.TrimPrefix(fmt.Sprintf("%T", failed), "*pullcord."),
		"code":    code.Code(failed.Code()).String(),
		"message": failed.Error(),
	}
	if failed.RunID() != "" {
		said["run_id"] = failed.RunID()
	}
	switch failed := failed.(type) {
	case *pullcord.InvalidArgument:
		violations := []answer{}
		for _, v := range failed.Violations {
			violations = append(violations, answer{"field": v.Field, "description": v.Description})
		}
		said["violations"] = violations
	case *pullcord.RunnableNotFound:
		said["runnable"] = failed.Runnable
	case *pullcord.ServerBusy:
		said["retry_after"] = failed.RetryAfter.Seconds()
	case *pullcord.QuotaExceeded:
		said["retry_after"] = failed.RetryAfter.Seconds()
	case *pullcord.Draining:
		said["retry_after"] = failed.RetryAfter.Seconds()
	case *pullcord.SessionBusy:
		said["session_id"] = failed.SessionID
	case *pullcord.TooManyAffected:
		said["matched"], said["allowed"] = failed.Matched, failed.Allowed
	case *pullcord.RunNotPaused:
		said["state"] = strings.TrimPrefix(failed.State.String(), "RUN_STATE_")
	}
	return said
}
