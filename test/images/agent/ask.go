// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"

	"github.com/waggle-net/waggle/test/images/agent/talk"
)

// name is who answers: pods of the host network share its name.
func name() string {
	host, _ := os.Hostname()
	return cmp.Or(os.Getenv("AGENT_NAME"), host)
}

func who(w http.ResponseWriter, r *http.Request) {
	a := talk.Answer{Name: name(), Caller: r.RemoteAddr}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		a.Server = talk.Unmap(local)
	}
	if remote, err := net.ResolveTCPAddr("tcp", r.RemoteAddr); err == nil {
		a.Caller = talk.Unmap(remote)
	}
	reply(w, a)
}

// whoUDP tells who it is, and who asks.
func whoUDP(ctx context.Context, address string) error {
	return serveUDP(ctx, address, func(_ []byte, from net.Addr) []byte {
		answer, _ := json.Marshal(talk.Answer{Name: name(), Caller: talk.Unmap(from)}) // strings only
		return answer
	})
}

func ask(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.Atoi(cmp.Or(r.FormValue("size"), "1"))
	if err != nil {
		http.Error(w, "size must be a number", http.StatusBadRequest)
		return
	}
	reply(w, talk.Ask(r.Context(), r.FormValue("kind"), r.FormValue("to"), size))
}

// lookup asks as programs do: by /etc/resolv.conf, with its search domains.
func lookup(w http.ResponseWriter, r *http.Request) {
	found, err := resolve(r.Context(), r.FormValue("kind"), r.FormValue("name"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	reply(w, found)
}

func resolve(ctx context.Context, kind, name string) ([]string, error) {
	resolver := &net.Resolver{PreferGo: true}
	switch kind {
	case "host":
		return resolver.LookupHost(ctx, name)
	case "cname":
		found, err := resolver.LookupCNAME(ctx, name)
		return []string{found}, err
	case "ptr":
		return resolver.LookupAddr(ctx, name)
	case "srv":
		_, records, err := resolver.LookupSRV(ctx, "", "", name)
		var found []string
		for _, srv := range records {
			found = append(found, net.JoinHostPort(srv.Target, strconv.Itoa(int(srv.Port))))
		}
		return found, err
	}
	return nil, fmt.Errorf("kind must be host, cname, ptr or srv")
}

// flows are those that were started and not ended yet. The zero value has none.
type flows struct {
	mu   sync.Mutex
	last int
	all  map[int]*talk.Flow
}

func (f *flows) start(w http.ResponseWriter, r *http.Request) {
	flow, err := talk.Start(r.FormValue("kind"), r.FormValue("to"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = map[int]*talk.Flow{}
	}
	f.last++
	f.all[f.last] = flow
	reply(w, f.last)
}

func (f *flows) end(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.FormValue("id"))
	f.mu.Lock()
	flow := f.all[id]
	delete(f.all, id)
	f.mu.Unlock()
	if err != nil || flow == nil {
		http.Error(w, "id must be that of a flow", http.StatusNotFound)
		return
	}
	reply(w, flow.End())
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who asked may have gone
}
