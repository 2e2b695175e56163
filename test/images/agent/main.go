// SPDX-License-Identifier: Apache-2.0

// Command agent is what tests run in pods to be spoken to. Over IPv4 and IPv6 it
// serves HTTP:
//
//	/           the host name, which is the pod's
//	/client     the address and port that the request came from
//	/env        the environment, a variable a line
//	/healthz    200, or 503 after a POST to it, and the other way around
//	/exit?code= ends the process with this code
//	/who        the agent's name and both addresses of the connection, as JSON
//	/file?path= a file as the agent sees it
//	/ask?kind=&to=&size=  asks another agent: what came of it, as JSON (package talk)
//	/lookup?kind=&name=   asks DNS: host, srv, cname or ptr
//	/flow?kind=&to=       POST starts a flow and tells its number; DELETE /flow?id=
//	            ends it, and tells what became of it
//
// and the health service of gRPC, which says what /healthz says. It echoes what it gets
// over TCP and UDP, and tells who it is over UDP. SIGTERM ends it when the requests under
// way are answered. Without a port it does not listen: -http= turns it off.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

func run() int {
	web := flag.String("http", ":8080", "address and port of HTTP, empty for none")
	tcp := flag.String("tcp", ":9000", "address and port of the TCP echo, empty for none")
	udp := flag.String("udp", ":9000", "address and port of the UDP echo, empty for none")
	who := flag.String("who", ":9001", "address and port of UDP that tells who answers, empty for none")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	var servers []func(context.Context) error
	add := func(address string, serve func(context.Context, string) error) {
		if address != "" {
			servers = append(servers, func(ctx context.Context) error { return serve(ctx, address) })
		}
	}
	h := newHandler(cancel)
	add(*web, h.serve)
	add(*tcp, echoTCP)
	add(*udp, echoUDP)
	add(*who, whoUDP)

	failed := make(chan error, len(servers))
	for _, serve := range servers {
		go func() {
			err := serve(ctx)
			if err != nil {
				cancel(err)
			}
			failed <- err
		}()
	}
	<-ctx.Done()
	var err error
	for range servers {
		err = errors.Join(err, <-failed)
	}
	if exit, ok := errors.AsType[exitError](context.Cause(ctx)); ok {
		return int(exit)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		return 1
	}
	return 0
}

// exitError ends the process with a code that was asked for.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("asked to exit with %d", int(e)) }
