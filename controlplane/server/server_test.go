// SPDX-License-Identifier: Apache-2.0

package server

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/storage/schema"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	cmapp "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	cmoptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	schedoptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"

	"github.com/waggle-net/waggle/controlplane/config"
	"github.com/waggle-net/waggle/controlplane/layout"
)

func testOptions(t *testing.T) *Options {
	t.Helper()
	return &Options{
		Layout: layout.Layout{Data: t.TempDir(), Run: t.TempDir()}, NodeName: "node1", Port: 6443,
		Addrs:        []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		PodCIDRs:     config.DefaultPodCIDRs(),
		ServiceCIDRs: config.DefaultServiceCIDRs(),
		NodeMaskIPv4: 24, NodeMaskIPv6: 64, NodePorts: "30000-32767", Domain: "cluster.local",
		SigningDuration: time.Hour,
		Etcd:            EtcdOptions{Heartbeat: 100 * time.Millisecond, Election: time.Second, Quota: 2 << 30},
		Audit:           &AuditOptions{Path: "/tmp/audit.log", MaxAge: 1, MaxBackups: 1, MaxSize: 1},
	}
}

// sets makes the flags of each component anew, as each may be parsed once.
func sets(t *testing.T) map[string]cliflag.NamedFlagSets {
	t.Helper()
	cm, err := cmoptions.NewKubeControllerManagerOptions()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]cliflag.NamedFlagSets{
		"apiserver":         options.NewServerRunOptions().Flags(),
		"controllerManager": cm.Flags(cmapp.KnownControllers(), cmapp.ControllersDisabledByDefault(), cmapp.ControllerAliases()),
		"scheduler":         *schedoptions.NewOptions().Flags,
	}
}

// tunable are flags that we set and a user may set otherwise.
var tunable = []string{
	"allow-privileged", "concurrent-gc-syncs", "controller-start-interval", "controllers", "kube-api-burst", "kube-api-qps",
	"enable-admission-plugins", // but not without NodeRestriction, see controlplane/config
	"kubelet-preferred-address-types", "profiling", "service-account-issuer", "shutdown-watch-termination-grace-period",
}

// What we set exists, and is refused from the user unless it is theirs to choose: or
// else a configuration could break a server in a way that nobody tells.
func TestFlagsAreOwned(t *testing.T) {
	o := testOptions(t)
	all := sets(t)
	for component, ours := range map[string]flags{
		"apiserver": apiServerFlags(o), "controllerManager": controllerManagerFlags(o), "scheduler": schedulerFlags(o),
	} {
		if err := ours.parse(component, all[component], nil); err != nil {
			t.Error(err)
		}
		for _, name := range slices.Sorted(maps.Keys(ours)) {
			_, owned := config.OwnedFlag(component, name)
			if owned == slices.Contains(tunable, name) {
				t.Errorf("%s --%s: owned %v, tunable %v", component, name, owned, slices.Contains(tunable, name))
			}
		}
	}
}

func TestExtraFlags(t *testing.T) {
	o := testOptions(t)
	for name, test := range map[string]struct {
		extra map[string]string
		want  string
	}{
		"known":   {map[string]string{"max-requests-inflight": "10"}, ""},
		"unknown": {map[string]string{"no-such-flag": "1"}, "components.apiserver: apiserver has no flag --no-such-flag"},
		"bad":     {map[string]string{"max-requests-inflight": "many"}, "components.apiserver: set --max-requests-inflight: "},
	} {
		t.Run(name, func(t *testing.T) {
			err := apiServerFlags(o).parse("apiserver", sets(t)["apiserver"], test.extra)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestNodeMasks(t *testing.T) {
	o := testOptions(t)
	f := controllerManagerFlags(o)
	if f["node-cidr-mask-size-ipv4"] != "24" || f["node-cidr-mask-size-ipv6"] != "64" || f["node-cidr-mask-size"] != "" {
		t.Errorf("both families: %v", f)
	}
	o.PodCIDRs = o.PodCIDRs[1:]
	f = controllerManagerFlags(o)
	if f["node-cidr-mask-size"] != "64" || f["node-cidr-mask-size-ipv6"] != "" {
		t.Errorf("IPv6 alone: %v", f)
	}
}

func TestBindAddress(t *testing.T) {
	o := testOptions(t)
	if got := bindAddress(o); got != "::" {
		t.Errorf("both families: %s", got)
	}
	o.Addrs = o.Addrs[:1]
	if got := bindAddress(o); got != "0.0.0.0" {
		t.Errorf("IPv4 alone: %s", got)
	}
}

// A family is of one component.
func TestScopes(t *testing.T) {
	for family, want := range map[string]string{
		"apiserver_request_total": "apiserver", "go_goroutines": "apiserver", "rest_client_requests_total": "apiserver",
		"workqueue_depth": "apiserver", "scheduler_pending_pods": "scheduler",
		"node_collector_zone_size": "controller-manager", "job_controller_pod_finished_total": "controller-manager",
	} {
		var got []string
		for name, s := range map[string]scope{"apiserver": ofAPIServer, "controller-manager": ofControllerManager, "scheduler": ofScheduler} {
			if s(family) {
				got = append(got, name)
			}
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s is of %v, want %s", family, got, want)
		}
	}
}

func TestEtcdFlags(t *testing.T) {
	o := testOptions(t)
	o.Flags.Etcd = map[string]string{"snapshot-count": "77"}
	c, err := etcdConfig(o)
	if err != nil {
		t.Fatal(err)
	}
	if c.SnapshotCount != 77 || c.QuotaBackendBytes != 2<<30 || !c.ClientTLSInfo.ClientCertAuth || !c.PeerTLSInfo.ClientCertAuth {
		t.Errorf("%+v", c)
	}
	o.Flags.Etcd = map[string]string{"no-such-flag": "1"}
	if _, err := etcdConfig(o); err == nil || !strings.HasPrefix(err.Error(), "components.etcd: set --no-such-flag") {
		t.Errorf("an unknown flag: %v", err)
	}
}

func TestStorageVersion(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "db")
	if err := checkStorageVersion(missing); err != nil {
		t.Errorf("no database: %v", err)
	}
	garbage := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkStorageVersion(garbage); err == nil || !strings.Contains(err.Error(), "snapshot restore") {
		t.Errorf("garbage: %v", err)
	}
	for version, want := range map[string]string{"": "", "3.6.0": "", "3.7.0": "is of version 3.7", "4.0.0": "is of version 4.0"} {
		path := filepath.Join(t.TempDir(), "db")
		writeDB(t, path, version)
		err := checkStorageVersion(path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("version %q: %v", version, err)
		}
	}
}

func writeDB(t *testing.T, path, version string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket(schema.Meta.Name())
		if err != nil || version == "" {
			return err
		}
		return b.Put(schema.MetaStorageVersionName, []byte(semver.New(version).String()))
	})
	if err != nil {
		t.Fatal(err)
	}
}
