// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCluster is what one cluster is asked for, in the order of what it costs: one
// that starts is dear.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.up("audit: {enabled: true}")
	for _, part := range []struct {
		name string
		run  func(t *testing.T, c *cluster)
	}{
		{"Version", version}, {"Files", files}, {"Access", access}, {"Node", nodeIdentity},
		{"SecretsAtRest", secretsAtRest}, {"AuditLog", auditLog}, {"Metrics", metrics}, {"DNS", dnsNames},
		{"Workloads", workloads}, {"Kubectl", kubectlVerbs}, {"Ctr", ctr}, {"Snapshot", snapshot},
	} {
		t.Run(part.name, func(t *testing.T) {
			sub := *c
			sub.t = t
			part.run(t, &sub)
		})
	}
}

func version(t *testing.T, c *cluster) {
	var v struct {
		ClientVersion, ServerVersion struct{ GitVersion string }
	}
	if err := json.Unmarshal([]byte(c.kubectl("version", "-o", "json")), &v); err != nil {
		t.Fatal(err)
	}
	kubelet := c.kubectl("get", "node", c.host.Name, "-o", "jsonpath={.status.nodeInfo.kubeletVersion}")
	runtime := c.kubectl("get", "node", c.host.Name, "-o", "jsonpath={.status.nodeInfo.containerRuntimeVersion}")
	for what, got := range map[string]string{"client": v.ClientVersion.GitVersion, "server": v.ServerVersion.GitVersion, "kubelet": kubelet} {
		if got != "v1.36.4" {
			t.Errorf("%s says that it is %s", what, got)
		}
	}
	if runtime != "containerd://2.4.2" {
		t.Errorf("the runtime says that it is %s", runtime)
	}
}

// files looks for keys that others can read, and for files where none should be.
func files(t *testing.T, c *cluster) {
	seen := 0
	err := filepath.WalkDir(c.data(""), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, others := range []string{"containerd", "kubelet"} { // what is in images and pods is not ours
			if path == c.data(others) {
				return fs.SkipDir
			}
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(text, []byte("PRIVATE KEY")) || strings.Contains(path, "/kubeconfig/") || strings.HasSuffix(path, "encryption.yaml") {
			seen++
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 15 {
		t.Errorf("found %d files with keys only: were they moved?", seen)
	}
}

func auditLog(t *testing.T, c *cluster) {
	c.kubectl("create", "configmap", "audited")
	c.eventually("the audit log", func() error {
		text, err := os.ReadFile(c.data("log/audit.log"))
		if err != nil {
			return err
		}
		for line := range bytes.Lines(text) {
			var e struct {
				Verb      string
				ObjectRef struct{ Resource, Name string }
				User      struct{ Username string }
			}
			if err := json.Unmarshal(line, &e); err != nil {
				continue // the last line may be half written
			}
			if e.ObjectRef.Name == "audited" && e.Verb == "create" && e.User.Username == "kubernetes-admin" {
				return nil
			}
		}
		return fmt.Errorf("nobody has created the config map")
	})
}

// workloads runs what the documentation of Kubernetes has an example of.
func workloads(t *testing.T, c *cluster) {
	c.apply("workloads.yaml")
	c.kubectl("rollout", "status", "deployment/web", fmt.Sprintf("--timeout=%v", patience))
	c.kubectl("rollout", "status", "statefulset/db", fmt.Sprintf("--timeout=%v", patience))
	c.kubectl("rollout", "status", "daemonset/agent", fmt.Sprintf("--timeout=%v", patience))
	c.wait("condition=complete", "job/indexed", "job/steps")
	c.wait("condition=ready", "pod/sidecar", "pod/guaranteed", "pod/host", "pod/volumes", "pod/static-volume")
	c.kubectl("create", "job", "once", "--from=cronjob/hourly")
	c.wait("condition=complete", "job/once")

	for pod, want := range map[string]string{"guaranteed": "Guaranteed", "sidecar": "BestEffort", "volumes": "Burstable"} {
		if got := c.kubectl("get", "pod", pod, "-o", "jsonpath={.status.qosClass}"); got != want {
			t.Errorf("pod %s is %s, want %s", pod, got, want)
		}
	}
	if got := c.kubectl("get", "pod", "host", "-o", "jsonpath={.status.podIPs[*].ip}"); got != fmt.Sprintf("%v %v", c.host.IPv4, c.host.IPv6) {
		t.Errorf("the pod of the host network has addresses %s", got)
	}
	ips := strings.Fields(c.kubectl("get", "pod", "guaranteed", "-o", "jsonpath={.status.podIPs[*].ip}"))
	if len(ips) != 2 || !strings.HasPrefix(ips[0], "10.244.") || !strings.HasPrefix(ips[1], "fd00:10:244:") {
		t.Errorf("a pod has addresses %v, want one of each family", ips)
	}
	if got := c.kubectl("logs", "volumes"); strings.TrimSpace(got) != "from a config map, from a secret, volumes, node1" {
		t.Errorf("the pod with volumes said %q", got)
	}
	if got := c.kubectl("logs", "job/steps", "-c", "last"); strings.TrimSpace(got) != "first second" {
		t.Errorf("containers that run one after the other left %q", got)
	}
	// A container that fails its liveness probe is started again.
	c.eventually("the probe", func() error {
		if n := c.kubectl("get", "pod", "unhealthy", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"); n == "" || n == "0" {
			return fmt.Errorf("%q restarts", n)
		}
		return nil
	})
	// So is one that uses more memory than it may.
	c.eventually("the limit of memory", func() error {
		reason := c.kubectl("get", "pod", "greedy", "-o", "jsonpath={.status.containerStatuses[0].lastState.terminated.reason}{.status.containerStatuses[0].state.terminated.reason}")
		if !strings.Contains(reason, "OOMKilled") {
			return fmt.Errorf("ended by %q", reason)
		}
		return nil
	})
	// A new version rolls out, and back.
	c.kubectl("set", "env", "deployment/web", "VERSION=2")
	c.kubectl("rollout", "status", "deployment/web", fmt.Sprintf("--timeout=%v", patience))
	c.kubectl("rollout", "undo", "deployment/web")
	c.kubectl("rollout", "status", "deployment/web", fmt.Sprintf("--timeout=%v", patience))
}

// kubectlVerbs uses what goes through the API server to the kubelet.
func kubectlVerbs(t *testing.T, c *cluster) {
	if got := c.kubectl("exec", "guaranteed", "--", "sh", "-c", "echo $((6*7))"); strings.TrimSpace(got) != "42" {
		t.Errorf("exec said %q", got)
	}
	if out, err := c.tryKubectl("exec", "guaranteed", "--", "sh", "-c", "exit 7"); err == nil || !strings.Contains(err.Error()+out, "7") {
		t.Errorf("exec of what exits with 7: %v, %s", err, out)
	}
	file := filepath.Join(t.TempDir(), "copied")
	if err := os.WriteFile(file, []byte("through tar"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.kubectl("cp", file, "guaranteed:/tmp/copied")
	if got := c.kubectl("exec", "guaranteed", "--", "cat", "/tmp/copied"); got != "through tar" {
		t.Errorf("copied %q", got)
	}
	if got := c.kubectl("get", "--raw", "/api/v1/nodes/"+c.host.Name+"/proxy/stats/summary"); !strings.Contains(got, `"podRef"`) {
		t.Errorf("the kubelet's statistics name no pod: %.200s", got)
	}
}

func ctr(t *testing.T, c *cluster) {
	pods := c.kube("ctr", "pods")
	for _, name := range []string{"guaranteed", "sidecar", "host"} {
		if !strings.Contains(pods, name) {
			t.Errorf("ctr pods does not list %s:\n%s", name, pods)
		}
	}
	if got := c.kube("ctr", "images"); !strings.Contains(got, "waggle.dev/pause") || !strings.Contains(got, "waggle.dev/test/agent") {
		t.Errorf("ctr images:\n%s", got)
	}
}

func snapshot(t *testing.T, c *cluster) {
	c.kubectl("create", "configmap", "before")
	c.kube("snapshot", "save")
	list := c.kube("snapshot", "list")
	saved, err := filepath.Glob(c.data("snapshots/*"))
	if err != nil || len(saved) != 1 || !strings.Contains(list, filepath.Base(saved[0])) {
		t.Fatalf("snapshots %v (%v), listed as:\n%s", saved, err, list)
	}
	if out, err := c.tryKube("snapshot", "restore", "/var/lib/waggle-kube/snapshots/"+filepath.Base(saved[0]), "--force"); err == nil {
		t.Fatalf("restored below a server that runs:\n%s", out)
	}
	c.kubectl("create", "configmap", "after")
	c.kube("stop")
	c.kube("snapshot", "restore", "/var/lib/waggle-kube/snapshots/"+filepath.Base(saved[0]), "--force")
	c.start("audit: {enabled: true}")
	c.ready()
	have := strings.Fields(c.kubectl("get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"))
	if !slices.Contains(have, "before") || slices.Contains(have, "after") {
		t.Errorf("after the restore there are %v", have)
	}
}
