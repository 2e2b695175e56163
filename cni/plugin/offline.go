// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"fmt"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/waggle-net/waggle/cni/pending"
	"github.com/waggle-net/waggle/cni/protocol"
)

// lockTimeout is how long a starting daemon may hold the queue before the
// runtime is asked to come back.
const lockTimeout = 30 * time.Second

// delOffline deletes an attachment while waggled is down: the device now, the
// rest when waggled starts. See package pending for why this misses nobody.
func delOffline(socket string, req *protocol.Request) error {
	queue := pending.For(socket)
	unlock, err := lockQueue(queue)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := call(socket, req, nil); !errors.Is(err, errDown) {
		return err // it started meanwhile, and did it
	}
	// First the note, then the device: killed in between, the note remains and
	// the daemon does the rest.
	if err := queue.Put(req.Attachment); err != nil {
		return types.NewError(types.ErrIOFailure, fmt.Sprintf("delete while waggled is down: %v", err),
			"make the directory writable and not full, or start waggled")
	}
	if err := removeInterface(req.Attachment, req.NetNS); err != nil {
		return types.NewError(types.ErrIOFailure, fmt.Sprintf("delete while waggled is down: %v", err), howToSee)
	}
	return nil
}

// lockQueue waits for the lock in a goroutine that, if it waits too long, ends
// with the process: flock knows no timeout.
func lockQueue(queue pending.Queue) (unlock func(), err error) {
	type locked struct {
		unlock func()
		err    error
	}
	got := make(chan locked, 1)
	go func() {
		unlock, err := queue.Lock()
		got <- locked{unlock, err}
	}()
	select {
	case l := <-got:
		if l.err != nil {
			return nil, types.NewError(types.ErrIOFailure, fmt.Sprintf("delete while waggled is down: %v", l.err), "run waggle-cni as root")
		}
		return l.unlock, nil
	case <-time.After(lockTimeout):
		return nil, types.NewError(types.ErrTryAgainLater,
			fmt.Sprintf("waggled is starting and not ready after %s", lockTimeout), howToSee)
	}
}
