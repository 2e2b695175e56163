// SPDX-License-Identifier: Apache-2.0

// Command images builds the container images that tests run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/waggle-net/waggle/test/images"
)

func main() { os.Exit(run()) }

func run() int {
	dir := flag.String("o", "bin/images", "folder to write the archives into")
	busybox := flag.String("busybox", images.DefaultBusybox, "a busybox that is linked statically")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "images: takes no arguments: %q\n", flag.Args())
		return 2
	}
	if err := images.Build(context.Background(), *dir, *busybox); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		return 1
	}
	return 0
}
