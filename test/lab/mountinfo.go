// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"
	"strings"
)

// mountEntry is a line of /proc/self/mountinfo.
type mountEntry struct {
	root   string // for namespaces: "net:[4026532281]"
	point  string
	fsType string
}

// mountsBelow returns the mounts at or below dir in the order in which they were
// attached to their parents: unmounting backwards always finds leaves.
func mountsBelow(dir string) ([]mountEntry, error) {
	// thread-self and not self: the caller may be a thread in another mount namespace.
	data, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var below []mountEntry
	for _, m := range parseMountinfo(string(data)) {
		if within(m.point, dir) {
			below = append(below, m)
		}
	}
	return below, nil
}

// within tells whether path is dir or below it.
func within(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir+"/")
}

// parseMountinfo reads the format of proc_pid_mountinfo(5):
//
//	36 35 98:0 /root /point rw,noatime shared:1 - ext3 /dev/root rw
//
// Lines that do not fit are skipped.
func parseMountinfo(text string) []mountEntry {
	var mounts []mountEntry
	for line := range strings.Lines(text) {
		mount, filesystem, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		fields := strings.Fields(mount)
		fsFields := strings.Fields(filesystem)
		if !ok || len(fields) < 6 || len(fsFields) < 1 {
			continue
		}
		mounts = append(mounts, mountEntry{
			root:   unescapeMount.Replace(fields[3]),
			point:  unescapeMount.Replace(fields[4]),
			fsType: fsFields[0],
		})
	}
	return mounts
}

// unescapeMount undoes what the kernel does to characters that separate fields.
var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
