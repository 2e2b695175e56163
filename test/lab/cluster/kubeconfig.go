// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/controlplane/pki"
)

// header marks a kubeconfig as ours, to be replaced and removed.
const header = "# Written by waggle-lab cluster, removed by waggle-lab down.\n"

// lockFolder makes the folder of the kubeconfig, for who called sudo, and keeps others
// from bringing a cluster up that is described there.
func lockFolder(kubeconfig string) (unlock func(), err error) {
	dir := filepath.Dir(kubeconfig)
	switch err := os.Mkdir(dir, 0o755); {
	case err == nil:
		if err := giveToUser(dir); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrExist):
		return nil, fmt.Errorf("make folder of kubeconfig: %w", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("lock folder of kubeconfig: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errors.New("another waggle-lab cluster is at work: let it finish, or end it")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() {
		os.Remove(dir) // fails, as it should, where there is a kubeconfig
		f.Close()
	}, nil
}

// writeKubeconfig copies the administrator's, whose server is the node's address.
func (c *cluster) writeKubeconfig(context.Context) error {
	path := c.outside(layout.Layout{Data: layout.DefaultDataDir}.Kubeconfig(pki.AdminKubeconfig))
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read administrator's kubeconfig: %w", err)
	}
	for strings.HasPrefix(string(text), "#") {
		_, rest, _ := strings.Cut(string(text), "\n")
		text = []byte(rest)
	}
	if c.api, err = newAPI(text); err != nil {
		return err
	}
	if err := replaceFile(c.Kubeconfig, header+string(text)); err != nil {
		return err
	}
	c.say("kubeconfig: %s", c.Kubeconfig)
	return nil
}

// replaceFile writes a file that is for its owner alone, who is who called sudo.
func replaceFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".kubeconfig-*")
	if err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	defer os.Remove(f.Name()) // of no effect once renamed
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = giveToUser(f.Name())
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// giveToUser makes who called sudo the owner of a file that we have just made.
func giveToUser(path string) error {
	uid, err1 := strconv.Atoi(os.Getenv("SUDO_UID"))
	gid, err2 := strconv.Atoi(os.Getenv("SUDO_GID"))
	if err1 != nil || err2 != nil {
		return nil // nobody called sudo
	}
	if err := os.Lchown(path, uid, gid); err != nil {
		return fmt.Errorf("give file to the user: %w", err)
	}
	return nil
}

// RemoveKubeconfig removes the file if it is one that Up wrote, and its folder if
// nothing else is in it.
func RemoveKubeconfig(path string) error {
	text, err := os.ReadFile(path)
	if err == nil && strings.HasPrefix(string(text), header) {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove kubeconfig: %w", err)
	}
	os.Remove(filepath.Dir(path)) // fails, as it should, where it holds more
	return nil
}
