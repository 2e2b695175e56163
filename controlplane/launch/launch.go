// SPDX-License-Identifier: Apache-2.0

// Package launch brings a server up: it checks the machine, makes what the processes
// need (certificates, configuration), and has them supervised.
package launch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"k8s.io/utils/clock"

	"github.com/waggle-net/waggle/controlplane/config"
	"github.com/waggle-net/waggle/controlplane/pki"
	"github.com/waggle-net/waggle/controlplane/preflight"
	"github.com/waggle-net/waggle/controlplane/runtime"
	"github.com/waggle-net/waggle/controlplane/snapshot/pending"
	"github.com/waggle-net/waggle/controlplane/supervise"
	"github.com/waggle-net/waggle/controlplane/supervise/datadir"
	"github.com/waggle-net/waggle/internal/version"
)

// Server is what is brought up.
type Server struct {
	// Config is complete but for the node's addresses.
	Config *config.Config
	// BinDir holds our programs.
	BinDir string
	Log    *slog.Logger
}

// Run brings the server up and supervises its processes until ctx ends. Then it ends
// them, but neither pods nor the datapath.
func (s *Server) Run(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("waggle-kube server needs root: containers, cgroups and networks are made by it")
	}
	if err := s.findAddrs(); err != nil {
		return err
	}
	l := s.Config.Layout()
	lock, err := supervise.Acquire(ctx, l)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := pending.Check(l); err != nil {
		return err
	}
	if err := datadir.Claim(l, datadir.Programs{Waggle: version.Version, Kubernetes: version.Kubernetes}); err != nil {
		return err
	}
	if err := s.preflight(ctx); err != nil {
		return err
	}
	host, err := runtime.Detect(ctx, l.Data)
	if err != nil {
		return fmt.Errorf("look at the machine: %w", err)
	}
	if err := s.makePKI(); err != nil {
		return err
	}
	children, err := s.children(host)
	if err != nil {
		return err
	}
	supervisor, err := supervise.New(lock, children, s.Log)
	if err != nil {
		return err
	}
	renewing, stop := context.WithCancel(ctx)
	defer stop()
	go pki.Renew(renewing, s.spec, clock.RealClock{}, s.Log)
	return supervisor.Run(ctx)
}

// findAddrs completes the configuration with the node's addresses.
func (s *Server) findAddrs() error {
	addrs, err := config.NodeAddrs()
	if err != nil {
		return err
	}
	return s.Config.UseNodeIPs(addrs)
}

// preflight ends the start if the machine will not do, and logs what it costs where
// it will. A node whose processes were left running is not asked whether its own
// ports are free.
func (s *Server) preflight(ctx context.Context) error {
	findings := preflight.Run(ctx, s.checks())
	var failed []error
	for _, f := range findings {
		switch f.Level {
		case preflight.Fail:
			failed = append(failed, fmt.Errorf("%s: %s: %s", f.Name, f.Message, f.Remedy))
		case preflight.Warn:
			s.Log.Warn("check", "name", f.Name, "found", f.Message, "remedy", f.Remedy)
		}
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("this machine cannot run waggle-kube:\n%w", err)
	}
	return nil
}

// spec is what the certificates are to say.
func (s *Server) spec() pki.Spec {
	c := s.Config
	return pki.Spec{
		Layout:        c.Layout(),
		NodeName:      c.NodeName,
		NodeIPs:       c.NodeIPs,
		ServiceIPs:    c.KubernetesServiceIPs(),
		ClusterDomain: c.ClusterDomain,
		TLSSANs:       c.APIServer.TLSSANs,
		Port:          uint16(c.APIServer.Port),
		Lifetime:      c.Certificates.Validity.Duration,
		RenewBefore:   c.Certificates.RenewBefore.Duration,
	}
}

func (s *Server) makePKI() error {
	now := time.Now()
	changes, err := pki.Ensure(s.spec(), now)
	if err == nil {
		var more []pki.Change
		more, err = pki.EnsureEncryptionConfig(s.Config.Layout(), now)
		changes = append(changes, more...)
	}
	for _, c := range changes {
		s.Log.Debug("wrote", "file", c.File, "why", c.Reason)
	}
	return err
}
