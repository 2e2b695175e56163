// SPDX-License-Identifier: Apache-2.0

// Report turns what `make bench` has written into Markdown tables, with the
// machine on top:
//
//	go run ./test/bench/report bin/bench.txt
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprintln(stderr, "usage: report FILE (what make bench wrote: bin/bench.txt)")
		return 2
	}
	if err := report(args[0], stdout); err != nil {
		fmt.Fprintln(stderr, "report:", err)
		return 1
	}
	return 0
}

func report(path string, out io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	lines, cpu, err := parse(f)
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		return errors.New("no results in " + path + ": did make bench fail?")
	}
	if _, err := fmt.Fprintln(out, machine(cpu, info.ModTime())); err != nil {
		return err
	}
	return write(out, lines)
}

// machine is this one: report where you measured.
func machine(cpu string, when time.Time) string {
	var u unix.Utsname
	kernel := "unknown"
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	version := "unknown"
	if out, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output(); err == nil {
		version = strings.TrimSpace(string(out))
	}
	return fmt.Sprintf("Version %s on %s: Linux %s, %s, %d processors, %s.",
		version, when.Format(time.DateOnly), kernel, cpu, runtime.NumCPU(), runtime.Version())
}
