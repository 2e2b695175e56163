// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/waggle-net/waggle/test/sandbox"
)

// builtEnv is the folder with the images, which are built before the tests lose the
// machine's network.
const builtEnv = "WAGGLE_TEST_DEMO_IMAGES"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if sandbox.Cgroup() != "" {
		return sandbox.Main(m) // the child
	}
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func buildAndRun(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "waggle-demo-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if _, err := BuildImages(context.Background(), dir, os.Stderr); err != nil {
		return 0, err
	}
	if err := os.Setenv(builtEnv, dir); err != nil {
		return 0, err
	}
	return sandbox.Main(m), nil
}
