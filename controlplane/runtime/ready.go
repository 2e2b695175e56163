// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// methodVersion is the call of the runtime's interface (CRI) that asks nothing
// but whether it serves.
const methodVersion = "http://containerd/runtime.v1.RuntimeService/Version"

// Ready asks containerd once whether pods can be started by it, and says what it
// answered if not. containerd's socket accepts connections a while before.
//
// The question is a gRPC call, which for a message without content is a POST over
// HTTP/2 that the standard library can do: the supervisor needs no gRPC for it.
func Ready(ctx context.Context, l layout.Layout) error {
	transport := &http.Transport{
		Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", l.ContainerdSocket())
		},
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()

	// A message is preceded by a byte (not compressed) and its length in four.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, methodVersion, bytes.NewReader(make([]byte, 5)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask containerd: %w", err)
	}
	// The status follows the answer, if there is one.
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return fmt.Errorf("ask containerd: %w", err)
	}
	return grpcStatus(resp)
}

func grpcStatus(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask containerd: HTTP status %s", resp.Status)
	}
	status, message := resp.Trailer.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Message")
	if status == "" { // there was no answer: it is in the head
		status, message = resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message")
	}
	if status != "0" {
		return fmt.Errorf("ask containerd: %s (gRPC status %s)", message, status)
	}
	return nil
}
