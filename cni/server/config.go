// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/waggle-net/waggle/cni/ipam"
	"github.com/waggle-net/waggle/cni/protocol"
)

// DefaultRestTime is how long a released address rests unless configured.
const DefaultRestTime = 30 * time.Second

// maxSocketPath is the longest path that the kernel takes for a Unix socket,
// less the suffix under which it is made.
const maxSocketPath = 107 - len(newSuffix)

// Config is what a Server works from.
type Config struct {
	// Socket is where to listen; optional, protocol.DefaultSocket if empty. The
	// queue of pending deletes is in its directory, where the plugin looks.
	Socket string
	// RunDir holds endpoints.db; optional, the socket's directory if empty.
	RunDir string
	// PodCIDRs are the node's, one or one per family; required.
	PodCIDRs []netip.Prefix
	// RestTime is how long a released address is not given out; optional,
	// DefaultRestTime if zero, none if negative.
	RestTime time.Duration
	// MTU gives the MTU of a new endpoint; required.
	MTU func() int
	// Ready says why ADD cannot work now, or nil; optional. STATUS reports
	// it as "plugin not available", or with its own code if it is a
	// *types.Error. An exhausted pool is not reported: a full node is a
	// healthy node, and runtimes would take the pods off it.
	Ready func() error
	// Held reports released addresses that the cluster still shows in use:
	// they are not given out, however long they rested; optional. It is called
	// under the allocator's lock and must not call the Server.
	Held func(netip.Addr) bool
	// Logger is optional.
	Logger *slog.Logger
}

// withDefaults fills in what is optional and checks the rest.
func (c Config) withDefaults() (Config, error) {
	if c.Socket == "" {
		c.Socket = protocol.DefaultSocket
	}
	if c.RunDir == "" {
		c.RunDir = filepath.Dir(c.Socket)
	}
	switch {
	case c.RestTime == 0:
		c.RestTime = DefaultRestTime
	case c.RestTime < 0:
		c.RestTime = 0
	}
	if c.Ready == nil {
		c.Ready = func() error { return nil }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case !filepath.IsAbs(c.Socket) || strings.ContainsRune(c.Socket, 0):
		return c, fmt.Errorf("%w: socket %q: not an absolute path", ErrConfig, c.Socket)
	case len(c.Socket) > maxSocketPath:
		return c, fmt.Errorf("%w: socket %q: the path has %d characters, the kernel allows %d: use a shorter one",
			ErrConfig, c.Socket, len(c.Socket), maxSocketPath)
	case c.MTU == nil:
		return c, fmt.Errorf("%w: no MTU", ErrConfig)
	}
	if err := ipam.Validate(c.PodCIDRs); err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return c, nil
}
