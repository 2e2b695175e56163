// SPDX-License-Identifier: Apache-2.0

// Program probe is a payload that ends a guest in each way a payload can.
package main

import (
	"fmt"
	"os"
	"syscall"

	"github.com/waggle-net/waggle/test/kernels/internal/wire"
)

func main() {
	// One of these ways is a crash of the machine: only inside a guest.
	if !wire.InGuest() {
		fmt.Fprintln(os.Stderr, "probe: not inside a test kernel")
		os.Exit(2)
	}
	switch os.Args[1] {
	case "panic":
		if err := os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0); err != nil {
			fmt.Println(err)
		}
	case "hang":
		fmt.Println("waiting forever")
		for {
			syscall.Pause() // select {} would be reported as a deadlock
		}
	case "exit":
		note, err := os.ReadFile(os.Args[2])
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Printf("note=%s PROBE=%s", note, os.Getenv("PROBE")) // no newline
		os.Exit(7)
	}
}
