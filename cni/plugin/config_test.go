// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/waggle-net/waggle/cni/protocol"
)

func wantError(t *testing.T, err error, code uint, want string) {
	t.Helper()
	var e *types.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Error(), want) {
		t.Errorf("error %#v, want code %d with %q", err, code, want)
	}
}

func TestParseConfiguration(t *testing.T) {
	const head = `"cniVersion":"1.1.0","name":"waggle","type":"waggle-cni"`
	for _, tc := range []struct {
		name, conf string
		code       uint
		want       string
	}{
		{"the usual", `{` + head + `}`, 0, ""},
		{"what runtimes inject", `{` + head + `,"args":{"cni":{}},"capabilities":{"portMappings":true},` +
			`"runtimeConfig":{"portMappings":[]},"dns":{},"ipam":{},"cni.dev/attachments":[],"cni.dev/valid-attachments":null}`, 0, ""},
		{"a socket", `{` + head + `,"socket":"/run/x.sock"}`, 0, ""},
		{"a relative socket", `{` + head + `,"socket":"x.sock"}`, types.ErrInvalidNetworkConfig, "not an absolute path"},
		{"a socket of the wrong type", `{` + head + `,"socket":1}`, types.ErrDecodingFailure, "socket"},
		{"an unknown key", `{` + head + `,"mtu":1400}`, types.ErrUnsupportedField, `"mtu": 1400`},
		{"two unknown keys", `{` + head + `,"mtu":1400,"bridge":"cni0"}`, types.ErrUnsupportedField, `"bridge": "cni0", "mtu": 1400`},
		{"a key in the wrong case", `{` + head + `,"Socket":"/run/x.sock"}`, types.ErrUnsupportedField, `"Socket"`},
		{"an IPAM plugin", `{` + head + `,"ipam":{"type":"host-local"}}`, types.ErrUnsupportedField, `{"type":"host-local"}`},
		{"not an object", `[]`, types.ErrDecodingFailure, "parse network configuration"},
		{"cut off", `{` + head, types.ErrDecodingFailure, "parse network configuration"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := parse([]byte(tc.conf), true)
			if tc.code == 0 && err != nil {
				t.Error(err)
			} else if tc.code != 0 {
				wantError(t, err, tc.code, tc.want)
			}
		})
	}
	// What came into the file after ADD must not keep pods from ending.
	if _, err := parse([]byte(`{`+head+`,"mtu":1400}`), false); err != nil {
		t.Errorf("DEL with an unknown key: %v", err)
	}
}

func TestGCNeedsItsList(t *testing.T) {
	for conf, want := range map[string][]protocol.Attachment{
		`{"cni.dev/valid-attachments":null}`:                                  nil,
		`{"cni.dev/valid-attachments":[]}`:                                    nil,
		`{"cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}]}`: {{ContainerID: "a", IfName: "eth0"}},
		`{"cni.dev/attachments":[{"containerID":"b","ifname":"eth0"}]}`:       {{ContainerID: "b", IfName: "eth0"}},
	} {
		c, err := parse([]byte(conf), false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.valid()
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v, -want +got:\n%s", conf, err, d)
		}
	}
	c, err := parse([]byte(`{}`), false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.valid()
	wantError(t, err, types.ErrInvalidNetworkConfig, "valid-attachments")
}

func TestParseArgs(t *testing.T) {
	for _, tc := range []struct {
		args string
		pod  protocol.Pod
		want string
	}{
		{"", protocol.Pod{}, ""},
		{"IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u;X=Y",
			protocol.Pod{Namespace: "ns", Name: "web", UID: "u"}, ""},
		{"X=Y;IgnoreUnknown=true", protocol.Pod{}, ""},
		{"K8S_POD_NAME=a=b;", protocol.Pod{Name: "a=b"}, ""},
		{"X=Y", protocol.Pod{}, "unknown X"},
		{"X=Y;IgnoreUnknown=0", protocol.Pod{}, "unknown X"},
		{"K8S_POD_NAME", protocol.Pod{}, "not KEY=VALUE"},
	} {
		pod, err := parseArgs(tc.args)
		switch {
		case tc.want != "":
			wantError(t, err, types.ErrInvalidEnvironmentVariables, tc.want)
		case err != nil || pod != tc.pod:
			t.Errorf("%q: %+v %v", tc.args, pod, err)
		}
	}
}

// Whatever the configuration is, there is an error with a code or a socket to
// connect to.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.1.0","name":"n","type":"waggle-cni","prevResult":{"cniVersion":"1.1.0"}}`))
	f.Add([]byte(`{"cniVersion":"0.3.1","prevResult":{"ips":[{"version":"4","address":"10.0.0.1/32"}]},"ipam":{"type":"x"}}`))
	f.Add([]byte(`{"cni.dev/attachments":[{}]}`))
	f.Fuzz(func(t *testing.T, conf []byte) {
		for _, strict := range []bool{true, false} {
			c, err := parse(conf, strict)
			var e *types.Error
			if err != nil && (!errors.As(err, &e) || e.Code == 0) {
				t.Fatalf("error %#v", err)
			}
			if err != nil {
				continue
			}
			if c.Socket == "" {
				t.Fatal("no socket")
			}
			c.valid()
			c.prevResult()
		}
	})
}
