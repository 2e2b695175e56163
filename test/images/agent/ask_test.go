// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/waggle-net/waggle/test/await"
	"github.com/waggle-net/waggle/test/images/agent/talk"
)

// servers are those of one agent, at ports that are free.
func servers(t *testing.T) (echo, who, web string) {
	t.Helper()
	echo, who, web = freePort(t, "tcp"), freePort(t, "udp"), freePort(t, "tcp")
	ctx, exit := context.WithCancelCause(t.Context())
	for _, serve := range []func() error{
		func() error { return echoTCP(ctx, ":"+echo) }, func() error { return echoUDP(ctx, ":"+echo) },
		func() error { return whoUDP(ctx, ":"+who) }, func() error { return newHandler(exit).serve(ctx, ":"+web) },
	} {
		ended := make(chan error, 1)
		go func() { ended <- serve() }()
		t.Cleanup(func() {
			exit(nil)
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	return echo, who, web
}

func TestAsk(t *testing.T) {
	t.Setenv("AGENT_NAME", "somebody")
	echo, who, web := servers(t)
	for _, host := range []string{"127.0.0.1", "::1"} {
		for kind, port := range map[string]string{
			talk.TCP: echo, talk.UDP: echo, talk.Sent: echo, talk.Who: who, talk.HTTP: web, talk.HTTP + map[bool]string{true: "6", false: "4"}[host == "::1"]: web,
		} {
			to := net.JoinHostPort(host, port)
			await.Until(t, func() error { return talk.Ask(t.Context(), kind, to, 1).Err() })
			a := talk.Ask(t.Context(), kind, to, 10_000)
			if a.Error != "" {
				t.Errorf("%s at %s: %s", kind, to, a.Error)
			}
			if named := kind == talk.Who || strings.HasPrefix(kind, talk.HTTP); named && (a.Name != "somebody" || !strings.HasPrefix(a.Caller, strings.TrimSuffix(to, port))) {
				t.Errorf("%s at %s: %+v", kind, to, a)
			}
		}
	}
	nobody := net.JoinHostPort("127.0.0.1", freePort(t, "tcp"))
	if a := talk.Ask(t.Context(), talk.TCP, nobody, 1); a.Error != "ECONNREFUSED" {
		t.Errorf("nobody answers: %+v", a)
	}
	if a := talk.Ask(t.Context(), "smoke", nobody, 1); !strings.Contains(a.Error, "unknown kind") {
		t.Errorf("an unknown kind: %+v", a)
	}
}

// TestFlow: each kind of flow goes on until its end, and then says what was of it.
func TestFlow(t *testing.T) {
	echo, _, web := servers(t)
	_, exit := context.WithCancelCause(t.Context())
	control := httptest.NewServer(newHandler(exit).mux())
	t.Cleanup(control.Close)
	do := func(method string, query url.Values) (int, []byte) {
		req, err := http.NewRequestWithContext(t.Context(), method, control.URL+"/flow?"+query.Encode(), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var body bytes.Buffer
		if _, err := body.ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, bytes.TrimSpace(body.Bytes())
	}
	for kind, port := range map[string]string{talk.TCP: echo, talk.UDP: echo, talk.Connect: echo, talk.Request: web, talk.Kept: web} {
		var id string
		await.Until(t, func() error {
			code, body := do(http.MethodPost, url.Values{"kind": {kind}, "to": {"127.0.0.1:" + port}})
			if code != http.StatusOK {
				return talk.Answer{Error: string(body)}.Err()
			}
			id = string(body)
			return nil
		})
		_, body := do(http.MethodDelete, url.Values{"id": {id}})
		var r talk.Report
		if err := json.Unmarshal(body, &r); err != nil || r.Sent == 0 || r.Sent != r.Received || len(r.Errors) > 0 {
			t.Errorf("%s: %+v, %v", kind, r, err)
		}
	}
	if code, body := do(http.MethodPost, url.Values{"kind": {talk.TCP}, "to": {"127.0.0.1:" + freePort(t, "tcp")}}); code != http.StatusBadGateway {
		t.Errorf("a flow to nobody: %d %s", code, body)
	}
	if code, body := do(http.MethodDelete, url.Values{"id": {"99"}}); code != http.StatusNotFound {
		t.Errorf("the end of no flow: %d %s", code, body)
	}
}

func TestSmallAnswers(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, exit := context.WithCancelCause(t.Context())
	h := newHandler(exit)
	for _, tt := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/file?path=" + file, 200, "content"},
		{"GET", "/file?path=/nothing", 404, "no such file"},
		{"GET", "/ask?kind=tcp&to=192.0.2.1:1&size=x", 400, "size"},
		{"GET", "/lookup?kind=mx&name=a", 404, "kind must be"},
		{"POST", "/grpc.health.v1.Health/Check", 200, "\x00\x00\x00\x00\x02\x08\x01"},
		{"POST", "/healthz", 503, "sick"},
		{"POST", "/grpc.health.v1.Health/Check", 200, "\x00\x00\x00\x00\x02\x08\x02"},
	} {
		w := httptest.NewRecorder()
		h.mux().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, nil))
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %s: %d %q, want %d %q", tt.method, tt.path, w.Code, w.Body, tt.status, tt.want)
		}
	}
}
