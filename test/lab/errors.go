// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"os"
)

var (
	// ErrNotUp is returned by Open for a lab that does not exist or that was
	// never completed.
	ErrNotUp = errors.New("lab is not up")

	// ErrNotRoot is returned by everything that creates or enters namespaces.
	ErrNotRoot = errors.New("not root: run as root or with sudo")

	// ErrNoBinary is returned when a program of the project is missing from the
	// lab's BinDir.
	ErrNoBinary = errors.New("program not built: run make build")

	// ErrInside is returned by Up and Down when the caller itself runs inside a lab.
	ErrInside = errors.New("this process runs inside a lab: leave its shell first")
)

func requireRoot() error {
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	return nil
}
