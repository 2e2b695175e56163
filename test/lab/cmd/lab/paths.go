// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waggle-net/waggle/test/lab"
)

// path is one thing that must work: from a pod to an address.
type path struct {
	from     *lab.Pod
	to       string // as the table shows it
	target   netip.AddrPort
	expected string // who has to answer; "" for any pod
}

type result struct {
	path
	took   time.Duration
	answer string
	err    error
}

// serviceGrace is how long a new service may take to reach every node. The
// intent file is watched, so the moment is not known here.
const serviceGrace = 10 * time.Second

// tryPaths tries every path, those of one pod after another, those of different
// pods at the same time.
func tryPaths(ctx context.Context, l *lab.Lab, pods []*lab.Pod) []result {
	perPod := make([][]result, len(pods))
	var group errgroup.Group
	for i, from := range pods {
		group.Go(func() error {
			for _, p := range pathsFrom(from, l, pods) {
				perPod[i] = append(perPod[i], p.try(ctx))
			}
			return nil
		})
	}
	_ = group.Wait() // failures are results
	var all []result
	for _, results := range perPod {
		all = append(all, results...)
	}
	return all
}

func pathsFrom(from *lab.Pod, l *lab.Lab, pods []*lab.Pod) []path {
	var paths []path
	for _, to := range pods {
		if to == from {
			continue
		}
		for _, ip := range to.IPs {
			paths = append(paths, path{from, to.String(), netip.AddrPortFrom(ip, serverPort), to.String()})
		}
	}
	for _, ip := range serviceIPs {
		paths = append(paths, path{from, "service echo", netip.AddrPortFrom(ip, servicePort), ""})
	}
	for _, ip := range l.Client().Addrs() {
		paths = append(paths, path{from, "client (world)", netip.AddrPortFrom(ip, serverPort), "client"})
	}
	return paths
}

func (p path) try(ctx context.Context) result {
	r := p.once(ctx)
	if r.err == nil || p.expected != "" {
		return r
	}
	grace, cancel := context.WithTimeout(ctx, serviceGrace)
	defer cancel()
	_ = lab.Eventually(grace, func() error {
		r = p.once(ctx) // not grace: being cut off would hide why it fails
		return r.err
	})
	return r
}

// once runs the probe inside the pod: its socket must be the pod's, cgroup
// included, for service addresses to be translated.
func (p path) once(ctx context.Context) result {
	r := result{path: p}
	self, err := os.Executable()
	if err != nil {
		r.err = err
		return r
	}
	out, err := p.from.Command(ctx, self, "probe", p.target.String()).Output()
	verdict, rest, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if verdict != "OK" {
		r.err = probeError(rest, err)
		return r
	}
	micros, answer, _ := strings.Cut(rest, " ")
	n, _ := strconv.ParseInt(micros, 10, 64)
	r.took = time.Duration(n) * time.Microsecond
	r.answer, _, _ = strings.Cut(answer, " ")
	if p.expected != "" && r.answer != p.expected {
		r.err = fmt.Errorf("%s answered", r.answer)
	}
	return r
}

func probeError(printed string, err error) error {
	if printed != "" {
		return errors.New(printed)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}

// printResults prints the table and returns how many paths failed.
func printResults(out io.Writer, results []result) (failed int) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "FROM\tTO\tADDRESS\tRESULT\tLATENCY\tANSWER")
	for _, r := range results {
		if r.err != nil {
			failed++
			fmt.Fprintf(table, "%s\t%s\t%s\tFAIL\t-\t%v\n", r.from, r.to, r.target, r.err)
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\tOK\t%.2f ms\t%s\n", r.from, r.to, r.target,
			float64(r.took.Microseconds())/1000, r.answer)
	}
	_ = table.Flush() // a table that cannot be printed has nobody to tell
	fmt.Fprintf(out, "\n%d paths, %d failed\n", len(results), failed)
	return failed
}

// printHints says what to do next, depending on how it went.
func printHints(l *lab.Lab, failed int) {
	if failed > 0 {
		progress("\nLook for the cause with:")
		progress("  tail %s/node*/log/waggled.log", l.Dir())
	} else {
		progress("\nTry next:")
	}
	lab := os.Args[0] // as it was called, so that it can be pasted
	self, err := os.Executable()
	if err != nil {
		self = lab
	}
	node := l.Nodes()[0]
	progress("  %s status --socket %s", filepath.Join(filepath.Dir(lab), "waggle"), filepath.Join(node.Dir(), "run", "waggled.sock"))
	progress("  %s shell --name %s %s/pod1 -- %s probe %s:80", lab, l.Name, node.Name, self, serviceIPs[0])
	progress("  %s shell --name %s router -- ip route", lab, l.Name)
	progress("  %s down --name %s", lab, l.Name)
}
