// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/utils/exec"
)

func TestExecSync(t *testing.T) {
	n := newFilledNode(t)
	n.answer = &runtimeapi.ExecSyncResponse{Stdout: []byte("out\n"), Stderr: []byte("grüße\xff"), ExitCode: 42}
	// Flags after the container are the command's.
	r := n.ctr(t, "exec", "--timeout", "7s", "11aa2", "ls", "-l", "--timeout", "x")
	var exit *ExitError
	if !errors.As(r.err, &exit) || exit.Code != 42 {
		t.Errorf("got error %v, want exit code 42", r.err)
	}
	if r.stdout != "out\n" || r.stderr != "grüße\xff" {
		t.Errorf("got %q and %q", r.stdout, r.stderr)
	}
	asked := n.asked[0]
	if asked.ContainerId != webNow || asked.Timeout != 7 || !slices.Equal(asked.Cmd, []string{"ls", "-l", "--timeout", "x"}) {
		t.Errorf("containerd was asked for %v", asked)
	}
	n.answer = &runtimeapi.ExecSyncResponse{}
	if r := n.ctr(t, "exec", "11aa2", "true"); r.err != nil {
		t.Errorf("got error %v, want none for exit code 0", r.err)
	}
}

// shell is what runs in the container: upper case, and a word to standard error.
type shell struct{ tty chan bool }

func (s shell) Exec(_ context.Context, id string, cmd []string, in io.Reader, out, err io.WriteCloser, tty bool, _ <-chan remotecommand.TerminalSize) error {
	s.tty <- tty
	fmt.Fprintf(out, "%s %q\n", id[:4], cmd)
	if in != nil {
		text, readErr := io.ReadAll(in)
		if readErr != nil {
			return readErr
		}
		fmt.Fprint(out, strings.ToUpper(string(text)))
	}
	if err != nil {
		fmt.Fprint(err, "done\n")
	}
	if cmd[0] == "false" {
		return exec.CodeExitError{Err: errors.New("exit"), Code: 3}
	}
	return nil
}

func (shell) Attach(context.Context, string, io.Reader, io.WriteCloser, io.WriteCloser, bool, <-chan remotecommand.TerminalSize) error {
	return errors.New("not here")
}

func (shell) PortForward(context.Context, string, int32, io.ReadWriteCloser) error {
	return errors.New("not here")
}

func TestExecStream(t *testing.T) {
	n := newFilledNode(t)
	s := shell{make(chan bool, 1)}
	web := httptest.NewUnstartedServer(nil)
	defer web.Close()
	config := streaming.DefaultConfig
	config.BaseURL = &url.URL{Scheme: "http", Host: web.Listener.Addr().String()}
	var err error
	if n.streams, err = streaming.NewServer(config, s); err != nil {
		t.Fatal(err)
	}
	web.Config.Handler = n.streams
	web.Start()

	for _, tt := range []struct {
		name           string
		args           []string
		tty            bool
		stdout, stderr string
		code           int
	}{
		{"input", []string{"exec", "-i", "11aa2", "cat", "-i"}, false, "11aa [\"cat\" \"-i\"]\nGRÜSSE 🐝\n", "done\n", 0},
		{"exit code", []string{"exec", "-i", "11aa2", "false"}, false, "11aa [\"false\"]\nGRÜSSE 🐝\n", "done\n", 3},
		{"terminal, no input", []string{"exec", "-t", "11aa2", "top"}, true, "11aa [\"top\"]\n", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			cmd := (&tool{}).command()
			cmd.SetArgs(append([]string{"--data-dir", n.layout.Data, "--run-dir", n.layout.Run}, tt.args...))
			cmd.SetIn(strings.NewReader("grüsse 🐝\n"))
			cmd.SetOut(&stdout)
			cmd.SetErr(&stderr)
			err := cmd.ExecuteContext(t.Context())
			code := 0
			if exit, ok := errors.AsType[*ExitError](err); ok {
				code = exit.Code
			} else if err != nil {
				t.Fatal(err)
			}
			if tty := <-s.tty; code != tt.code || tty != tt.tty || stdout.String() != tt.stdout || stderr.String() != tt.stderr {
				t.Errorf("got code %d, terminal %t, %q and %q", code, tty, &stdout, &stderr)
			}
		})
	}

	// A test's input is no terminal.
	r := n.ctr(t, "exec", "-it", "11aa2", "sh")
	if want := "exec -t: standard input is not a terminal: leave -t or -i away"; r.err == nil || r.err.Error() != want {
		t.Errorf("got error %v, want %s", r.err, want)
	}
}

// signalling tells when something was written.
type signalling struct {
	bytes.Buffer
	wrote chan struct{}
}

func (w *signalling) Write(p []byte) (int, error) {
	defer func() {
		select {
		case w.wrote <- struct{}{}:
		default:
		}
	}()
	return w.Buffer.Write(p)
}

func TestFollowLog(t *testing.T) {
	n := newFilledNode(t)
	follow := func(ctx context.Context) (string, error) {
		out := &signalling{wrote: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if n.RuntimeService.Containers[webNow].State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			go func() { <-out.wrote; cancel() }() // as Ctrl-C does
		}
		cmd := (&tool{now: time.Now}).command()
		cmd.SetArgs([]string{"--data-dir", n.layout.Data, "--run-dir", n.layout.Run, "logs", "-f", "--tail", "1", "11aa2"})
		cmd.SetOut(out)
		err := cmd.ExecuteContext(ctx)
		return out.String(), err
	}
	for _, state := range []runtimeapi.ContainerState{
		runtimeapi.ContainerState_CONTAINER_RUNNING, // until we go
		runtimeapi.ContainerState_CONTAINER_EXITED,  // until there is no more
	} {
		n.RuntimeService.Containers[webNow].State = state
		if got, err := follow(t.Context()); err != nil || got != "grüße 🐝\n" {
			t.Errorf("%s: got %q, %v", state, got, err)
		}
	}
}
