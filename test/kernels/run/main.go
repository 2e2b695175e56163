// SPDX-License-Identifier: Apache-2.0

// Program run boots one test kernel with any static program as its payload:
// a test binary with flags of one's own, or a shell.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/waggle-net/waggle/test/kernels"
)

func main() {
	os.Exit(run())
}

func run() int {
	series := flag.String("kernel", "6.1", "kernel `series` to boot, for example 6.1 or 6.12")
	modules := flag.String("modules", strings.Join(kernels.DatapathModules, ","), "kernel modules to load, separated by commas; ? before a name makes it optional")
	memory := flag.Int("memory", 1024, "guest memory in `MiB`")
	timeout := flag.Duration("timeout", 30*time.Minute, "`time` limit, boot included")
	files := fileFlag{}
	flag.Var(files, "file", "add a file, `guest=host`; may be repeated")
	env := listFlag{}
	flag.Var(&env, "env", "set a variable, `KEY=value`; may be repeated")
	flag.Usage = usage
	flag.Parse()
	if flag.NArg() == 0 {
		usage()
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	kernel, err := kernels.Fetch(ctx, *series)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	guest := &kernels.Guest{
		Kernel: kernel, Payload: flag.Arg(0), Args: flag.Args()[1:], Env: env, Files: files,
		Stdin: os.Stdin, Modules: split(*modules), MemoryMiB: *memory, Timeout: *timeout,
	}
	code, err := guest.Run(ctx, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func usage() {
	fmt.Fprintln(os.Stderr, "Usage: run [flags] PAYLOAD [ARG...]\n\nPAYLOAD is a static program; its exit code becomes this one's.\n\nFlags:")
	flag.PrintDefaults()
}

// split is strings.Split, but nothing is no name rather than an empty one.
func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

type listFlag []string

func (l *listFlag) String() string     { return strings.Join(*l, " ") }
func (l *listFlag) Set(s string) error { *l = append(*l, s); return nil }

type fileFlag map[string]string

func (f fileFlag) String() string { return "" }

func (f fileFlag) Set(s string) error {
	guest, host, ok := strings.Cut(s, "=")
	if !ok {
		return fmt.Errorf("parse %q: want guest=host", s)
	}
	f[guest] = host
	return nil
}
