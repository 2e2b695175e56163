// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/test/images/agent/talk"
	"github.com/waggle-net/waggle/test/lab"
)

// TestDatapathLife ends processes in every way while packets flow: nothing of a flow is
// lost, no new connection fails, and no container is started again.
func TestDatapathLife(t *testing.T) {
	t.Parallel()
	c := newClusterIn(t, lab.Topology{Client: true})
	l := &life{server: c.up()}
	l.network = c.network()
	l.web = c.clusterIPs("web")
	for _, step := range []struct {
		name string
		run  func(l *life)
		// long is for what takes so long that the cluster takes the node for not ready:
		// new connections are refused then, and those that are there go on.
		long bool
	}{
		{"kill -9 waggled", killed("waggled"), false}, {"kill -9 node", killed("node"), false},
		{"kill -9 control-plane", killed("control-plane"), false}, {"kill -9 containerd", killed("containerd"), false},
		{"kill -9 supervisor", (*life).killSupervisor, false}, {"nobody looks after waggled", (*life).orphan, true},
		{"stop and start", (*life).restart, false}, {"all at once", (*life).killAll, false},
		{"an API that hangs", (*life).hangingAPI, false}, {"no API at the start", (*life).noAPI, false},
		{"no waggled", (*life).withoutDaemon, true},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			sub := *l
			sub.network = l.network.in(t)
			before := sub.containers()
			traffic := sub.connections()
			if !step.long {
				traffic = append(traffic, sub.traffic()...)
			}
			step.run(&sub)
			l.server = sub.server
			sub.ready()
			endAll(t, traffic)
			if after := sub.containers(); after != before {
				t.Errorf("containers were\n%sand are\n%s", before, after)
			}
		}) {
			break // what follows would not start from where it should
		}
	}
}

// life is a server whose processes end.
type life struct {
	*network
	server *lab.Process
	web    []netip.Addr // a service's addresses, known without asking
}

// connections are there before, and go on: between pods, by a service, from the node's
// network and from outside.
func (l *life) connections() (flows []*flow) {
	web, node := l.podIPs("web-a"), l.host.Addrs()
	for i := range node {
		flows = append(flows,
			l.pod.flow(l.t, talk.TCP, at(web[i], 9000)), l.pod.flow(l.t, talk.TCP, at(l.web[i], 9000)),
			l.hostPod.flow(l.t, talk.TCP, at(l.web[i], 9000)), l.outside.flow(l.t, talk.TCP, at(node[i], 30900)))
	}
	return flows
}

// traffic is datagrams, and ever new connections.
func (l *life) traffic() (flows []*flow) {
	web, node := l.podIPs("web-a"), l.host.Addrs()
	for i := range node {
		to, port := at(l.web[i], 9000), at(node[i], 30900)
		flows = append(flows,
			l.pod.flow(l.t, talk.UDP, at(web[i], 9000)), l.pod.flow(l.t, talk.UDP, to), l.outside.flow(l.t, talk.UDP, port),
			l.pod.flow(l.t, talk.Connect, to), l.node.flow(l.t, talk.Connect, to), l.outside.flow(l.t, talk.Connect, port))
	}
	return flows
}

// newPod is one that comes now, and reaches and is reached.
func (l *life) newPod() {
	l.t.Helper()
	l.kubectl("run", "late", "--image=waggle.dev/test/agent:1", `--overrides={"spec":{"terminationGracePeriodSeconds":1}}`)
	p := l.readyPod("late")
	for i, a := range l.web {
		p.works(l.t, talk.TCP, at(a, 9000))
		l.pod.works(l.t, talk.TCP, at(p.ips[i], 9000))
	}
	l.kubectl("delete", "pod", "late")
}

// signal sends a signal to a process of the server.
func (l *life) signal(name string, s unix.Signal) {
	l.t.Helper()
	if err := unix.Kill(l.processes()[name], s); err != nil {
		l.t.Fatalf("signal %s: %v", name, err)
	}
}

// another waits until a process has a successor.
func (l *life) another(name string, was int) {
	l.t.Helper()
	l.eventually("another "+name, func() error {
		now, err := l.tryProcesses()
		if err == nil && (now[name] == was || now[name] == 0) {
			err = fmt.Errorf("%s is process %d, and was %d", name, now[name], was)
		}
		return err
	})
}

// killed ends one process.
func killed(name string) func(l *life) {
	return func(l *life) {
		was := l.processes()[name]
		l.signal(name, unix.SIGKILL)
		l.another(name, was)
		l.ready()
		if name == "containerd" {
			l.newPod() // its plugin was asked what there is
		}
	}
}

func (l *life) killSupervisor() {
	was := l.processes()
	if err := l.server.Kill(); err != nil {
		l.t.Fatal(err)
	}
	l.server = l.start()
	l.ready()
	if now := l.processes()["waggled"]; now != was["waggled"] {
		l.t.Errorf("waggled was %d and is %d: it was not adopted", was["waggled"], now)
	}
}

// restart stops the server as systemd does, and starts it again.
func (l *life) restart() {
	l.kube("stop")
	l.eventually("the end of the supervisor", func() error {
		if l.server.Running() {
			return errors.New("it runs")
		}
		return nil
	})
	l.server = l.start()
}

func (l *life) killAll() {
	for _, pid := range l.processes() {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			l.t.Fatal(err)
		}
	}
	_ = l.server.Wait(l.t.Context()) // killed, as it says
	l.server = l.start()
	l.ready()
	l.newPod()
}

// orphan: pods go while neither the daemon runs nor who would start it.
func (l *life) orphan() {
	l.kubectl("run", "orphan", "--image=waggle.dev/test/agent:1", `--overrides={"spec":{"terminationGracePeriodSeconds":1}}`)
	l.readyPod("orphan")
	e := l.endpointOf("orphan")
	waggled := l.processes()["waggled"]
	if err := l.server.Kill(); err != nil {
		l.t.Fatal(err)
	}
	if err := unix.Kill(waggled, unix.SIGKILL); err != nil {
		l.t.Fatal(err)
	}
	l.kubectl("delete", "pod", "orphan")
	if slices.Contains(l.devices(), e.HostDevice) {
		l.t.Errorf("the device %s of a pod that was deleted without a daemon is there", e.HostDevice)
	}
	l.server = l.start()
	l.ready()
	if e := l.endpointOf("orphan"); e != nil {
		l.t.Errorf("of a pod that was deleted without a daemon there is %+v", e)
	}
}

// hangingAPI: the API server takes connections and says nothing, and the daemon starts
// meanwhile. What was programmed stays, though the daemon knows nothing yet.
func (l *life) hangingAPI() {
	known, err := os.ReadFile(l.data("waggled/apiservers.json"))
	if err != nil || !strings.Contains(string(known), l.host.IPv4.String()) {
		l.t.Errorf("the API servers that were learned: %v %s", err, known)
	}
	was := l.processes()
	l.signal("control-plane", unix.SIGSTOP)
	if err := unix.Kill(was["waggled"], unix.SIGKILL); err != nil {
		l.t.Fatal(err)
	}
	l.waits()
	l.asBefore()
	if err := unix.Kill(was["control-plane"], unix.SIGKILL); err != nil {
		l.t.Fatal(err)
	}
	l.another("control-plane", was["control-plane"])
	l.ready()
	l.newPod()
}

// noAPI: everything starts anew, but a control plane never comes.
func (l *life) noAPI() {
	for _, pid := range l.processes() {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			l.t.Fatal(err)
		}
	}
	_ = l.server.Wait(l.t.Context()) // killed, as it says
	l.server = l.start(`components: {scheduler: {no-such-flag: "1"}}`)
	l.waits()
	l.asBefore()
	if err := l.server.Kill(); err != nil {
		l.t.Fatal(err)
	}
	l.server = l.start()
}

// waits waits until the daemon says what it waits for.
func (l *life) waits() {
	l.t.Helper()
	l.eventually("the daemon to say what it waits for", func() error {
		s, err := l.daemonStatus()
		if err != nil {
			return err
		}
		var text strings.Builder
		for _, p := range s.Problems {
			fmt.Fprintf(&text, "%s: %s -> %s\n", p.Component, p.Message, p.Remedy)
		}
		if s.Ready || !strings.Contains(text.String(), "waiting for the cluster's API") || len(s.Services) == 0 || len(s.Endpoints) == 0 {
			return fmt.Errorf("ready %v, %d services, %d endpoints, problems:\n%s", s.Ready, len(s.Services), len(s.Endpoints), text.String())
		}
		return nil
	})
}

// asBefore: services are as they were.
func (l *life) asBefore() {
	l.t.Helper()
	for i, a := range l.web {
		for _, p := range l.places() {
			p.names(l.t, talk.HTTP, at(a, 80), "web-a", "web-b")
		}
		l.outside.names(l.t, talk.HTTP, at(l.host.Addrs()[i], 30080), "web-a", "web-b")
	}
}

// withoutDaemon: nobody starts waggled again. The node says so, and a pod waits.
func (l *life) withoutDaemon() {
	waggled := l.processes()["waggled"]
	if err := l.server.Kill(); err != nil {
		l.t.Fatal(err)
	}
	if err := unix.Kill(waggled, unix.SIGKILL); err != nil {
		l.t.Fatal(err)
	}
	l.kubectl("run", "patient", "--image=waggle.dev/test/agent:1", `--overrides={"spec":{"terminationGracePeriodSeconds":1}}`)
	const why = "waggled is not running on this node"
	l.eventually("the event of a pod that waits", func() error {
		events := l.kubectl("get", "events", "--field-selector=involvedObject.name=patient", "-o", "jsonpath={.items[*].message}")
		if !strings.Contains(events, why) {
			return fmt.Errorf("events: %s", events)
		}
		return nil
	})
	l.eventually("the node's condition", func() error {
		got := l.kubectl("get", "node", l.host.Name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")]}`)
		if !strings.Contains(got, `"False"`) || !strings.Contains(got, why) {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
	l.server = l.start()
	l.readyPod("patient")
	l.kubectl("delete", "pod", "patient")
}
