// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package cluster

import (
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/waggle-net/waggle/test/machine"
)

// guestPatience is for all that one command does on an emulated machine.
const guestPatience = 10 * time.Minute

// person is somebody who may use sudo on a stock Debian with systemd, udev and cgroup
// v2, in a folder with what make builds.
type person struct {
	t *testing.T
	m *machine.Machine
}

const (
	home   = "/home/somebody"
	folder = home + "/waggle"
)

// try runs a command line as make does, in the folder.
func (p *person) try(line string) (out string, err error) {
	ctx, cancel := context.WithTimeoutCause(p.t.Context(), guestPatience, errors.New("not done in time"))
	defer cancel()
	r, err := p.m.Run(ctx, "runuser", "-u", "somebody", "--", "env", "HOME="+home, "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
		"timeout", "--signal=INT", "8m", "bash", "-c", "cd "+folder+" && { "+line+"; } 2>&1")
	if err != nil {
		return "", err
	}
	if r.Code != 0 {
		err = errors.New("failed")
	}
	return r.Stdout, err
}

func (p *person) do(line string) string {
	p.t.Helper()
	out, err := p.try(line)
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

// root runs a command as root.
func (p *person) root(args ...string) string {
	p.t.Helper()
	out, err := p.m.Output(p.t.Context(), args[0], args[1:]...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// TestOrdinaryMachine is a lab that is joined to its machine, by somebody who is not
// root on a machine that others use, too. (A server on such a machine is in test/kube.)
func TestOrdinaryMachine(t *testing.T) {
	bin, err := filepath.Abs("../../../bin")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{folder + "/go.mod": "../../../go.mod"}
	for _, name := range []string{"waggle-lab", "waggle-kube", "waggled", "waggle-cni", "waggle"} {
		files[folder+"/bin/"+name] = filepath.Join(bin, name)
	}
	p := &person{t, machine.ForTest(t, machine.Options{Files: files})}
	p.root("useradd", "--no-create-home", "--home-dir", home, "--shell", "/bin/bash", "somebody")
	p.root("chown", "-R", "somebody:", home)
	if err := p.m.WriteFile(t.Context(), "/etc/sudoers.d/somebody", []byte("somebody ALL=(ALL) NOPASSWD: ALL\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	const sudo = `sudo -E env "PATH=$PATH" bin/waggle-lab `

	// Without root, nothing is half done.
	if out, err := p.try("bin/waggle-lab cluster --demo=false"); err == nil || !strings.Contains(out, "root") {
		t.Errorf("without sudo: %v\n%s", err, out)
	}
	// Somebody else's network has our addresses.
	p.root("ip", "link", "add", "docker9", "type", "bridge")
	p.root("ip", "address", "add", "10.244.0.1/16", "dev", "docker9")
	p.root("ip", "link", "set", "docker9", "up")
	if out, err := p.try(sudo + "cluster --demo=false"); err == nil || !strings.Contains(out, "docker9") || !strings.Contains(out, "10.244.0.0/16") {
		t.Errorf("with a network that collides: %v\n%s", err, out)
	}
	p.root("ip", "link", "delete", "docker9")
	before := p.network()

	out := p.do(sudo + "up --racks 1 --machine --daemons --pods-per-node 1")
	addresses := regexp.MustCompile(`node1/pod1: \[(\S+) (\S+)\]`).FindStringSubmatch(out)
	if addresses == nil {
		t.Fatalf("no addresses of the pod in:\n%s", out)
	}
	for _, a := range addresses[1:] {
		// Nobody listens there, which the pod says itself.
		if got, _ := p.try("(echo >/dev/tcp/" + a + "/9)"); !strings.Contains(got, "refused") {
			t.Errorf("the pod at %s does not answer this machine: %s", a, got)
		}
	}
	if got := p.do(sudo + "shell node1 -- waggle status"); !strings.Contains(got, "default/pod1") {
		t.Errorf("status is:\n%s", got)
	}
	p.do(sudo + "down")
	if after := p.network(); after != before {
		t.Errorf("the machine's network was\n%s\nand is\n%s", before, after)
	}
	for _, gone := range []string{folder + "/.lab", "/run/waggle-lab", "/run/udev/rules.d", "/sys/fs/cgroup/waggle-lab"} {
		if out, err := p.try("ls " + gone); err == nil && strings.TrimSpace(out) != "" {
			t.Errorf("%s is left, with %s", gone, out)
		}
	}
}

// network is what of the machine's network must be as it was.
func (p *person) network() string {
	return p.root("ip", "-brief", "link") + p.root("ip", "address") + p.root("ip", "route", "show", "table", "all") + p.root("ip", "-6", "route", "show", "table", "all")
}
