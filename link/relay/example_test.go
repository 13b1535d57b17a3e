package relay_test

import (
	"fmt"
	"log"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/relay"
)

// A stack's packets go to Send; the relay's answers come to the function given to
// Start.
func ExampleNew() {
	web, err := relay.ParsePublish("8080:80")
	if err != nil {
		log.Fatal(err)
	}
	r, err := relay.New(relay.Config{Publish: []relay.Publish{web}})
	if err != nil {
		log.Fatal(err) // relay: publish 127.0.0.1:8080/tcp: address already in use
	}
	defer r.Close()
	fmt.Println(r.Addrs(), r.Gateways())
	if err := r.Start(func(pkts []link.Packet) { /* copy them into the stack */ }); err != nil {
		log.Fatal(err)
	}
	if _, err := r.Send([]link.Packet{{Bufs: [][]byte{{0x45}}}}); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%+v\n", r.Stats())
}
