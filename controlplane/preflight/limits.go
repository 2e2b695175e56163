// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// swap is no reason to refuse a laptop.
func (p *probe) swap(context.Context) []Finding {
	text, _ := p.read("proc/swaps")
	var devices []string
	for i, line := range strings.Split(text, "\n") {
		if f := strings.Fields(line); i > 0 && len(f) > 0 {
			devices = append(devices, f[0])
		}
	}
	if len(devices) == 0 {
		return ok("off")
	}
	return warn("swapoff -a, and remove it from /etc/fstab, where pods' latency matters",
		"swap is on (%s): pods do not use it, but the node's processes may wait for it", strings.Join(devices, ", "))
}

// The least that a node with its full number of pods gets along with. Each
// process that watches files takes an inotify instance, and so do many
// applications; the kernel's default is 128 for all of root's together.
var sysctls = []struct {
	name string
	min  int64
	why  string
}{
	{"fs.inotify.max_user_instances", 512, "processes that watch files fail with \"too many open files\""},
	{"fs.inotify.max_user_watches", 65536, "processes that watch files fail with \"no space left on device\""},
	{"fs.file-max", 65536, "all processes of the machine share so many open files"},
}

// minFiles is how many files one process may want to have open.
const minFiles = 65536

func (p *probe) limits(context.Context) []Finding {
	var all []Finding
	for _, s := range sysctls {
		n, found := p.readInt("proc/sys", strings.ReplaceAll(s.name, ".", "/"))
		if !found || n >= s.min {
			continue
		}
		line := fmt.Sprintf("%s=%d", s.name, s.min)
		all = append(all, warn(fmt.Sprintf("sysctl -w %s, and a file in /etc/sysctl.d with %s", line, line),
			"%s is %d: %s", s.name, n, s.why)...)
	}
	text, _ := p.read("proc/self/limits")
	if n, found := openFiles(text); found && n < minFiles {
		all = append(all, warn(fmt.Sprintf("ulimit -Hn %d before it is started, or LimitNOFILE=%d in its unit", minFiles, minFiles),
			"a process may have no more than %d files open", n)...)
	}
	if len(all) == 0 {
		return ok("inotify and open files suffice")
	}
	return all
}

// openFiles is the hard limit in /proc/PID/limits.
func openFiles(text string) (n int64, found bool) {
	for line := range strings.Lines(text) {
		rest, is := strings.CutPrefix(line, "Max open files")
		if !is {
			continue
		}
		f := strings.Fields(rest) // soft, hard, unit
		if len(f) < 2 || f[1] == "unlimited" {
			return 0, false
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		return n, err == nil
	}
	return 0, false
}
