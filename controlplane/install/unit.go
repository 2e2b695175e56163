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
Wants=network-online.target
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

// files in the order in which they are written: the unit last, as it is what makes
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
		file{path: UnitFile, mode: 0o644, text: fmt.Sprintf(unitText, program, o.ConfigFile)},
	)
}
