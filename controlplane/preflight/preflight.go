// SPDX-License-Identifier: Apache-2.0

// Package preflight says what a machine offers a waggle-kube node and what it
// lacks, before anything is started, each lack with its remedy.
//
// A check reads, and undoes what it tries: it may run beside a node. One check
// is one function, and the table in this file is their order.
package preflight

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime/debug"
	"time"
)

// Level is how bad a finding is.
type Level int

// The levels.
const (
	OK   Level = iota // as it should be
	Warn              // a node works, but less well than it could
	Fail              // a node does not work
)

func (l Level) String() string {
	switch l {
	case OK:
		return "ok"
	case Warn:
		return "warn"
	case Fail:
		return "fail"
	}
	return fmt.Sprintf("level %d", int(l))
}

// MarshalText writes ok, warn or fail.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Finding is what one check found.
type Finding struct {
	Level   Level  `json:"level"`
	Name    string `json:"name"`             // of the check
	Message string `json:"message"`          // what is there
	Remedy  string `json:"remedy,omitempty"` // what to do; empty if OK
}

// Port is one that the node's processes want to listen on.
type Port struct {
	Number   uint16
	Protocol string     // tcp or udp
	Address  netip.Addr // the zero value is all addresses
	Use      string     // what for, as in "the Kubernetes API"
	Key      string     // the configuration key that moves it; empty if nothing does
}

// CIDR is a range that the cluster gives addresses from.
type CIDR struct {
	Prefix netip.Prefix
	Key    string // its configuration key, as in "podCIDRs"
}

// Input is what is going to be run.
type Input struct {
	// Root is put before every path but the data and run folders and the programs;
	// for tests. Default: the machine's own root folder.
	Root string
	// DataDir and RunDir are the node's folders. They need not exist. Required.
	DataDir, RunDir string
	// NodeName is the node's name in the cluster. Default: the host name.
	NodeName string
	// Ports are to be free.
	Ports []Port
	// Addresses are the node's own.
	Addresses []netip.Addr
	// CIDRs must not be in use on the machine already.
	CIDRs []CIDR
	// Programs of ours, as absolute paths. With OwnDataplane, waggled is one of them.
	Programs []string
	// OwnDataplane says that waggled is going to be run for the pods' network: what
	// it needs is checked, and that nothing takes the pods away from it.
	OwnDataplane bool
	// BPFRoot is where waggled wants a bpf file system. Default: /sys/fs/bpf.
	BPFRoot string
	// Runc is the path of runc. Default: looked for as containerd does.
	Runc string
	// CgroupRoot is the cgroup that pods' cgroups are made in. Default: the root.
	CgroupRoot string
	// CNIConfDir is where containerd looks for the network's configuration.
	// Default: /etc/cni/net.d.
	CNIConfDir string
	// Built is when this program was built, as the clock cannot show less.
	// Default: the time of the commit that the build recorded.
	Built time.Time
	// Running says that a node with these folders runs: ports that Programs
	// listen on are then as they should be.
	Running bool
}

// probe is one run of the checks.
type probe struct {
	Input
	machine
}

// checks in the order in which they are shown. Each returns at least one finding
// if it applies to the machine; their names are filled in here.
var checks = []struct {
	name string
	run  func(*probe, context.Context) []Finding
}{
	{"kernel", (*probe).kernel},
	{"privileges", (*probe).privileges},
	{"kernel features", (*probe).features},
	{"cgroups", (*probe).cgroups},
	{"programs", (*probe).programs},
	{"runc", (*probe).runc},
	{"dataplane", (*probe).dataplane},
	{"data folder", (*probe).dataFolder},
	{"disk speed", (*probe).diskSpeed},
	{"overlayfs", (*probe).overlayfs},
	{"run folder", (*probe).runFolder},
	{"swap", (*probe).swap},
	{"limits", (*probe).limits},
	{"clock", (*probe).clock},
	{"node name", (*probe).nodeName},
	{"machine id", (*probe).machineID},
	{"ports", (*probe).ports},
	{"ranges", (*probe).ranges},
	{"forwarding", (*probe).forwarding},
	{"network managers", (*probe).networkManagers},
	{"DNS", (*probe).resolver},
	{"firewall", (*probe).firewall},
	{"SELinux", (*probe).selinux},
	{"AppArmor", (*probe).apparmor},
	{"other Kubernetes", (*probe).otherKubernetes},
	{"CNI configuration", (*probe).cniConfigs},
}

// Run does all checks. A context that ends makes those fail that wait.
func Run(ctx context.Context, in Input) []Finding {
	if in.Built.IsZero() {
		info, _ := debug.ReadBuildInfo()
		in.Built = buildTime(info)
	}
	if in.CNIConfDir == "" {
		in.CNIConfDir = "/etc/cni/net.d"
	}
	if in.BPFRoot == "" {
		in.BPFRoot = "/sys/fs/bpf"
	}
	return run(ctx, &probe{in, realMachine()})
}

func run(ctx context.Context, p *probe) []Finding {
	var all []Finding
	for _, c := range checks {
		for _, f := range c.run(p, ctx) {
			f.Name = c.name
			all = append(all, f)
		}
	}
	return all
}

// Failed says whether a node would not work.
func Failed(all []Finding) bool {
	for _, f := range all {
		if f.Level == Fail {
			return true
		}
	}
	return false
}

// path is where a file of the system is.
func (p *probe) path(elem ...string) string {
	return filepath.Join(append([]string{p.Root, "/"}, elem...)...)
}

func ok(format string, args ...any) []Finding {
	return []Finding{{Level: OK, Message: fmt.Sprintf(format, args...)}}
}

func warn(remedy, format string, args ...any) []Finding {
	return []Finding{{Level: Warn, Message: fmt.Sprintf(format, args...), Remedy: remedy}}
}

func fail(remedy, format string, args ...any) []Finding {
	return []Finding{{Level: Fail, Message: fmt.Sprintf(format, args...), Remedy: remedy}}
}
