// go get github.com/tmaxmax/go-sse: reads the events and comes back by itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/tmaxmax/go-sse"
)

type stopped struct{ status int }

func (s stopped) Error() string { return fmt.Sprintf("stopped: %d", s.status) }

func main() {
	url := "http://localhost:8080/subscribe?topic=home/%23"
	if len(os.Args) > 1 {
		url = os.Args[1]
	}
	client := sse.Client{
		// 204: another reader has the session. 4xx: the same request would get the same answer.
		ResponseValidator: func(r *http.Response) error {
			if r.StatusCode == http.StatusNoContent || (r.StatusCode >= 400 && r.StatusCode < 500) {
				return stopped{r.StatusCode}
			}
			return sse.DefaultValidator(r)
		},
		Backoff: sse.Backoff{InitialInterval: time.Second, MaxInterval: 5 * time.Second},
	}
	last := ""
	for {
		request, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
		if last != "" {
			request.Header.Set("Last-Event-ID", last)
		}
		connection := client.NewConnection(request)
		// Its lines have at most 64 KB otherwise, and a message of 1 MB ends it with an error.
		connection.Buffer(make([]byte, 0, 64<<10), 8<<20)
		connection.SubscribeToAll(func(event sse.Event) {
			name := event.Type
			if name == "" {
				name = "message"
			}
			if event.LastEventID != "" {
				last = event.LastEventID
			}
			fmt.Println(name, event.Data)
		})
		err := connection.Connect()
		var stop stopped
		if errors.As(err, &stop) {
			fmt.Println(stop)
			return
		}
		// It also returns after a clean end and after an answer that is no stream.
		time.Sleep(time.Second)
	}
}
