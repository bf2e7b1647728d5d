// The driver by which the conformance suite plays its scenarios with this client: one JSON object a
// line in, one out, as tests/conformance/README.md says. It decides nothing of its own.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log"
	"os"
	"time"

	"google.golang.org/protobuf/proto"

	pullcord "github.com/pullcord/pullcord/clients/go"
	pullcordv1 "github.com/pullcord/pullcord/clients/go/v1"
)

func main() {
	driver := &driver{streams: map[int]*stream{}, lists: map[int]*list{}}
	defer driver.close()
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var asked request
		if err := in.Decode(&asked); err == io.EOF {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		said, err := driver.do(context.Background(), &asked)
		if err != nil {
			said = answer{"error": described(err)}
		}
		if err := out.Encode(said); err != nil {
			log.Fatal(err)
		}
	}
}

// request is all that an op may take; []byte is base64 in JSON.
type request struct {
	Op               string            `json:"op"`
	Target           string            `json:"target"`
	Metadata         map[string]string `json:"metadata"`
	Actor            *string           `json:"actor"`
	Keepalive        float64           `json:"keepalive"`
	KeepaliveTimeout float64           `json:"keepalive_timeout"`
	ReconnectFor     *float64          `json:"reconnect_for"`
	Spec             []byte            `json:"spec"`
	Request          []byte            `json:"request"`
	RunID            string            `json:"run_id"`
	Tenant           string            `json:"tenant"`
	Owner            string            `json:"owner"`
	AfterSequence    int64             `json:"after_sequence"`
	Timeout          *float64          `json:"timeout"`
	Stream           int               `json:"stream"`
}

type answer map[string]any

// list is a list of runs that is followed.
type list struct {
	next  func() (*pullcordv1.WatchRunsResponse, error, bool)
	leave func()
}

type stream struct {
	*pullcord.RunStream
	cancel context.CancelFunc
}

type driver struct {
	client  *pullcord.RunClient
	streams map[int]*stream
	lists   map[int]*list
	opened  int
}

func (d *driver) do(ctx context.Context, asked *request) (answer, error) {
	if d.client == nil && asked.Op != "connect" {
		return nil, errors.New("connect first")
	}
	client := d.client
	if asked.Tenant != "" || asked.Owner != "" {
		client = client.Of(asked.Tenant, asked.Owner)
	}
	switch asked.Op {
	case "connect":
		return d.connect(asked)
	case "run", "watch":
		return d.open(ctx, client, asked)
	case "watch_runs":
		return d.watchRuns(ctx, asked)
	case "next":
		return d.next(asked)
	case "drop":
		if left, ok := d.streams[asked.Stream]; ok {
			left.cancel()
			delete(d.streams, asked.Stream)
		}
		if left, ok := d.lists[asked.Stream]; ok {
			left.leave()
			delete(d.lists, asked.Stream)
		}
		return answer{}, nil
	case "start":
		return ask(ctx, asked.Spec, &pullcordv1.RunSpec{}, d.client.Start)
	case "wait":
		if asked.Timeout == nil {
			return message(client.Wait(ctx, asked.RunID))
		}
		return message(client.WaitFor(ctx, asked.RunID, seconds(*asked.Timeout)))
	case "get":
		return message(client.Get(ctx, asked.RunID))
	case "list":
		return d.list(ctx, asked)
	case "cancel":
		return ask(ctx, asked.Request, &pullcordv1.CancelRunRequest{}, d.client.Cancel)
	case "cancel_many":
		return ask(ctx, asked.Request, &pullcordv1.CancelRunsRequest{}, d.client.CancelMany)
	case "continue_run":
		return ask(ctx, asked.Request, &pullcordv1.ContinueRunRequest{}, d.client.ContinueRun)
	case "erase":
		return ask(ctx, asked.Request, &pullcordv1.EraseRunsRequest{}, d.client.Erase)
	case "runnables":
		return messages(d.client.Runnables(ctx))
	}
	return nil, fmt.Errorf("there is no op %q", asked.Op)
}

func (d *driver) connect(asked *request) (answer, error) {
	var options []pullcord.ClientOption
	for key, value := range asked.Metadata {
		options = append(options, pullcord.WithMetadata(key, value))
	}
	if asked.Actor != nil {
		options = append(options, pullcord.WithActor(*asked.Actor))
	}
	if asked.Keepalive > 0 {
		options = append(options, pullcord.WithKeepalive(seconds(asked.Keepalive), seconds(asked.KeepaliveTimeout)))
	}
	if asked.ReconnectFor != nil {
		// 0 is Go's word for the default, and a negative one for never.
		pace := pullcord.Pace{ReconnectFor: cmp.Or(seconds(*asked.ReconnectFor), -1)}
		options = append(options, pullcord.WithPace(pace))
	}
	d.close()
	client, err := pullcord.NewRunClient(asked.Target, options...)
	if err != nil {
		return nil, err
	}
	d.client = client
	return answer{"language": "go", "version": pullcord.Version}, nil
}

func (d *driver) close() {
	if d.client != nil {
		_ = d.client.Close()
	}
	for number, left := range d.streams {
		left.cancel()
		delete(d.streams, number)
	}
	for number, left := range d.lists {
		left.leave()
		delete(d.lists, number)
	}
}

func (d *driver) open(ctx context.Context, client *pullcord.RunClient, asked *request) (answer, error) {
	spec := &pullcordv1.RunSpec{}
	if err := proto.Unmarshal(asked.Spec, spec); err != nil {
		return nil, err
	}
	opened := &stream{}
	if asked.Timeout != nil {
		ctx, opened.cancel = context.WithTimeout(ctx, seconds(*asked.Timeout))
	} else {
		ctx, opened.cancel = context.WithCancel(ctx)
	}
	if asked.Op == "run" {
		opened.RunStream = client.Run(ctx, spec)
	} else {
		opened.RunStream = client.Watch(ctx, asked.RunID, asked.AfterSequence)
	}
	d.opened++
	d.streams[d.opened] = opened
	return answer{"stream": d.opened, "run_id": opened.RunID}, nil
}

func (d *driver) watchRuns(ctx context.Context, asked *request) (answer, error) {
	request := &pullcordv1.WatchRunsRequest{}
	if err := proto.Unmarshal(asked.Request, request); err != nil {
		return nil, err
	}
	opened := &list{}
	opened.next, opened.leave = iter.Pull2(d.client.WatchRuns(ctx, request))
	d.opened++
	d.lists[d.opened] = opened
	return answer{"stream": d.opened}, nil
}

func (d *driver) next(asked *request) (answer, error) {
	if followed, ok := d.lists[asked.Stream]; ok {
		change, err, ok := followed.next()
		if !ok {
			return answer{"end": true}, nil
		}
		return message(change, err)
	}
	from, ok := d.streams[asked.Stream]
	if !ok {
		return nil, fmt.Errorf("there is no stream %d", asked.Stream)
	}
	event, err := from.Next()
	if errors.Is(err, io.EOF) {
		return answer{"end": true}, nil
	} else if err != nil {
		return nil, err
	}
	said, err := proto.Marshal(event)
	return answer{"event": said, "payload": payloadName(event)}, err
}

func (d *driver) list(ctx context.Context, asked *request) (answer, error) {
	request := &pullcordv1.ListRunsRequest{}
	if err := proto.Unmarshal(asked.Request, request); err != nil {
		return nil, err
	}
	var runs []*pullcordv1.Run
	for run, err := range d.client.List(ctx, request) {
		if err != nil {
			return nil, err
		}
		runs = append(runs, run)
	}
	return messages(runs, nil)
}

// ask does what a verb does that takes one message and answers with one.
func ask[Q, A proto.Message](
	ctx context.Context, data []byte, request Q, verb func(context.Context, Q) (A, error),
) (answer, error) {
	if err := proto.Unmarshal(data, request); err != nil {
		return nil, err
	}
	return message(verb(ctx, request))
}

func message[M proto.Message](said M, err error) (answer, error) {
	if err != nil {
		return nil, err
	}
	data, err := proto.Marshal(said)
	return answer{"message": data}, err
}

func messages[M proto.Message](said []M, err error) (answer, error) {
	all := [][]byte{}
	for _, one := range said {
		data, failed := proto.Marshal(one)
		all, err = append(all, data), errors.Join(err, failed)
	}
	return answer{"messages": all}, err
}

func seconds(number float64) time.Duration {
	return time.Duration(number * float64(time.Second))
}
