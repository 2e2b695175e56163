// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// newServe is the server that the demo runs in pods and on the client. It says
// who answers, so that a table of results can tell that the right pod did.
func newServe() *cobra.Command {
	var (
		identity, listen string
	)
	cmd := &cobra.Command{
		Use:    "serve",
		Short:  "Answer HTTP requests with a name and the caller's address",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			listener, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			server := &http.Server{
				Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					fmt.Fprintf(w, "%s %s\n", identity, r.RemoteAddr)
				}),
				ReadHeaderTimeout: 10 * time.Second,
			}
			stop := context.AfterFunc(cmd.Context(), func() { server.Close() })
			defer stop()
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&identity, "as", "", "name to answer with")
	cmd.Flags().StringVar(&listen, "listen", ":8080", "address to listen on")
	return cmd
}

// newProbe asks a server for its name, each time over a new connection, and
// prints one line per address: the latency and the answer.
func newProbe() *cobra.Command {
	timeout := 3 * time.Second
	cmd := &cobra.Command{
		Use:    "probe ADDRESS:PORT...",
		Short:  "Ask servers who they are",
		Hidden: true,
		Args:   cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			failed := false
			for _, target := range args {
				took, answer, err := probe(cmd.Context(), target, timeout)
				if err != nil {
					failed = true
					fmt.Fprintf(os.Stdout, "FAIL %v\n", err)
					continue
				}
				fmt.Fprintf(os.Stdout, "OK %d %s\n", took.Microseconds(), answer)
			}
			if failed {
				return errors.New("probe: not all targets answered")
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "time for each target")
	return cmd
}

func probe(ctx context.Context, target string, timeout time.Duration) (time.Duration, string, error) {
	client := &http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+target+"/", nil)
	if err != nil {
		return 0, "", err
	}
	start := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return 0, "", err
	}
	return time.Since(start), strings.TrimSpace(string(body)), nil
}
