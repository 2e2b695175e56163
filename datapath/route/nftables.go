// SPDX-License-Identifier: Apache-2.0

package route

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ErrNoNFTables says that the kernel lacks what masquerade needs.
var ErrNoNFTables = errors.New("nftables NAT not supported (requires the kernel modules nf_tables, nft_chain_nat and nft_masq:" +
	" load them, or turn masquerade off in the configuration)")

// nftTimeout ends waiting for an answer that the kernel does not send, as for
// the rest of a batch whose subsystem is missing.
const nftTimeout = 10 * time.Second

// elementsPerMessage keeps a message of set elements below the 64 KiB of a
// netlink attribute.
const elementsPerMessage = 512

// table is the content of an nftables table.
type table struct {
	flags  uint32
	sets   []*set
	chains []*chain
}

type set struct {
	*nftables.Set
	elements []nftables.SetElement
}

type chain struct {
	*nftables.Chain
	rules []*nftables.Rule
}

// syncMasquerade makes our table what the configuration asks for. A table that
// is right stays, so that its counters do.
func (m *Manager) syncMasquerade(ctx context.Context) error {
	want := masqueradeTable(m.cfg)
	if want == nil {
		return m.removeMasquerade(ctx)
	}
	conn, err := dialNFTables(ctx)
	if err != nil {
		return fmt.Errorf("masquerade: connect to nftables: %w", err)
	}
	key := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	present, err := findTable(conn, key)
	if err != nil {
		return fmt.Errorf("masquerade: find table inet %s: %w", tableName, err)
	}
	if present {
		// A table that cannot be read is not one that we wrote. One that changes
		// while it is read is written again, at the price of its counters.
		if have, err := readTable(conn, key); err == nil && have.fingerprint() == want.fingerprint() {
			return nil
		}
		conn.DelTable(key)
	}
	if err := want.write(conn, key); err != nil {
		return fmt.Errorf("masquerade: write table inet %s: %w", tableName, explain(err))
	}
	m.log.Info("wrote masquerade table", "table", "inet "+tableName, "replaced", present)
	return nil
}

// removeMasquerade removes our table. Without nftables there is none.
func (m *Manager) removeMasquerade(ctx context.Context) error {
	conn, err := dialNFTables(ctx)
	key := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	present := false
	if err == nil {
		present, err = findTable(conn, key)
	}
	if err == nil && present {
		conn.DelTable(key)
		err = conn.Flush()
	}
	if errors.Is(err, ErrNoNFTables) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove table inet %s: %w", tableName, err)
	}
	return nil
}

func dialNFTables(ctx context.Context) (*nftables.Conn, error) {
	deadline := time.Now().Add(nftTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error { return c.SetDeadline(deadline) }))
}

// findTable says whether the table is there, and reads its flags. It comes
// before any batch: where nf_tables is missing, it is told so.
func findTable(conn *nftables.Conn, key *nftables.Table) (bool, error) {
	found, err := conn.ListTableOfFamily(key.Name, key.Family)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, explain(err, unix.EINVAL) // nobody takes requests of this kind
	}
	key.Flags = found.Flags
	return true, nil
}

func readTable(conn *nftables.Conn, key *nftables.Table) (*table, error) {
	t := &table{flags: key.Flags}
	sets, err := conn.GetSets(key)
	if err != nil {
		return nil, fmt.Errorf("list sets: %w", err)
	}
	for _, s := range sets {
		elements, err := conn.GetSetElements(s)
		if err != nil {
			return nil, fmt.Errorf("list elements of set %s: %w", s.Name, err)
		}
		t.sets = append(t.sets, &set{s, elements})
	}
	chains, err := conn.ListChainsOfTableFamily(key.Family)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	for _, c := range chains {
		if c.Table.Name != key.Name {
			continue
		}
		rules, err := conn.GetRules(key, c)
		if err != nil {
			return nil, fmt.Errorf("list rules of chain %s: %w", c.Name, err)
		}
		t.chains = append(t.chains, &chain{c, rules})
	}
	return t, nil
}

// write adds the table. The kernel switches from the old content to the new
// between two packets: what the connection collected arrives as one batch.
func (t *table) write(conn *nftables.Conn, key *nftables.Table) error {
	conn.AddTable(key)
	for _, s := range t.sets {
		s.Table = key
		if err := conn.AddSet(s.Set, nil); err != nil {
			return err
		}
		for part := range slices.Chunk(s.elements, elementsPerMessage) {
			if err := conn.SetAddElements(s.Set, part); err != nil {
				return err
			}
		}
	}
	for _, c := range t.chains {
		c.Table = key
		conn.AddChain(c.Chain)
		for _, r := range c.rules {
			r.Table, r.Chain = key, c.Chain
			conn.AddRule(r)
		}
	}
	return conn.Flush()
}

// fingerprint writes down what the table does, equal for equal tables: without
// handles, counters and the order of sets.
func (t *table) fingerprint() string {
	var lines []string
	for _, s := range t.sets {
		elements := slices.SortedFunc(slices.Values(s.elements), func(a, b nftables.SetElement) int {
			return cmp.Or(bytes.Compare(a.Key, b.Key), cmp.Compare(fmt.Sprint(a.IntervalEnd), fmt.Sprint(b.IntervalEnd)))
		})
		var line strings.Builder
		fmt.Fprintf(&line, "set %s %s interval=%t map=%t", s.Name, s.KeyType.Name, s.Interval, s.IsMap)
		for _, e := range elements {
			fmt.Fprintf(&line, " %x end=%t", e.Key, e.IntervalEnd)
		}
		lines = append(lines, line.String())
	}
	slices.Sort(lines)
	for _, c := range t.chains {
		lines = append(lines, fmt.Sprintf("chain %s %s %s %s %s", c.Name, c.Type, text(c.Hooknum), text(c.Priority), text(c.Policy)))
		for _, r := range c.rules {
			lines = append(lines, fmt.Sprintf("rule %q %s", r.UserData, exprText(r.Exprs)))
		}
	}
	return fmt.Sprintf("table flags=%d\n%s\n", t.flags, strings.Join(lines, "\n"))
}

func text[T any](p *T) string {
	if p == nil {
		return "none"
	}
	return fmt.Sprint(*p)
}

func exprText(exprs []expr.Any) string {
	var b strings.Builder
	for _, e := range exprs {
		switch v := e.(type) {
		case *expr.Counter:
			e = &expr.Counter{}
		case *expr.Lookup:
			// The number means the set inside of one batch only.
			lookup := *v
			lookup.SetID = 0
			e = &lookup
		}
		data, err := expr.Marshal(unix.NFPROTO_INET, e)
		fmt.Fprintf(&b, "%T %x %v; ", e, data, err)
	}
	return b.String()
}

// explain turns the ways in which the kernel says that a part of nftables is
// missing into ErrNoNFTables. Further ones depend on what was asked.
func explain(err error, further ...error) error {
	for _, sign := range append(further,
		unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, // no netlink for netfilter
		unix.EOPNOTSUPP, // no nf_tables
		unix.ENOENT,     // no chains of type nat, or no masquerade
	) {
		if errors.Is(err, sign) {
			return fmt.Errorf("%w: %w", ErrNoNFTables, err)
		}
	}
	return err
}
