// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/cni/protocol"
)

// answerTimeout is how long waggled may take. It gives up by itself before, and
// kubelets before theirs.
const answerTimeout = 90 * time.Second

// errDown says that nobody listens, or that whoever did is gone.
var errDown = errors.New("waggled is not running on this node")

// howToSee is the remedy for errDown.
const howToSee = "see why with: journalctl -u waggled, or look at the log of its pod on this node (kubectl logs)"

// call sends req, and netns beside it if there is one, and gives the result. Its
// errors are errDown or *types.Error.
func call(socket string, req *protocol.Request, netns *os.File) (*types100.Result, error) {
	line, err := protocol.EncodeRequest(req)
	if err != nil {
		return nil, err
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, connError(socket, err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(answerTimeout))
	if err := send(c, line, netns); err != nil {
		return nil, connError(socket, err)
	}
	var resp protocol.Response
	if err := json.NewDecoder(io.LimitReader(c, protocol.MaxMessage)).Decode(&resp); err != nil {
		return nil, answerError(socket, err)
	}
	if resp.Error != nil {
		return nil, resp.Error
	}
	return resp.Result, nil
}

func send(c *net.UnixConn, line []byte, netns *os.File) error {
	var rights []byte
	if netns != nil {
		rights = unix.UnixRights(int(netns.Fd()))
	}
	n, _, err := c.WriteMsgUnix(line, rights, nil)
	if err == nil && n < len(line) {
		_, err = c.Write(line[n:])
	}
	return err
}

// connError tells a daemon that is down from one that we cannot reach.
func connError(socket string, err error) error {
	for _, gone := range []error{unix.ECONNREFUSED, unix.ENOENT, unix.ENOTDIR, unix.EPIPE, unix.ECONNRESET} {
		if errors.Is(err, gone) {
			return fmt.Errorf("%w (%s: %w)", errDown, socket, gone)
		}
	}
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, os.ErrDeadlineExceeded) {
		return types.NewError(types.ErrTryAgainLater, fmt.Sprintf("waggled is busy (%s: %v)", socket, err), "")
	}
	return types.NewError(types.ErrIOFailure, fmt.Sprintf("connect to waggled: %v", err), "run waggle-cni as root")
}

func answerError(socket string, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w (%s: gone before it answered)", errDown, socket)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return types.NewError(types.ErrTryAgainLater, fmt.Sprintf("waggled did not answer within %s", answerTimeout), "see waggled's log")
	case errors.As(err, &syntax), errors.As(err, &kind):
		return types.NewError(types.ErrDecodingFailure, fmt.Sprintf("decode answer from %s: %v", socket, err), "is it waggled that listens there?")
	}
	return connError(socket, err)
}
