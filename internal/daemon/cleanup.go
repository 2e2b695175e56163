// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"text/tabwriter"

	"github.com/waggle-net/waggle/cni/install"
	"github.com/waggle-net/waggle/cni/server"
	"github.com/waggle-net/waggle/datapath/endpoint"
	"github.com/waggle-net/waggle/datapath/loader"
	"github.com/waggle-net/waggle/datapath/route"
	"github.com/waggle-net/waggle/internal/config"
)

// ErrLacking says that the kernel lacks something that is needed.
var ErrLacking = errors.New("this kernel lacks what waggled needs")

// Check writes what the kernel offers. It changes nothing.
func Check(w io.Writer) error {
	features := loader.Probe()
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "FEATURE\tSTATE\tWHAT FOR")
	for _, f := range features {
		state := "ok"
		switch {
		case !f.Available && f.Needed:
			state = "MISSING"
		case !f.Available:
			state = "absent"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", f.Name, state, f.Detail)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if missing := loader.Missing(features); len(missing) > 0 {
		return fmt.Errorf("%w: %d of %d features: use Linux 6.1 or newer", ErrLacking, len(missing), len(features))
	}
	return nil
}

// Cleanup removes everything that a daemon with this configuration put on the
// node, and nothing of others. It carries on past a failure, so that calling it
// again finishes the work.
func Cleanup(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	if known, err := readNode(cfg); err == nil && known != nil && len(cfg.PodCIDRs) == 0 {
		cfg.PodCIDRs = known.PodCIDRs
	}
	errs := []error{removeEndpoints(cfg, log)}
	errs = append(errs,
		loader.Cleanup(cfg.BPFRoot),
		route.New(route.Config{PodCIDRs: cfg.PodCIDRs, ClusterCIDRs: cfg.ClusterCIDRs}, log).Cleanup(ctx),
		removeFolder(cfg.RunDir),
		removeFolder(cfg.StateDir),
	)
	if cfg.CNI.Install {
		errs = append(errs, install.Remove(installConfig(cfg)))
	}
	return errors.Join(errs...)
}

// removeEndpoints removes the devices of pods. Without ranges there are none.
func removeEndpoints(cfg *config.Config, log *slog.Logger) error {
	if len(cfg.PodCIDRs) == 0 {
		return nil
	}
	cni, err := server.Open(server.Config{
		Socket: cfg.CNISocket(), RunDir: cfg.RunDir, PodCIDRs: cfg.PodCIDRs,
		MTU: func() int { return 0 }, Logger: log,
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range cni.Endpoints() {
		errs = append(errs, endpoint.DeleteDevice(&s))
	}
	return errors.Join(append(errs, cni.Close())...)
}

// removeFolder empties a folder and removes it, unless it is a mount point: that
// belongs to whoever mounted it.
func removeFolder(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(path, e.Name())))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, syscall.EBUSY) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
