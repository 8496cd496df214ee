package main

import (
	"log"
	"os"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// Arguments: port, directory, and user name and password where only they may connect.
func main() {
	server := mqtt.New(nil)
	var err error
	if len(os.Args) == 5 {
		accounts := &auth.Ledger{Auth: auth.AuthRules{
			{Username: auth.RString(os.Args[3]), Password: auth.RString(os.Args[4]), Allow: true},
		}}
		err = server.AddHook(new(auth.Hook), &auth.Options{Ledger: accounts})
	} else {
		err = server.AddHook(new(auth.AllowHook), nil)
	}
	if err != nil {
		log.Fatal(err)
	}
	listener := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:" + os.Args[1]})
	if err := server.AddListener(listener); err != nil {
		log.Fatal(err)
	}
	if err := server.Serve(); err != nil {
		log.Fatal(err)
	}
	select {}
}
