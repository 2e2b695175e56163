// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"syscall"

	"github.com/waggle-net/waggle/internal/unixhttp"
)

// DefaultSocket is where the daemon answers, unless configured otherwise.
const DefaultSocket = "/run/waggle/waggled.sock"

// ErrNotRunning says that no daemon answers on the socket.
var ErrNotRunning = errors.New("is it running? see `systemctl status waggled` and `journalctl -u waggled`")

// maxAnswer bounds what a client reads: a status grows with pods and services.
const maxAnswer = 256 << 20

// Client asks the daemon.
type Client struct {
	// Socket is the path of the daemon's socket. Optional: DefaultSocket.
	Socket string
}

// Status asks for the daemon's status. The error is ErrNotRunning where nobody
// answers.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	body, err := c.get(ctx, "/v1/status")
	if err != nil {
		return nil, err
	}
	var s Status
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, fmt.Errorf("read status from %s: %w", c.socket(), err)
	}
	s.normalize() // a daemon of another version may know fewer lists
	return &s, nil
}

// Ready says why the daemon is not ready, or does not answer.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.get(ctx, "/v1/healthz")
	return err
}

func (c *Client) socket() string {
	if c.Socket == "" {
		return DefaultSocket
	}
	return c.Socket
}

func (c *Client) get(ctx context.Context, path string) ([]byte, error) {
	transport := unixhttp.Transport(c.socket())
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://waggled"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, c.explain(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("waggled at %s answers %s: %s", c.socket(), resp.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}

// explain words a failed request so that the reader knows what to look at.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("waggled does not answer at %s: %w", c.socket(), ErrNotRunning)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("connect to waggled at %s: permission denied: run this as root", c.socket())
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("waggled at %s takes connections but does not answer in time: see `journalctl -u waggled`: %w", c.socket(), err)
	}
	return fmt.Errorf("ask waggled at %s: %w", c.socket(), err)
}
