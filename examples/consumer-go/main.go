// Processes the messages of a durable session, each at least once. Standard library only.
//
//	go run . http://localhost:8080 billing 'orders/#'
//
// If BEARER_TOKEN is set, it is sent with every request.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

type event struct {
	Event string
	ID    string
	Data  struct {
		ID, Topic, Payload, Reason, Session string
		Redelivered                         bool
	}
}

type problem struct {
	Detail    string
	Retryable bool
}

var base, name, filter = os.Args[1], os.Args[2], os.Args[3]

// A heartbeat comes every 15 seconds. If nothing comes for 60 seconds, the connection is dead: reconnect.
const silence = 60 * time.Second

// Put your own code here. If it fails, the message stays unacknowledged and is delivered again.
func process(e event) error {
	again := ""
	if e.Data.Redelivered {
		again = " (again)"
	}
	_, err := fmt.Printf("%s %s%s\n", e.Data.Topic, e.Data.Payload, again)
	return err
}

func send(method, address string, body string, headers map[string]string) (*http.Response, error) {
	request, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if token := os.Getenv("BEARER_TOKEN"); token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for key, value := range headers {
		if value != "" {
			request.Header.Set(key, value)
		}
	}
	return http.DefaultClient.Do(request)
}

// Acknowledges an event. If this fails, reconnecting with its id as Last-Event-ID acknowledges it instead.
func acknowledge(session, id string) error {
	body, _ := json.Marshal(map[string]string{"id": id})
	response, err := send("POST", base+"/sessions/"+session+"/ack", string(body), map[string]string{
		"Content-Type": "application/json",
	})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not acknowledged: %s", response.Status)
	}
	return nil
}

// Reads one stream to its end, and keeps the id of the last event.
func read(last *string) error {
	query := url.Values{"session": {name}, "topic": {filter}, "ack": {"explicit"}}
	response, err := send("GET", base+"/subscribe?"+query.Encode(), "", map[string]string{
		"Accept": "application/x-ndjson", "Last-Event-ID": *last,
	})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusNoContent { // Another reader has the session.
		os.Exit(0)
	}
	if response.StatusCode != http.StatusOK {
		failure := problem{Retryable: true} // An error of a proxy is no problem document.
		if strings.HasPrefix(response.Header.Get("Content-Type"), "application/problem+json") {
			_ = json.NewDecoder(response.Body).Decode(&failure)
		}
		fmt.Fprintln(os.Stderr, response.Status, failure.Detail)
		if !failure.Retryable {
			os.Exit(1)
		}
		return nil
	}
	watchdog := time.AfterFunc(silence, func() { response.Body.Close() })
	defer watchdog.Stop()
	session := ""
	// Not a bufio.Scanner, whose lines have at most 64 KB.
	lines := bufio.NewReader(response.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		watchdog.Reset(silence)
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		switch {
		case e.Event == "session":
			session = e.Data.ID
		case e.Event == "gap":
			fmt.Fprintln(os.Stderr, "messages may be missing:", e.Data.Reason)
		case e.Event == "status" && e.Data.Session != "": // Taken over, or deleted.
			os.Exit(0)
		case e.Event == "message":
			if err := process(e); err != nil {
				return err
			}
		}
		// Also remember the id of the `session` event. A reconnect without any Last-Event-ID would not be told if the
		// broker has lost the session meanwhile, and would take the session from another reader.
		if e.ID != "" {
			*last = e.ID
		}
		if e.Event == "message" {
			if err := acknowledge(session, e.ID); err != nil {
				return err
			}
		}
	}
}

func main() {
	last := ""
	for {
		if err := read(&last); err != nil {
			fmt.Fprintf(os.Stderr, "%v; trying again\n", err)
		}
		time.Sleep(500 * time.Millisecond)
	}
}
