// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

const (
	defaultName = "lab"
	defaultMTU  = 1500

	// The address plan gives rack and node numbers one byte of an IPv4 address
	// each; these limits also keep a mistyped topology from filling the machine.
	maxRacks        = 64
	maxNodesPerRack = 200
	maxNodes        = 200
)

// Topology describes a lab in a few lines. Zero values mean defaults.
type Topology struct {
	// Name tells labs apart that run side by side: one to eight of a-z and 0-9.
	// Default "lab".
	Name string `json:"name"`

	// Racks holds the number of nodes per rack: {2, 1} puts node1 and node2 into
	// rack 0 and node3 into rack 1. Default {1}.
	Racks []int `json:"racks"`

	// Client adds a host outside the cluster, behind the router.
	Client bool `json:"client"`

	// Machine joins the machine itself: a device in the network namespace of who
	// calls Up, and routes to the lab's prefixes by it. One lab at a time can have it.
	Machine bool `json:"machine,omitempty"`

	// MTU of all links. Default 1500; at least 1280, the least IPv6 allows.
	MTU int `json:"mtu"`

	// BinDir is where the project's programs are: hosts see it as /opt/cni/bin,
	// and StartWaggled starts waggled from it. Default: bin/ of the module that
	// the working folder or the running program belongs to.
	BinDir string `json:"binDir"`

	// Private lists further absolute paths of which each host gets an empty
	// folder of its own, for example /var/lib/kubelet. Each lies on a tmpfs.
	Private []string `json:"private,omitempty"`
}

var validName = regexp.MustCompile(`^[a-z0-9]{1,8}$`)

func validateName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("lab name %q: use one to eight characters of a-z and 0-9", name)
	}
	return nil
}

// withDefaults fills zero values in.
func (t Topology) withDefaults() Topology {
	if t.Name == "" {
		t.Name = defaultName
	}
	if len(t.Racks) == 0 {
		t.Racks = []int{1}
	}
	if t.MTU == 0 {
		t.MTU = defaultMTU
	}
	if t.BinDir == "" {
		t.BinDir = findBinDir()
	}
	return t
}

// validate reports everything that is wrong with t, not only the first thing.
func (t Topology) validate() error {
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := validateName(t.Name); err != nil {
		errs = append(errs, err)
	}
	if len(t.Racks) > maxRacks {
		complain("racks: %d given, at most %d possible", len(t.Racks), maxRacks)
	}
	total := 0
	for rack, nodes := range t.Racks {
		total += nodes
		if nodes < 0 || nodes > maxNodesPerRack {
			complain("rack %d: %d nodes, want 0 to %d", rack, nodes, maxNodesPerRack)
		}
	}
	if total > maxNodes {
		complain("racks: %d nodes in total, at most %d possible", total, maxNodes)
	}
	if t.MTU < 1280 || t.MTU > 65535 {
		complain("mtu %d: want 1280 to 65535", t.MTU)
	}
	if t.BinDir != "" && !filepath.IsAbs(t.BinDir) {
		complain("bin folder %q: want an absolute path", t.BinDir)
	}
	for _, path := range t.Private {
		if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
			complain("private folder %q: want a clean absolute path", path)
		}
	}
	return errors.Join(errs...)
}

// findBinDir returns bin/ of the module, or the folder of an installed program.
func findBinDir() string {
	if root := ModuleRoot(); root != "" {
		return filepath.Join(root, "bin")
	}
	if exe, err := os.Executable(); err == nil {
		if _, err := os.Stat(filepath.Join(filepath.Dir(exe), "waggled")); err == nil {
			return filepath.Dir(exe)
		}
	}
	return ""
}

// ModuleRoot looks for the root of the module upwards from the working folder and
// from the running program. It returns "" if neither lies in a module.
func ModuleRoot() string {
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	for _, dir := range starts {
		for ; ; dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				return dir
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return ""
}
