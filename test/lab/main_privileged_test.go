// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package lab_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/waggle-net/waggle/test/lab"
	"github.com/waggle-net/waggle/test/sandbox"
)

// TestMain lets the test program stand in for others: for the project's programs
// when it is called by their names, and for an `up` that is to be interrupted. The
// tests have a network namespace for their machine's: it gets devices and routes.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "waggled":
		os.Exit(fakeWaggled())
	case "waggle-cni":
		os.Exit(fakeCNI())
	}
	if name := os.Getenv("LAB_TEST_UP"); name != "" {
		os.Exit(upOnly(name))
	}
	os.Exit(sandbox.Main(m))
}

// fakeBin returns a folder with stand-ins for waggled and waggle-cni.
func fakeBin(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"waggled", "waggle-cni"} {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// fakeWaggled listens where the real one does, unless its configuration says
// that it should not.
func fakeWaggled() int {
	config, err := os.ReadFile("/etc/waggle/waggled.yaml")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if strings.Contains(string(config), "bad: setting") {
		fmt.Println("fake waggled: unknown setting bad")
		return 3
	}
	const socket = "/run/waggle/cni.sock"
	os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer listener.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return 0
}

// fakeCNI leaves a trace of each call in the host's /run/waggle and answers ADD
// with the first addresses of the node's ranges.
func fakeCNI() int {
	verb := os.Getenv("CNI_COMMAND")
	if verb == "VERSION" {
		fmt.Println(`{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}`)
		return 0
	}
	call := fmt.Sprintf("%s %s %s\n", verb, os.Getenv("CNI_NETNS"), os.Getenv("CNI_ARGS"))
	f, err := os.OpenFile("/run/waggle/calls", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.WriteString(call)
	}
	if err == nil && os.Getenv("CNI_NETNS") != "" {
		_, err = os.Stat(os.Getenv("CNI_NETNS"))
	}
	if strings.Contains(os.Getenv("CNI_ARGS"), "K8S_POD_NAME=refuse") {
		err = fmt.Errorf("no such luck")
	}
	if err != nil {
		json.NewEncoder(os.Stdout).Encode(map[string]any{"cniVersion": "1.1.0", "code": 100, "msg": err.Error()})
		return 1
	}
	if verb == "ADD" {
		name, _ := os.Hostname()
		number := strings.TrimPrefix(name, "node")
		fmt.Printf(`{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":%q}],"ips":[`+
			`{"interface":0,"address":"10.244.%s.2/32"},{"interface":0,"address":"fd00:10:244:%s::2/128"}]}`,
			os.Getenv("CNI_NETNS"), number, number)
	}
	return 0
}

// upOnly is the victim of the interruption tests.
func upOnly(name string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT)
	defer stop()
	l, err := lab.Up(ctx, lab.Topology{Name: name, Racks: []int{2, 1}, Client: true, Machine: true})
	if err == nil {
		_, err = l.Host("node1").Start(ctx, "sleeper", "sleep", "1000")
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}
