// SPDX-License-Identifier: Apache-2.0

// Command build builds the container images of the demo.
//
//	go run ./deploy/demo/cmd/build -o bin/images
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/waggle-net/waggle/deploy/demo"
)

func main() { os.Exit(run()) }

func run() int {
	dir := flag.String("o", "bin/images", "folder to write the archives into")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "build: takes no arguments: %q\n", flag.Args())
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if _, err := demo.BuildImages(ctx, *dir, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		return 1
	}
	return 0
}
