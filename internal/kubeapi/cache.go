// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/google/renameio/v2"
)

// cacheFile is the file of learned servers. It holds no secret, and nothing that is
// trusted; it is the owner's alone because nobody else needs it.
type cacheFile struct {
	path string // empty for none
	log  *slog.Logger

	mu      sync.Mutex
	onDisk  []netip.AddrPort // nil if the file is not one of ours
	failing bool             // the last write failed, and that was logged
}

// cacheContent is the file's JSON.
type cacheContent struct {
	Servers []netip.AddrPort `json:"servers"`
}

func newCacheFile(path string, log *slog.Logger) *cacheFile { return &cacheFile{path: path, log: log} }

// load returns what the file holds. A bad one is as good as none: the next store
// replaces it.
func (c *cacheFile) load() []netip.AddrPort {
	if c.path == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	servers, err := readCache(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		c.log.Warn("remembered API servers are not used: the next list replaces them", "error", err)
		return nil
	}
	c.onDisk = servers
	return servers
}

// store writes the file if it would change.
func (c *cacheFile) store(servers []netip.AddrPort) {
	if c.path == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Equal(c.onDisk, servers) {
		return
	}
	if err := writeCache(c.path, servers); err != nil {
		if !c.failing {
			c.log.Warn("API servers are not remembered: a start without a configured server will fail", "error", err)
		}
		c.failing = true
		return
	}
	c.onDisk, c.failing = servers, false
}

func readCache(path string) ([]netip.AddrPort, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read API servers: %w", err)
	}
	defer f.Close()
	const most = 64 << 10 // far more than maxLearned need
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, fmt.Errorf("read API servers: %w", err)
	}
	servers, err := parseCache(text)
	if err != nil {
		return nil, fmt.Errorf("read API servers %s: %w", path, err)
	}
	return servers, nil
}

// parseCache accepts what formatCache writes.
func parseCache(text []byte) ([]netip.AddrPort, error) {
	var f cacheContent
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the list")
	}
	if len(f.Servers) == 0 {
		return nil, errors.New("the list is empty")
	}
	if !slices.Equal(f.Servers, normalize(f.Servers)) {
		return nil, errors.New("the list is not one that we wrote")
	}
	return f.Servers, nil
}

func formatCache(servers []netip.AddrPort) ([]byte, error) {
	text, err := json.MarshalIndent(cacheContent{servers}, "", "  ")
	return append(text, '\n'), err
}

// writeCache replaces the file as a whole, and for good: it is for the start after
// a power cut, too.
func writeCache(path string, servers []netip.AddrPort) error {
	text, err := formatCache(servers)
	if err != nil {
		return fmt.Errorf("write API servers: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write API servers: %w", err)
	}
	err = renameio.WriteFile(path, text, 0o600, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return fmt.Errorf("write API servers: %w", err)
	}
	return nil
}
