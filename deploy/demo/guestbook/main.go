// SPDX-License-Identifier: Apache-2.0

// Command guestbook is a page on which visitors leave entries, kept in Redis. It says
// which replica answered, as the environment tells it: POD_NAME, POD_IPS, NODE_NAME.
// Over IPv4 and IPv6 it serves:
//
//	GET  /             the page
//	POST /             the page's form: name, text
//	GET  /api/entries  the entries as JSON, newest first
//	POST /api/entries  {"name": "...", "text": "..."}
//	GET  /api/whoami   which replica this is, and whom it sees
//	GET  /healthz      200 while the process lives
//	GET  /readyz       200, and 503 after SIGTERM
//
// A replica is ready without Redis: its page says what is wrong, which helps more than
// no page. After SIGTERM it serves on until those who choose replicas have learned of
// it, and then ends the requests under way.
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() { os.Exit(run()) }

func run() int {
	listen := flag.String("listen", ":8080", "address and port of HTTP")
	redis := flag.String("redis", "redis:6379", "host and port of Redis")
	drain := flag.Duration("drain", 5*time.Second, "how long to serve on after SIGTERM, as one who is not ready")
	patience := flag.Duration("patience", 15*time.Second, "how long requests under way may take after that")
	flag.Parse()
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	if flag.NArg() > 0 {
		log.Error("guestbook takes no arguments", "got", flag.Args())
		return 2
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// A second signal ends it at once.
	context.AfterFunc(ctx, stop)

	l, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err != nil {
		log.Error("cannot listen", "err", err)
		return 1
	}
	entries := newStore(*redis)
	self := replica{Pod: os.Getenv("POD_NAME"), Node: os.Getenv("NODE_NAME"), IPs: split(os.Getenv("POD_IPS"))}
	if self.Pod == "" {
		self.Pod, err = os.Hostname()
	}
	log.Info("serving", "address", l.Addr().String(), "redis", *redis, "pod", self.Pod)
	s := &server{handler: newHandler(log, self, entries), log: log, drain: *drain, patience: *patience}
	if err = errors.Join(err, s.serve(ctx, l), entries.Close()); err != nil {
		log.Error("ended", "err", err)
		return 1
	}
	log.Info("ended")
	return 0
}

// split reads a list with commas, which may be empty.
func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}
