// SPDX-License-Identifier: Apache-2.0

// Program run boots a machine and runs lines of shell in it, those of its
// arguments or else of its standard input.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/waggle-net/waggle/test/machine"
)

func main() {
	os.Exit(run())
}

func run() int {
	opts := machine.Options{Files: fileFlag{}}
	flag.StringVar(&opts.Kernel, "kernel", "6.12", "kernel `series` to boot, for example 6.1 or 6.12")
	flag.IntVar(&opts.MemoryMiB, "memory", 0, "guest memory in `MiB` (default 2048)")
	flag.BoolVar(&opts.Network, "network", false, "give it a network card")
	flag.Var(fileFlag(opts.Files), "file", "add a file or folder, `guest=host`; may be repeated")
	console := flag.Bool("console", false, "show the console on standard error")
	flag.Usage = usage
	flag.Parse()
	if *console {
		opts.Log = os.Stderr
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := runLines(ctx, opts, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func usage() {
	fmt.Fprintln(os.Stderr, "Usage: run [flags] [LINE...]\n\nRuns each LINE with sh in a fresh machine; without any, the lines of standard input.\nThe lines @reboot and @powercut do what they say.\n\nFlags:")
	flag.PrintDefaults()
}

func runLines(ctx context.Context, opts machine.Options, lines []string) error {
	m, err := machine.Start(ctx, opts)
	if err != nil {
		return err
	}
	defer m.Close()
	if len(lines) > 0 {
		for _, line := range lines {
			if err := runLine(ctx, m, line); err != nil {
				return err
			}
		}
		return nil
	}
	in := bufio.NewReader(os.Stdin)
	for {
		fmt.Fprint(os.Stderr, "machine# ")
		line, err := in.ReadString('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := runLine(ctx, m, strings.TrimSpace(line)); err != nil {
			return err
		}
	}
}

// runLine passes on what the line prints. A line that fails says so, and the
// next may follow.
func runLine(ctx context.Context, m *machine.Machine, line string) error {
	switch line {
	case "@reboot":
		return m.Reboot(ctx)
	case "@powercut":
		m.Kill()
		return m.Boot(ctx)
	}
	r, err := m.Run(ctx, "sh", "-c", line)
	if err != nil {
		return err
	}
	fmt.Fprint(os.Stdout, r.Stdout)
	fmt.Fprint(os.Stderr, r.Stderr)
	if r.Code != 0 {
		fmt.Fprintf(os.Stderr, "exit code %d\n", r.Code)
	}
	return nil
}

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
