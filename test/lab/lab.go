// SPDX-License-Identifier: Apache-2.0

package lab

// Lab is a running topology. It holds no resources: any number of processes may
// Open the same lab.
type Lab struct {
	Topology

	nodes          []*Host
	router, client *Host
}

// Open returns the running lab of that name.
func Open(name string) (*Lab, error) {
	if name == "" {
		name = defaultName
	}
	t, err := loadState(name)
	if err != nil {
		return nil, err
	}
	return plan(t), nil
}

// Nodes returns node1, node2 and so on.
func (l *Lab) Nodes() []*Host { return l.nodes }

// Router returns the host that joins the racks.
func (l *Lab) Router() *Host { return l.router }

// Client returns the outside client, or nil if the topology has none.
func (l *Lab) Client() *Host { return l.client }

// Hosts returns the router, the nodes and the client if there is one.
func (l *Lab) Hosts() []*Host {
	hosts := append([]*Host{l.router}, l.nodes...)
	if l.client != nil {
		hosts = append(hosts, l.client)
	}
	return hosts
}

// Host returns the host of that name, or nil.
func (l *Lab) Host(name string) *Host {
	for _, h := range l.Hosts() {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Dir is the lab's folder: a tmpfs that Down removes with all that is in it.
func (l *Lab) Dir() string { return labDir(l.Name) }

// CgroupRoot is the parent of all hosts' cgroups.
func (l *Lab) CgroupRoot() string { return labCgroup(l.Name) }
