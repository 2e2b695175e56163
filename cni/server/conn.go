// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
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

const (
	// readTimeout is how long a plugin may take to say what it wants.
	readTimeout = 5 * time.Second
	// maxFDs is one more than anyone should send, to notice those who send more.
	maxFDs = 2
)

// handle answers one connection. Ctx ends when the server must.
func (s *Server) handle(ctx context.Context, dp Datapath, c *net.UnixConn) {
	defer c.Close()
	resp := protocol.Response{Version: protocol.Version}
	result, err := s.answer(ctx, dp, c)
	if err != nil {
		var e *types.Error
		if !errors.As(err, &e) {
			e = types.NewError(types.ErrInternal, err.Error(), "")
		}
		resp.Error = e
	}
	resp.Result = result
	b, err := json.Marshal(resp)
	if err != nil {
		s.log.Error("answer could not be encoded", "err", err)
		return
	}
	c.SetWriteDeadline(time.Now().Add(readTimeout))
	// A plugin that the runtime killed meanwhile gets no answer. What was done
	// stays done: the runtime calls DEL for it.
	if _, err := c.Write(append(b, '\n')); err != nil {
		s.log.Info("plugin did not wait for its answer", "err", err)
	}
}

func (s *Server) answer(ctx context.Context, dp Datapath, c *net.UnixConn) (*types100.Result, error) {
	if err := checkPeer(c); err != nil {
		s.log.Warn("connection refused", "err", err)
		return nil, err
	}
	c.SetReadDeadline(time.Now().Add(readTimeout))
	line, files, err := receive(c)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	req, err := protocol.DecodeRequest(line)
	if err != nil {
		return nil, err
	}
	netns, err := namespace(req, files)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	began := time.Now()
	result, err := s.do(ctx, dp, req, netns)
	log := s.log.With("verb", req.Verb, "network", req.Network, "attachment", req.Key(),
		"pod", req.Pod.Namespace+"/"+req.Pod.Name, "took", time.Since(began))
	if err != nil {
		log.Error("request failed", "err", err)
	} else {
		log.Debug("request done")
	}
	return result, err
}

// checkPeer lets root in, and the daemon's own user for tests without root.
func checkPeer(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return fmt.Errorf("ask for peer's credentials: %w", err)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fail(protocol.CodeDenied, "run waggle-cni as root",
			"user %d may not talk to waggled", cred.Uid)
	}
	return nil
}

// receive reads one line and the file descriptors beside it. The files are the
// caller's to close, also after an error.
func receive(c *net.UnixConn) (line []byte, files []*os.File, err error) {
	buf := make([]byte, 16<<10)
	oob := make([]byte, unix.CmsgSpace(maxFDs*4))
	for {
		n, oobn, flags, _, err := c.ReadMsgUnix(buf, oob)
		got, fdErr := filesIn(oob[:oobn])
		files = append(files, got...)
		switch {
		case fdErr != nil:
			return nil, files, fdErr
		case flags&unix.MSG_CTRUNC != 0, len(files) > maxFDs:
			return nil, files, fail(types.ErrDecodingFailure, "", "decode request: more than one file descriptor")
		case errors.Is(err, io.EOF), err == nil && n == 0:
			return nil, files, fail(types.ErrDecodingFailure, "", "decode request: connection closed in the middle")
		case err != nil:
			return nil, files, fail(types.ErrIOFailure, "", "read request: %v", err)
		}
		line = append(line, buf[:n]...)
		if i := bytes.IndexByte(line[len(line)-n:], '\n'); i >= 0 {
			return line[:len(line)-n+i], files, nil
		}
		if len(line) >= protocol.MaxMessage {
			return nil, files, fail(types.ErrDecodingFailure, "",
				"decode request: more than the allowed %d bytes", protocol.MaxMessage)
		}
	}
}

func filesIn(oob []byte) (files []*os.File, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fail(types.ErrDecodingFailure, "", "decode request: control message: %v", err)
	}
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // of another kind, without descriptors
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "netns"))
		}
	}
	return files, nil
}

// namespace picks the pod's network namespace out of what came with a request.
func namespace(req *protocol.Request, files []*os.File) (*os.File, error) {
	if req.Verb != protocol.Add && req.Verb != protocol.Check {
		return nil, nil
	}
	if len(files) != 1 {
		return nil, fail(types.ErrInvalidNetNS, "", "%s %s: %d file descriptors came with the request, want the network namespace's",
			req.Verb, req.Key(), len(files))
	}
	kind, err := unix.IoctlRetInt(int(files[0].Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		return nil, fail(types.ErrInvalidNetNS, "check CNI_NETNS", "%s %s: %q is not a network namespace", req.Verb, req.Key(), req.NetNS)
	}
	return files[0], nil
}
