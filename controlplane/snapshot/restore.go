// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/controlplane/snapshot/pending"
	"github.com/waggle-net/waggle/controlplane/supervise"
)

// Restorer makes a data folder of a snapshot.
type Restorer struct {
	// Layout names the data folder. Required.
	Layout layout.Layout
	// Programs are those that are to go on with it. Required.
	Programs Programs
	// Force moves aside what state there is. Without it that is an error.
	Force bool

	// step is called before each change of the disk, and prevents it by an error.
	// Nil outside of tests.
	step func(op, path string) error
}

// Restored says what was done.
type Restored struct {
	Manifest *Manifest // of the snapshot
	// Aside is the folder that holds what was there before. Empty: nothing was.
	Aside string
}

// Restore puts the state that a snapshot holds into the data folder. No server may
// run on it. Until all that was read is found to be good and is on the disk, nothing
// that was there is touched. Interrupted at any point, it may be called again with
// the same file: it starts over, or finishes.
//
// Certificates other than the CAs' are not restored: the next start makes them, for
// the names and addresses of the machine that it is on.
func (r *Restorer) Restore(ctx context.Context, file string) (*Restored, error) {
	lock, err := supervise.Acquire(ctx, r.Layout)
	if held, ok := errors.AsType[*supervise.HeldError](err); ok {
		return nil, fmt.Errorf("restore snapshot: a server runs on %s: stop it first (`waggle-kube stop`)", held.Data)
	}
	if err != nil {
		return nil, fmt.Errorf("restore snapshot: %w", err)
	}
	defer lock.Close()
	restored, err := r.restore(ctx, file)
	if err != nil {
		return nil, fmt.Errorf("restore snapshot: %w%s", err, roomRemedy(err, r.Layout.Data))
	}
	return restored, nil
}

func (r *Restorer) restore(ctx context.Context, file string) (*Restored, error) {
	// A supervisor that was killed leaves the control plane running.
	if err := r.etcdEnded(); err != nil {
		return nil, err
	}
	if pending.Check(r.Layout) != nil {
		return r.resume(file)
	}
	if err := r.mayReplace(); err != nil {
		return nil, err
	}
	if err := r.stage(ctx, file); err != nil {
		return nil, errors.Join(err, r.remove(r.staging().Data))
	}
	if err := r.rename(r.staging().Data, pending.Dir(r.Layout)); err != nil {
		return nil, err
	}
	return r.install()
}

// resume finishes what was interrupted. It has all it needs, whatever file it is
// called with.
func (r *Restorer) resume(file string) (*Restored, error) {
	restored, err := r.install()
	if err != nil {
		return nil, err
	}
	m, err := readFile(file, sink{start: func(*Manifest) error { return errHeadOnly }})
	if err != nil && !errors.Is(err, errHeadOnly) {
		return nil, fmt.Errorf("the interrupted one of %s was finished, but %w", describe(restored.Manifest), err)
	}
	if !reflect.DeepEqual(m, restored.Manifest) {
		return nil, fmt.Errorf("an interrupted one of %s had to be finished first: to have %s instead, restore it again with --force", describe(restored.Manifest), file)
	}
	return restored, nil
}

func describe(m *Manifest) string {
	return fmt.Sprintf("the snapshot that was saved on node %s at %s", m.Node, m.Time.Format(time.RFC3339))
}

// etcdEnded says whether etcd's database is in use.
func (r *Restorer) etcdEnded() error {
	db := filepath.Join(r.Layout.EtcdDir(), "member", "snap", "db")
	f, err := os.Open(db)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("etcd runs on %s, though its supervisor has ended: stop it first (`waggle-kube stop --all`)", db)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", db, err)
	}
	return nil
}

// replaced are the parts of a data folder that are restored, as paths below it, in
// the order in which they are put there. The version comes last, and what was there
// loses its own first: a server refuses a state without it.
var replaced = []string{"etcd", "pki", encryptionName, versionName}

// mayReplace says whether what is there may be moved aside, and can be.
func (r *Restorer) mayReplace() error {
	folder, err := os.Stat(r.Layout.Data)
	if err != nil {
		return err
	}
	var found []string
	for _, name := range replaced {
		path := filepath.Join(r.Layout.Data, name)
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 || device(info) != device(folder) {
			return fmt.Errorf("%s is a link or another file system, and cannot be moved aside: replace it by an ordinary folder", path)
		}
		if name != versionName { // which is made before there is any state
			found = append(found, name)
		}
	}
	if len(found) > 0 && !r.Force {
		return fmt.Errorf("%s has the state of a cluster already (%s): use --force to move it into a folder beside it, or restore into an empty data folder",
			r.Layout.Data, strings.Join(found, ", "))
	}
	return nil
}

func device(info fs.FileInfo) uint64 {
	return info.Sys().(*syscall.Stat_t).Dev
}
