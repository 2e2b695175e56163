// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	apitest "k8s.io/cri-api/pkg/apis/testing"
	"k8s.io/kubelet/pkg/types"
)

// full makes an id of the usual length that begins so.
func full(prefix string) string { return prefix + strings.Repeat("0", 64-len(prefix)) }

// Ids: two pods begin alike, and so do two containers.
var (
	webPod, dnsPod, oddPod  = full("a1b2c3"), full("a1b2ff"), full("c0ffee")
	webNow, webOnce, dnsNow = full("11aa22"), full("11aa33"), full("22bb")
	oddNow                  = full("33cc")
	webImage, dnsImage      = "sha256:" + full("feed01"), "sha256:" + full("feed02")
	pauseImage, bareImage   = "sha256:" + full("0badcafe"), "sha256:" + full("0dd")
)

// newFilledNode has pods, containers and images of every kind.
func newFilledNode(t *testing.T) *node {
	t.Helper()
	n := newNode(t)
	n.RuntimeService.SetFakeSandboxes([]*apitest.FakePodSandbox{
		pod(webPod, "default", "web-0", 5*time.Minute, "192.0.2.10", "2001:db8::10"),
		pod(dnsPod, "kube-system", "coredns-x7k2p", 3*time.Hour),
		// Made by another client than the kubelet, and before the clock was set back.
		pod(oddPod, "ünï", "パン\tcol\x1b[31m", -time.Hour),
	})
	s := n.RuntimeService.Sandboxes
	s[dnsPod].State = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	s[dnsPod].Metadata.Attempt = 2
	s[oddPod].RuntimeHandler = "kata"
	n.RuntimeService.SetFakeContainers([]*apitest.FakeContainer{
		container(webNow, webPod, "web", 4*time.Minute, webImage),
		container(webOnce, webPod, "web", 5*time.Minute, webImage),
		container(dnsNow, dnsPod, "coredns", 3*time.Hour, dnsImage),
		container(oddNow, oddPod, "naïve", 26*time.Hour, bareImage),
	})
	for id, c := range n.RuntimeService.Containers {
		p := s[c.SandboxID]
		c.Labels = map[string]string{types.KubernetesPodNameLabel: p.Metadata.Name, types.KubernetesPodNamespaceLabel: p.Metadata.Namespace}
		c.LogPath = filepath.Join(n.layout.Data, id+".log")
	}
	c := n.RuntimeService.Containers
	c[webNow].Metadata.Attempt = 1
	c[webNow].Image.UserSpecifiedImage = "registry.example/web:1"
	c[dnsNow].Image.UserSpecifiedImage = "registry.k8s.io/coredns/coredns:v1.14.7"
	c[webOnce].State = runtimeapi.ContainerState_CONTAINER_EXITED
	c[webOnce].FinishedAt, c[webOnce].ExitCode, c[webOnce].Reason = c[webOnce].CreatedAt+int64(time.Minute), 137, "OOMKilled"
	c[webOnce].LogPath = ""
	n.fillImages()
	// The kubelet names an image by its digest where it was pulled by it.
	c[dnsNow].ImageRef = n.ImageService.Images[dnsImage].RepoDigests[0]
	n.fillLogs(t)
	return n
}

func pod(id, namespace, name string, age time.Duration, addrs ...string) *apitest.FakePodSandbox {
	p := &apitest.FakePodSandbox{PodSandboxStatus: runtimeapi.PodSandboxStatus{
		Id:        id,
		Metadata:  &runtimeapi.PodSandboxMetadata{Name: name, Namespace: namespace, Uid: "uid-of-" + id[:6]},
		CreatedAt: now.Add(-age).UnixNano(),
		Labels:    map[string]string{"app": id[:4]},
		Network:   &runtimeapi.PodSandboxNetworkStatus{},
	}}
	for i, a := range addrs {
		if i == 0 {
			p.Network.Ip = a
		} else {
			p.Network.AdditionalIps = append(p.Network.AdditionalIps, &runtimeapi.PodIP{Ip: a})
		}
	}
	return p
}

func container(id, pod, name string, age time.Duration, image string) *apitest.FakeContainer {
	return &apitest.FakeContainer{SandboxID: pod, ContainerStatus: runtimeapi.ContainerStatus{
		Id:        id,
		Metadata:  &runtimeapi.ContainerMetadata{Name: name},
		State:     runtimeapi.ContainerState_CONTAINER_RUNNING,
		CreatedAt: now.Add(-age).UnixNano(),
		StartedAt: now.Add(-age + time.Second).UnixNano(),
		Image:     &runtimeapi.ImageSpec{Image: image},
		ImageRef:  image,
	}}
}

func (n *node) fillImages() {
	n.ImageService.Images = map[string]*runtimeapi.Image{}
	for _, i := range []*runtimeapi.Image{
		// The same image under two names, one of them with a registry's port.
		{Id: webImage, Size: 31_457_280, RepoTags: []string{"docker.io/library/web:latest", "[2001:db8::5]:5000/web:1"}},
		{Id: dnsImage, Size: 999, RepoDigests: []string{"registry.k8s.io/coredns/coredns@sha256:" + full("d1")}},
		{Id: pauseImage, Size: 12_345, RepoTags: []string{"waggle.local/pause:1"}, Pinned: true},
		{Id: bareImage, Size: 2_500_000_000},
		{Id: "sha256:" + full("01d"), Size: 0, RepoTags: []string{"registry.example/old:0"}}, // nobody uses it
	} {
		n.ImageService.Images[i.Id] = i
	}
}

func (n *node) fillLogs(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll(n.layout.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	text := strings.Join([]string{
		"2026-03-01T11:50:00.000000000Z stdout F first",
		"2026-03-01T11:58:00.000000000Z stderr F oh no",
		"2026-03-01T11:59:00.000000000Z stdout P half ",
		"2026-03-01T11:59:00.000000001Z stdout F a line",
		"2026-03-01T11:59:30.000000000Z stdout F grüße 🐝",
		"",
	}, "\n")
	if err := os.WriteFile(n.RuntimeService.Containers[webNow].LogPath, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
