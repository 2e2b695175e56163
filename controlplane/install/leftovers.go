// SPDX-License-Identifier: Apache-2.0

package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// Where containerd and the kubelet put things for which there is no setting, or
// one that nobody changes, as other programs look there. Variables for tests.
var (
	netnsDir         = "/run/netns"
	podLogsDir       = "/var/log/pods"
	containerLogsDir = "/var/log/containers"
)

// leftovers are things of our pods that lie where those of others do, too.
type leftovers struct {
	namespaces []string // paths of network namespaces
	pods       []string // UIDs
}

// findLeftovers looks for them in the records of containers that were not removed
// and in the kubelet's folders of pods.
func findLeftovers(l layout.Layout) *leftovers {
	var left leftovers
	// No folder, or no record in it: nothing is left by it.
	bundles, _ := filepath.Glob(filepath.Join(l.ContainerdState(), "io.containerd.runtime.v2.task", "*", "*", "config.json"))
	for _, path := range bundles {
		b, _ := os.ReadFile(path)
		if ns := podNamespace(b); ns != "" && !slices.Contains(left.namespaces, ns) {
			left.namespaces = append(left.namespaces, ns)
		}
	}
	pods, _ := os.ReadDir(filepath.Join(l.KubeletDir(), "pods"))
	for _, p := range pods {
		left.pods = append(left.pods, p.Name())
	}
	return &left
}

// cniNamespace is the name that containerd gives to a pod's network namespace.
var cniNamespace = regexp.MustCompile(`^cni-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// podNamespace is the path of the network namespace in the OCI configuration of a
// container, empty if that is the node's or somebody else's.
func podNamespace(config []byte) string {
	var c struct {
		Linux struct {
			Namespaces []struct{ Type, Path string }
		}
	}
	if json.Unmarshal(config, &c) != nil {
		return ""
	}
	for _, ns := range c.Linux.Namespaces {
		dir, name := filepath.Split(ns.Path)
		if ns.Type == "network" && cniNamespace.MatchString(name) && strings.TrimPrefix(filepath.Clean(dir), "/var") == "/run/netns" {
			return filepath.Join(netnsDir, name)
		}
	}
	return ""
}

// removeNamespaces lets go of the pods' network namespaces. With them go devices,
// addresses and routes.
func (left *leftovers) removeNamespaces(out io.Writer) error {
	var errs []error
	for _, path := range left.namespaces {
		err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		switch {
		case errors.Is(err, unix.ENOENT):
			continue // removed when its pod was stopped
		case err != nil && !errors.Is(err, unix.EINVAL): // not mounted any more
			errs = append(errs, fmt.Errorf("unmount %s: %w", path, err))
			continue
		}
		if err := remove(path); err != nil {
			errs = append(errs, err)
			continue
		}
		say(out, "removed", path, "")
	}
	return errors.Join(errs...)
}

// removeLogs removes the logs of our pods, whose folders end in their UIDs, and
// the links to them.
func (left *leftovers) removeLogs(out io.Writer) error {
	var errs []error
	for _, uid := range left.pods {
		dirs, _ := os.ReadDir(podLogsDir)
		for _, d := range dirs {
			if !strings.HasSuffix(d.Name(), "_"+uid) {
				continue
			}
			dir := filepath.Join(podLogsDir, d.Name())
			errs = append(errs, removeLinksInto(dir), removeFolder(dir, "", out))
		}
	}
	return errors.Join(errs...)
}

func removeLinksInto(dir string) error {
	links, _ := os.ReadDir(containerLogsDir)
	var errs []error
	for _, l := range links {
		path := filepath.Join(containerLogsDir, l.Name())
		if target, err := os.Readlink(path); err == nil && below(target, dir) {
			errs = append(errs, remove(path))
		}
	}
	return errors.Join(errs...)
}
