// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Write writes the configuration and what it refers to. containerd reads the
// registries' files at each pull, and all else when it starts. What may hold a
// password is for root alone to read. If a registry is wrong, nothing is written.
func (c Config) Write() error {
	config, err := c.TOML()
	if err != nil {
		return err
	}
	registries := make(map[string][]byte)
	for _, r := range c.Registries {
		if _, twice := registries[r.dir()]; twice {
			return fmt.Errorf("registry %q: it is there already", r.Name)
		}
		if registries[r.dir()], err = r.TOML(); err != nil {
			return err
		}
	}
	for dir, content := range registries {
		if err := writeFile(filepath.Join(c.RegistriesDir(), dir, "hosts.toml"), content); err != nil {
			return err
		}
	}
	if err := removeOthers(c.RegistriesDir(), registries); err != nil {
		return err
	}
	return writeFile(c.Path(), config)
}

// removeOthers removes the folders of registries that are not configured any more.
func removeOthers(dir string, keep map[string][]byte) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old registries: %w", err)
	}
	for _, e := range entries {
		if _, ok := keep[e.Name()]; ok {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove old registries: %w", err)
		}
	}
	return nil
}

// writeFile replaces a file in one step: who reads it meanwhile reads the old one
// or the new one.
func writeFile(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write containerd's configuration: %w", err)
	}
	f, err := os.CreateTemp(dir, ".new-") // for root alone: mode 0600
	if err != nil {
		return fmt.Errorf("write containerd's configuration: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write containerd's configuration: %w", err), os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
