// A stop button: a story is streamed to the terminal and stopped with Enter, or after two seconds
// where nobody can press a key. It shows what was kept, and the receipt.
//
//	go run ./examples/stop-button [TARGET]
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	pullcord "github.com/pullcord/pullcord/clients/go"
	pullcordv1 "github.com/pullcord/pullcord/clients/go/v1"
)

func main() {
	if err := tell(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func tell(args []string) error {
	// Ctrl-C leaves the stream, and the run to its disconnect policy: that is not the stop button.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	target := pullcord.DefaultTarget
	if len(args) > 0 {
		target = args[0]
	}
	client, err := pullcord.NewRunClient(target, pullcord.WithActor("the reader"))
	if err != nil {
		return err
	}
	defer client.Close()

	story := client.Run(ctx, &pullcordv1.RunSpec{Runnable: "agents/storyteller", Input: "a lighthouse that hums"})
	button := make(chan string, 1)
	receipts := make(chan *pullcordv1.CancelRunResponse, 1)
	go func() {
		reason := pressed()
		button <- reason
		request := &pullcordv1.CancelRunRequest{Reason: reason, Wait: durationpb.New(5 * time.Second)}
		receipt, err := story.Cancel(ctx, request)
		if err != nil {
			log.Print(err)
		}
		receipts <- receipt
	}()

	for event, err := range story.Events() {
		if errors.Is(err, context.Canceled) {
			fmt.Println("\n\nLeft, without a word to the run.")
			return nil
		} else if err != nil {
			return err
		}
		if delta := event.GetContentDelta(); delta != nil && event.GetSource() == nil {
			fmt.Print(delta.GetText())
		}
	}

	switch end := story.Result().GetPayload().(type) {
	case *pullcordv1.RunEvent_RunCancelled:
		fmt.Printf("\n\nStopped. %d characters of the story are kept.\n", utf8.RuneCountInString(end.RunCancelled.GetOutput()))
		select {
		case <-button:
			show(<-receipts)
		default: // somebody else was faster
			fmt.Println(end.RunCancelled.GetCancellation())
		}
	case *pullcordv1.RunEvent_RunCompleted:
		fmt.Println("\n\nThe story came to its end before anybody stopped it.")
	case *pullcordv1.RunEvent_RunFailed:
		fmt.Printf("\n\nThe run failed: %s\n", end.RunFailed.GetError().GetMessage())
	}
	return nil
}

// pressed waits for Enter, or for two seconds where stdin is no terminal; it returns why.
func pressed() string {
	if info, err := os.Stdin.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Print("(Enter stops the story.)\n\n")
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err == nil {
			return "somebody pressed Enter"
		}
	}
	time.Sleep(2 * time.Second)
	return "two seconds were up"
}

func show(receipt *pullcordv1.CancelRunResponse) {
	if receipt == nil { // the call failed, and said so
		return
	}
	cancellation := receipt.GetRun().GetCancellation()
	accepted := receipt.GetAcceptTime().AsTime()
	fmt.Printf("outcome    %s\n", receipt.GetOutcome())
	fmt.Printf("cause      %s, by %s\n", cancellation.GetCause(), cancellation.GetActor())
	fmt.Printf("reason     %s\n", cancellation.GetReason())
	fmt.Printf("accepted   %s\n", accepted.Local().Format("15:04:05.000"))
	fmt.Printf("delivered  %v later\n", receipt.GetDeliverTime().AsTime().Sub(accepted))
	fmt.Printf("stopped    %v later\n", receipt.GetStopTime().AsTime().Sub(accepted))
}
