// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/waggle-net/waggle/cni/ipam"
	"github.com/waggle-net/waggle/cni/protocol"
	"github.com/waggle-net/waggle/cni/store"
)

var (
	// ErrConfig says that a Config cannot work.
	ErrConfig = errors.New("unusable configuration")
	// ErrRunning says that somebody listens on the socket.
	ErrRunning = errors.New("another waggled listens there: stop it, or give this one a socket of its own")
	// ErrNotRecovered says that Serve was called before Recover.
	ErrNotRecovered = errors.New("serve before recover")
	// ErrNoID says that every endpoint number is taken.
	ErrNoID = errors.New("every endpoint number is in use")
)

// fail makes a CNI error with a remedy.
func fail(code uint, remedy, format string, args ...any) *types.Error {
	return types.NewError(code, fmt.Sprintf(format, args...), remedy)
}

// datapathError gives an error of the kernel side the code of its kind.
func datapathError(verb string, a protocol.Attachment, err error) *types.Error {
	var e *types.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.Canceled):
		return fail(types.ErrTryAgainLater, "", "%s %s: waggled is stopping", verb, a.Key())
	case errors.Is(err, context.DeadlineExceeded):
		return fail(types.ErrTryAgainLater, "see waggled's log for what it waited for",
			"%s %s: not finished within %s: %v", verb, a.Key(), opTimeout, err)
	}
	return fail(protocol.CodeDatapath, "see waggled's log", "%s %s: %v", verb, a.Key(), err)
}

// allocationError gives an error of create the code of its kind.
func allocationError(a protocol.Attachment, err error) *types.Error {
	var resting *ipam.RestingError
	switch {
	case errors.Is(err, store.ErrExists):
		return fail(protocol.CodeExists, "run DEL for it first", "add %s: the attachment exists", a.Key())
	case errors.As(err, &resting):
		return fail(types.ErrTryAgainLater,
			"if this happens often, give the node a larger pod CIDR or waggled a shorter rest time",
			"add %s: %v", a.Key(), err)
	case errors.Is(err, ipam.ErrExhausted):
		return fail(protocol.CodeExhausted, "give the node a larger pod CIDR, or limit its pods (kubelet's maxPods) to fewer",
			"add %s: %v", a.Key(), err)
	case errors.Is(err, ErrNoID):
		return fail(protocol.CodeExhausted, "limit the node's pods (kubelet's maxPods) to fewer", "add %s: %v", a.Key(), err)
	}
	return stateError("add", a, err)
}

func stateError(verb string, a protocol.Attachment, err error) *types.Error {
	return fail(protocol.CodeState, "see waggled's log; is its run directory writable and not full?",
		"%s %s: %v", verb, a.Key(), err)
}
