// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/pkg/v3/featuregate"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/waggle-net/waggle/controlplane/snapshot"
)

// etcdHTTPURL is for health and metrics: where HTTP shares a port with gRPC, etcd
// serves both by Go's HTTP/2, whose scheduler lets one large answer hold up all
// watches.
const etcdHTTPURL = "https://127.0.0.1:2381"

// defragAtStart is how much space defragmenting must win to be done before etcd
// starts, in MB. It holds up the start, and the file is only copied.
const defragAtStart = 64

// startEtcd starts the cluster's only member and waits until it serves.
func startEtcd(ctx context.Context, o *Options) (*embed.Etcd, error) {
	if err := checkStorageVersion(filepath.Join(o.Layout.EtcdDir(), "member", "snap", "db")); err != nil {
		return nil, err
	}
	cfg, err := etcdConfig(o)
	if err != nil {
		return nil, err
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	again := time.NewTicker(electEvery)
	defer again.Stop()
	for {
		select {
		case <-e.Server.ReadyNotify():
			return e, nil
		case err := <-e.Err():
			e.Close()
			return nil, fmt.Errorf("start etcd: %w", err)
		case <-ctx.Done():
			e.Close()
			return nil, ctx.Err()
		case <-again.C:
			elect(ctx, e.Server)
		}
	}
}

// electEvery is how often the member is told to lead until it does. It does not listen
// before it has read its log.
const electEvery = 5 * time.Millisecond

// elect has the only member lead now. By itself it waits, for up to an election timeout
// after the one that etcd skips for a single member, whether somebody else leads. The
// message is that of a leader that steps down for it: who leads already, or has no vote
// yet, ignores it.
func elect(ctx context.Context, s *etcdserver.EtcdServer) {
	id := uint64(s.MemberID())
	if s.Leader() == 0 && len(s.Cluster().Members()) == 1 {
		_ = s.Process(ctx, raftpb.Message{Type: raftpb.MsgTimeoutNow, To: id, From: id}) // or else it elects itself later
	}
}

func etcdConfig(o *Options) (*embed.Config, error) {
	cfg := embed.NewConfig()
	// First, for it resets what has been set.
	set := flag.NewFlagSet("etcd", flag.ContinueOnError)
	cfg.AddFlags(set)
	cfg.Name = snapshot.EtcdName
	cfg.Dir = o.Layout.EtcdDir()
	client, peer := mustURL(snapshot.EtcdURL), mustURL(snapshot.EtcdPeerURL)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenClientHttpUrls = []url.URL{mustURL(etcdHTTPURL)}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	ca := o.Layout.PKI("etcd-ca.crt")
	cfg.ClientTLSInfo = tlsInfo(o.Layout.PKI("etcd-server.pem"), ca)
	cfg.PeerTLSInfo = tlsInfo(o.Layout.PKI("etcd-peer.pem"), ca)
	cfg.TickMs = uint(o.Etcd.Heartbeat.Milliseconds())
	cfg.ElectionMs = uint(o.Etcd.Election.Milliseconds())
	cfg.QuotaBackendBytes = o.Etcd.Quota
	cfg.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration // AddFlags made it none
	// Interrupted writes are found before anything is served.
	if err := cfg.ServerFeatureGate.(featuregate.MutableFeatureGate).Set("InitialCorruptCheck=true"); err != nil {
		return nil, fmt.Errorf("configure etcd: %w", err)
	}
	cfg.BootstrapDefragThresholdMegabytes = defragAtStart
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(etcdLogger())
	for _, name := range slices.Sorted(maps.Keys(o.Flags.Etcd)) {
		if err := set.Set(name, o.Flags.Etcd[name]); err != nil {
			return nil, fmt.Errorf("components.etcd: set --%s: %w", name, err)
		}
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure etcd: %w", err)
	}
	return cfg, nil
}

// tlsInfo reads both files again for each connection, so that a renewed certificate
// is used from then on.
func tlsInfo(pem, ca string) transport.TLSInfo {
	return transport.TLSInfo{CertFile: pem, KeyFile: pem, TrustedCAFile: ca, ClientCertAuth: true}
}

// etcdLogger writes warnings to the process's log, in one line each as klog does.
func etcdLogger() *zap.Logger {
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.ISO8601TimeEncoder
	core := zapcore.NewCore(zapcore.NewConsoleEncoder(enc), zapcore.Lock(os.Stderr), zapcore.WarnLevel)
	return zap.New(core).Named("etcd")
}

// checkStorageVersion refuses a database that a newer etcd wrote: etcd itself ends
// the process with a panic that names neither file nor remedy.
func checkStorageVersion(db string) error {
	if _, err := os.Stat(db); errors.Is(err, fs.ErrNotExist) {
		return nil // a first start
	} else if err != nil {
		return fmt.Errorf("read etcd's database: %w", err)
	}
	b, err := bbolt.Open(db, 0o600, &bbolt.Options{ReadOnly: true, Timeout: 5 * time.Second})
	if err != nil {
		return fmt.Errorf("open etcd's database %s: %w (is another etcd using it? if it is damaged, use waggle-kube snapshot restore --force)", db, err)
	}
	defer b.Close()
	return b.View(func(tx *bbolt.Tx) error {
		v := schema.ReadStorageVersionFromSnapshot(tx)
		if v == nil { // written by 3.5, which 3.6 converts
			return nil
		}
		ours := semver.New(version.Version)
		if ours.Major < v.Major || ours.Major == v.Major && ours.Minor < v.Minor {
			return fmt.Errorf("etcd's database %s is of version %d.%d, this etcd is %d.%d: install the version of waggle-kube that wrote it, or restore a snapshot",
				db, v.Major, v.Minor, ours.Major, ours.Minor)
		}
		return nil
	})
}

func mustURL(s string) url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return *u
}
