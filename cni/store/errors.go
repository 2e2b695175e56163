// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
)

var (
	// ErrInUse says that another process holds the store.
	ErrInUse = errors.New("another waggled uses this state: stop it, or give this one a run directory of its own")
	// ErrCorrupt says that the file cannot be read or contradicts itself.
	ErrCorrupt = errors.New("the state is damaged: drain the node, delete the file and start waggled again")
	// ErrForeign says that the file is not waggled's.
	ErrForeign = errors.New("the file was not written by waggled: move it away or set another run directory")
	// ErrNewer says that the file has a layout that this release does not know.
	ErrNewer = errors.New("the state was written by a newer waggled: run that release, or drain the node and delete the file")
	// ErrExists says that there is a record for the attachment already.
	ErrExists = errors.New("the attachment exists")
	// ErrAbsent says that there is no record for the attachment.
	ErrAbsent = errors.New("the attachment does not exist")
)

// fileError adds the subject to an error about the file as a whole.
func fileError(path string, err error) error {
	return fmt.Errorf("open endpoint state %s: %w", path, err)
}
