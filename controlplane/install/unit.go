// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"path/filepath"
)

// Names below the prefix.
const (
	currentName  = "current"
	manifestName = "manifest.json"
)

// wantsFile is the link that systemctl enable makes.
const wantsFile = "/etc/systemd/system/multi-user.target.wants/" + UnitName

// KillMode and Delegate belong together: systemd leaves the processes of the
// cgroups below to their owner, and so pods, containerd and datapath outlive the
// supervisor. %s: program, configuration.
const unitText = `# Written by waggle-kube install. To change it: systemctl edit waggle-kube
[Unit]
Description=waggle-kube, a compact Kubernetes
Wants=network-online.target waggle-kube-shutdown.service
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=%s server --config %s
Restart=always
RestartSec=2
TimeoutStartSec=infinity
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
`

// shutdownUnitText ends the pods when the machine does, and at no other time: it is
// started with the server, stays when that is stopped, and nobody can stop it by hand.
// What starts after it, and what it starts after, ends the other way round: first the
// server, which would start pods again, then the pods, then network and mounts.
// %[1]s: program, %[2]s: configuration. The grace is what a pod gets where it asks for
// no other.
const shutdownUnitText = `# Written by waggle-kube install. To change it: systemctl edit waggle-kube-shutdown
[Unit]
Description=waggle-kube: stop the pods before the machine shuts down
After=network.target network-online.target dbus.service
Before=waggle-kube.service
RefuseManualStop=yes

[Service]
Type=oneshot
RemainAfterExit=yes
Environment=WAGGLE_CONFIG=%[2]s
ExecStop=%[1]s stop --all --grace 30s
TimeoutStopSec=3min
LimitNOFILE=1048576
`

// Without it, the first thing that a shutdown does is to end all processes of all pods,
// by SIGTERM and 90 s later by SIGKILL, while the server runs and network and volumes
// are taken away. runc asks for the same, too late: systemd has loaded the slice by then.
const sliceText = `# Written by waggle-kube install: waggle-kube-shutdown.service ends what is in it.
[Unit]
DefaultDependencies=no
`

// A pod's device has the MAC address that its neighbour entries say: udev must not
// give it another one.
const linkText = `# Written by waggle-kube install.
[Match]
OriginalName=wag*

[Link]
MACAddressPolicy=none
`

const networkdText = `# Written by waggle-kube install.
[Match]
Name=wag*

[Link]
Unmanaged=yes
`

// Without it, networkd removes the routes to other nodes' pods whenever it starts.
const networkdConfText = `# Written by waggle-kube install.
[Network]
ManageForeignRoutes=no
ManageForeignRoutingPolicyRules=no
`

const networkManagerText = `# Written by waggle-kube install.
[keyfile]
unmanaged-devices+=interface-name:wag*
`

// files in the order in which they are written: the service last, as it is what makes
// a machine a node.
func (o *Options) files() []file {
	var files []file
	for _, name := range o.Programs {
		files = append(files, file{path: filepath.Join(o.Prefix, o.Version, name), mode: 0o755, source: filepath.Join(o.Source, name)})
	}
	program := filepath.Join(o.Prefix, currentName, o.Programs[0])
	return append(files,
		// It may hold credentials of registries.
		file{path: o.ConfigFile, mode: 0o600, text: string(o.Config)},
		file{path: LinkFile, mode: 0o644, text: linkText},
		file{path: NetworkdFile, mode: 0o644, text: networkdText},
		file{path: NetworkdConfFile, mode: 0o644, text: networkdConfText},
		file{path: NetworkManagerFile, mode: 0o644, text: networkManagerText},
		file{path: PodSliceFile, mode: 0o644, text: sliceText},
		file{path: PodSlicesFile, mode: 0o644, text: sliceText},
		file{path: ShutdownUnitFile, mode: 0o644, text: fmt.Sprintf(shutdownUnitText, program, o.ConfigFile)},
		file{path: UnitFile, mode: 0o644, text: fmt.Sprintf(unitText, program, o.ConfigFile)},
	)
}
