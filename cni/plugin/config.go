// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/waggle-net/waggle/cni/protocol"
)

// pluginType is our type in a network configuration, and our file's name.
const pluginType = "waggle-cni"

// ownKeys are the keys that mean something to us alone.
var ownKeys = []string{"socket"}

// commonKeys are CNI's own, those that runtimes inject among them.
var commonKeys = []string{
	"args", "capabilities", "cni.dev/attachments", "cni.dev/valid-attachments", "cniVersion",
	"dns", "ipam", "name", "prevResult", "runtimeConfig", "type",
}

// conf is our part of a network configuration.
type conf struct {
	types.PluginConf
	// Socket is where waggled listens; protocol.DefaultSocket if empty.
	Socket string `json:"socket"`
	// keys are the keys that are there.
	keys map[string]json.RawMessage
}

// parse reads the configuration. Strict refuses what we do not know; it is not
// for the verbs that clean up, which must work whatever became of the file
// after ADD.
func parse(data []byte, strict bool) (*conf, error) {
	c := &conf{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("parse network configuration: %v", err),
			"check the file in the CNI configuration directory, usually /etc/cni/net.d")
	}
	if err := json.Unmarshal(data, &c.keys); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("parse network configuration: %v", err), "")
	}
	if strict {
		if err := c.checkKeys(); err != nil {
			return nil, err
		}
	}
	if c.Socket == "" {
		c.Socket = protocol.DefaultSocket
	}
	if !filepath.IsAbs(c.Socket) {
		return nil, types.NewError(types.ErrInvalidNetworkConfig,
			fmt.Sprintf("network configuration: socket %q is not an absolute path", c.Socket),
			"write the path that waggled listens on, usually "+protocol.DefaultSocket)
	}
	return c, nil
}

// checkKeys finds unknown keys. The specification wants key and value named.
func (c *conf) checkKeys() error {
	var unknown []string
	for k, v := range c.keys {
		if !slices.Contains(ownKeys, k) && !slices.Contains(commonKeys, k) {
			unknown = append(unknown, fmt.Sprintf("%q: %s", k, compact(v)))
		}
	}
	slices.Sort(unknown)
	if len(unknown) > 0 {
		return types.NewError(types.ErrUnsupportedField,
			fmt.Sprintf("network configuration: %s does not know %s", pluginType, strings.Join(unknown, ", ")),
			"remove it; the only key of our own is "+strings.Join(ownKeys, ", ")+", everything else is set for waggled")
	}
	if c.IPAM.Type != "" {
		return types.NewError(types.ErrUnsupportedField,
			fmt.Sprintf("network configuration: %s does not use an IPAM plugin, got \"ipam\": %s", pluginType, compact(c.keys["ipam"])),
			"remove \"ipam\": waggled gives out addresses of the node's pod CIDRs")
	}
	return nil
}

// compact gives a value as it fits a message.
func compact(v json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, v) != nil {
		return string(v)
	}
	if s := b.String(); len(s) <= 80 {
		return s
	}
	return b.String()[:77] + "..."
}

// prevResult gives the result of ADD that CHECK gets, or nil.
func (c *conf) prevResult() (*types100.Result, error) {
	if c.RawPrevResult == nil {
		return nil, nil
	}
	if err := version.ParsePrevResult(&c.PluginConf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("network configuration: %v", err), "")
	}
	r, err := types100.NewResultFromResult(c.PrevResult)
	if err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("network configuration: prevResult: %v", err), "")
	}
	return r, nil
}

// valid gives the attachments that GC must keep. Without the key, nobody said
// that there are none.
func (c *conf) valid() ([]protocol.Attachment, error) {
	_, current := c.keys["cni.dev/valid-attachments"]
	list := c.ValidAttachments
	if old, ok := c.keys["cni.dev/attachments"]; ok && !current {
		// The specification's name until 1.1.0 was corrected.
		if err := json.Unmarshal(old, &list); err != nil {
			return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("network configuration: cni.dev/attachments: %v", err), "")
		}
	} else if !current {
		return nil, types.NewError(types.ErrInvalidNetworkConfig,
			"network configuration: GC without \"cni.dev/valid-attachments\"", "the runtime must list the attachments to keep")
	}
	var out []protocol.Attachment
	for _, a := range list {
		out = append(out, protocol.Attachment{ContainerID: a.ContainerID, IfName: a.IfName})
	}
	return out, nil
}
