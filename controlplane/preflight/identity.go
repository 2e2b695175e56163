// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/validation"
)

// clock compares with the time at which this program was built: certificates made
// in the past are not valid yet when the clock is set, or expired already.
func (p *probe) clock(context.Context) []Finding {
	const layout = "2006-01-02 15:04 MST"
	now := p.now().UTC()
	if now.Before(p.Built) {
		return fail("set it (timedatectl set-time, or have NTP set it at boot), then start again",
			"the clock says %s, but this program is of %s", now.Format(layout), p.Built.UTC().Format(layout))
	}
	synced, err := p.clockSynced()
	if err != nil || !synced {
		return warn("run an NTP client (systemd-timesyncd, chrony)", "the clock says %s, and nothing synchronises it: certificates and leases depend on it", now.Format(layout))
	}
	return ok("%s, synchronised", now.Format(layout))
}

func clockSynced() (bool, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, err
}

func (p *probe) nodeName(context.Context) []Finding {
	const remedy = "set nodeName, or the host name (hostnamectl set-hostname NAME)"
	name := p.NodeName
	if name == "" {
		text, _ := p.read("proc/sys/kernel/hostname")
		name = strings.ToLower(text)
	}
	if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
		return fail(remedy, "%q cannot be the name of a node: use at most 253 lower case letters, digits, '-' and '.', a letter or digit first and last", name)
	}
	if name == "localhost" || strings.HasPrefix(name, "localhost.") {
		return warn(remedy, "the node is called %s, as the next one will be: names must differ in a cluster", name)
	}
	return ok("%s", name)
}

// machineID tells machines apart in the kubelet's eyes.
func (p *probe) machineID(context.Context) []Finding {
	id, _ := p.read("etc/machine-id")
	if id == "" || id == "uninitialized" {
		return warn("systemd-machine-id-setup, or dbus-uuidgen --ensure=/etc/machine-id", "/etc/machine-id is absent or empty: the node has no machine id")
	}
	uuid, _ := p.read("sys/class/dmi/id/product_uuid")
	switch strings.ToLower(uuid) {
	case "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "03000200-0400-0500-0006-000700080009":
		return warn("set it in the firmware, or in the hypervisor's configuration", "the firmware's product_uuid %s is that of many machines", uuid)
	}
	return ok("%s", id)
}
