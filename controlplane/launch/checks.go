// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/waggle-net/waggle/controlplane/config"
	"github.com/waggle-net/waggle/controlplane/preflight"
)

// Programs are what a server consists of, below its folder of programs.
func Programs() []string {
	return []string{"waggle-kube", "waggle-kubernetes", "containerd", "containerd-shim-runc-v2", "ctr", "waggled", "waggle-cni", "waggle"}
}

// Check looks at the machine, without starting anything.
func (s *Server) Check(ctx context.Context) ([]preflight.Finding, error) {
	if err := s.findAddrs(); err != nil {
		return nil, err
	}
	return preflight.Run(ctx, s.checks()), nil
}

// checks is what a machine is to be looked at for.
func (s *Server) checks() preflight.Input {
	c := s.Config
	// Processes that a former supervisor left have what they want already.
	recorded, _ := filepath.Glob(c.Layout().ProcessFile("*")) // the pattern is good
	in := preflight.Input{
		DataDir: c.DataDir, RunDir: c.RunDir,
		NodeName:   c.NodeName,
		Addresses:  c.NodeIPs,
		CNIConfDir: c.ContainerRuntime.CNIConfDir,
		CgroupRoot: c.Kubelet.CgroupRoot,
		Running:    len(recorded) > 0,
	}
	if c.Dataplane.Enabled {
		in.OwnDataplane = true
		daemon, _ := c.DaemonConfig() // what is wrong with it was told before
		in.BPFRoot = daemon.BPFRoot
	}
	for _, name := range Programs() {
		in.Programs = append(in.Programs, filepath.Join(s.BinDir, name))
	}
	for _, cidr := range c.PodCIDRs {
		in.CIDRs = append(in.CIDRs, preflight.CIDR{Prefix: cidr, Key: "podCIDRs"})
	}
	for _, cidr := range c.ServiceCIDRs {
		in.CIDRs = append(in.CIDRs, preflight.CIDR{Prefix: cidr, Key: "serviceCIDRs"})
	}
	for _, p := range config.Ports(c) {
		for _, a := range listenAddrs(c, p.Scope) {
			in.Ports = append(in.Ports, preflight.Port{
				Number: uint16(p.Number), Protocol: strings.ToLower(p.Protocol), Address: a, Use: p.Use, Key: p.Field,
			})
		}
	}
	return in
}

// listenAddrs are the addresses of a scope. The zero address is all of them.
func listenAddrs(c *config.Config, scope config.Scope) []netip.Addr {
	switch scope {
	case config.LoopbackOnly:
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	case config.NodeAddresses:
		return c.NodeIPs
	default:
		return []netip.Addr{{}}
	}
}
