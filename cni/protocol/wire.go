// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"
)

// MaxMessage bounds one message in bytes. The largest is a GC that lists every
// attachment of a full node, which needs about a quarter of it.
const MaxMessage = 4 << 20

// maxContainerID bounds a container's name: runtimes use 64 characters.
const maxContainerID = 256

// EncodeRequest gives the line that goes over the socket.
func EncodeRequest(r *Request) ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	if len(b)+1 > MaxMessage {
		return nil, fmt.Errorf("encode request: %d bytes, at most %d are allowed", len(b)+1, MaxMessage)
	}
	return append(b, '\n'), nil
}

// DecodeRequest reads one line and validates it. Its errors are *types.Error
// and fit to be sent back. Unknown fields are ignored: a newer plugin may send
// some, and says by Version which it cannot do without.
func DecodeRequest(line []byte) (*Request, error) {
	if len(line) > MaxMessage {
		return nil, decodeError("%d bytes, at most %d are allowed", len(line), MaxMessage)
	}
	var r Request
	if err := json.Unmarshal(bytes.TrimSpace(line), &r); err != nil {
		return nil, decodeError("%v", err)
	}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return &r, nil
}

// Validate checks what every request must have. Its errors are *types.Error.
func (r *Request) Validate() error {
	switch {
	case r.Version < 1:
		return decodeError("version %d is not a protocol version", r.Version)
	case r.Version > Version:
		return types.NewError(CodeProtocol, fmt.Sprintf(
			"decode request: waggle-cni needs protocol version %d, this waggled speaks %d", r.Version, Version),
			"finish the upgrade of waggled on this node")
	}
	// Typed nil pointers: utils gives *types.Error, which must not be returned
	// as an error unless it is one.
	if err := utils.ValidateNetworkName(r.Network); err != nil {
		return err
	}
	switch r.Verb {
	case Status, GC:
		for _, a := range r.Valid {
			if a.ContainerID == "" || a.IfName == "" {
				return decodeError("valid attachment %q has no container or interface name", a.Key())
			}
		}
		return nil
	case Add, Del, Check:
	default:
		return decodeError("unknown verb %q", r.Verb)
	}
	if err := utils.ValidateContainerID(r.ContainerID); err != nil {
		return err
	}
	if n := len(r.ContainerID); n > maxContainerID {
		return types.NewError(types.ErrInvalidEnvironmentVariables,
			fmt.Sprintf("container id has %d characters, at most %d are allowed", n, maxContainerID), "")
	}
	if err := utils.ValidateInterfaceName(r.IfName); err != nil {
		return err
	}
	return nil
}

func decodeError(format string, args ...any) *types.Error {
	return types.NewError(types.ErrDecodingFailure, "decode request: "+fmt.Sprintf(format, args...),
		"waggled's socket is for waggle-cni only")
}
