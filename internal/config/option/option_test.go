// SPDX-License-Identifier: Apache-2.0

package option

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/waggle-net/waggle/internal/config/strict"
)

type item struct {
	Name string `json:"name"`
}

type conf struct {
	Text  string
	On    bool
	N     int
	U     uint32
	D     Duration
	CIDRs []netip.Prefix
	Words []string
	Map   map[string]string
	Any   map[string]any
	Items []item
}

var set = Set[conf]{
	Env: "TEST_",
	Default: func() *conf {
		return &conf{Text: "default", Words: []string{"a", "b"}, D: Duration{Duration: time.Minute}}
	},
	Options: []Option[conf]{
		{"text", "text", "a text", func(c *conf) any { return &c.Text }},
		{"on", "", "a switch", func(c *conf) any { return &c.On }},
		{"n", "n", "a number", func(c *conf) any { return &c.N }},
		{"u", "n", "a number", func(c *conf) any { return &c.U }},
		{"d", "duration", "a time", func(c *conf) any { return &c.D }},
		{"podCIDRs", "cidrs", "ranges", func(c *conf) any { return &c.CIDRs }},
		{"in.words", "words", "words", func(c *conf) any { return &c.Words }},
		{"in.map", "name=value", "texts", func(c *conf) any { return &c.Map }},
		{"any", "yaml", "anything", func(c *conf) any { return &c.Any }},
		{"items", "yaml", "items", func(c *conf) any { return &c.Items }},
	},
}

func TestApply(t *testing.T) {
	for name, row := range map[string]struct {
		env   []string
		flags string // between blanks
		want  func(*conf)
		errs  []string
	}{
		"nothing": {nil, "", func(*conf) {}, nil},
		"flags": {nil, "--text x --on --n 3 --u 4 --d 5s --pod-cidrs 192.0.2.0/24", func(c *conf) {
			c.Text, c.On, c.N, c.U, c.D, c.CIDRs = "x", true, 3, 4, Duration{Duration: 5 * time.Second}, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		}, nil},
		"environment":        {[]string{"TEST_TEXT=x", "TEST_ON=true", "TEST_U=4", "OTHER=1"}, "", func(c *conf) { c.Text, c.On, c.U = "x", true, 4 }, nil},
		"flags win":          {[]string{"TEST_TEXT=x", "TEST_IN_WORDS=x,y"}, "--text y --in-words z", func(c *conf) { c.Text, c.Words = "y", []string{"z"} }, nil},
		"a list is replaced": {nil, "--in-words x,y --in-words z", func(c *conf) { c.Words = []string{"x", "y", "z"} }, nil},
		"a list is cleared":  {nil, "--in-words=", func(c *conf) { c.Words = nil }, nil},
		"empty is unset":     {[]string{"TEST_TEXT=", "TEST_ON="}, "", func(*conf) {}, nil},
		"mappings":           {[]string{"TEST_IN_MAP={f: g}"}, "--in-map a=b=c --in-map {\"d\":\"e\"}", func(c *conf) { c.Map = map[string]string{"a": "b=c", "d": "e"} }, nil},
		"mapping of YAML":    {[]string{"TEST_IN_MAP={a: b, c: d}"}, "", func(c *conf) { c.Map = map[string]string{"a": "b", "c": "d"} }, nil},
		"anything":           {[]string{"TEST_ANY={\"a\":[1,2.5,true,x]}"}, "", func(c *conf) { c.Any = map[string]any{"a": []any{int64(1), 2.5, true, "x"}} }, nil},
		"structs":            {nil, "--items [{\"name\":\"a\"}] --items [{\"name\":\"b\"}]", func(c *conf) { c.Items = []item{{"a"}, {"b"}} }, nil},
		"yaml errors":        {[]string{"TEST_ITEMS=[{\"nam\":\"a\"}]"}, "--any [", func(c *conf) { c.Items = []item{{}} }, []string{"items[0].nam: Forbidden: unknown key: did you mean name? (set by TEST_ITEMS)", "any: Forbidden: parse yaml: line 1: did not find expected node content (set by --any)"}},
		"unreadable":         {[]string{"TEST_U=-1", "TEST_N=x", "TEST_POD_CIDRS=192.0.2.0/24,x"}, "", func(c *conf) { c.CIDRs = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }, []string{`u: Invalid value: "-1": use a whole number from 0 to 4294967295 (set by TEST_U)`, `n: Invalid value: "x": use a whole number (set by TEST_N)`, `podCIDRs: Invalid value: "192.0.2.0/24,x": "x": not a CIDR: write it as 10.244.1.0/24 or fd00:10:244:1::/64 (set by TEST_POD_CIDRS)`}},
		"a flag repairs":     {[]string{"TEST_N=x"}, "--n 5", func(c *conf) { c.N = 5 }, nil},
		"unknown variables":  {[]string{"TEST_TXET=x", "TEST_IN_BANANAS=x", "TEST_BANANAS=x"}, "", func(*conf) {}, []string{"TEST_TXET: Forbidden: unknown environment variable: did you mean TEST_TEXT?", "TEST_IN_BANANAS: Forbidden: unknown environment variable: use one of TEST_IN_WORDS, TEST_IN_MAP"}},
	} {
		t.Run(name, func(t *testing.T) {
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			set.AddFlags(flags)
			flags.Bool("other", false, "somebody else's")
			if err := flags.Parse(append(strings.Fields(row.flags), "--other")); err != nil && row.flags != "" {
				t.Fatal(err)
			}
			got, want := set.Default(), set.Default()
			row.want(want)
			src, list := set.Apply(got, row.env, flags)
			src.Attribute(list)
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			var errs []string
			for _, e := range list {
				errs = append(errs, e.Error())
			}
			if diff := cmp.Diff(row.errs, errs); diff != "" {
				t.Errorf("errors: -want +got:\n%s", diff)
			}
		})
	}
}

func TestAttribute(t *testing.T) {
	src, _ := set.Apply(set.Default(), []string{"TEST_U=5"}, nil)
	src.NameFile(strict.Keys([]byte("{text: x, in: {words: [y], map: ~}}")))
	list := field.ErrorList{}
	for _, p := range []*field.Path{Path("u"), Path("text"), Path("in.words").Index(3), Path("in.map").Key("a"), Path("in"), Path("n"), Path("textual")} {
		list = append(list, field.Invalid(p, "v", "d"))
	}
	list = append(list, field.Required(Path("n"), "d"))
	src.Attribute(list)
	var got []string
	for _, e := range list {
		got = append(got, e.Field+" "+e.Detail)
	}
	want := []string{"u d (set by TEST_U)", "text d (set by the file)", "in.words[3] d (set by the file)", "in.map[a] d (the default)", "in d", "n d (the default)", "textual d", "n d"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if !src.FromFile("text") || src.FromFile("u") || src.FromFile("in.map") {
		t.Error("FromFile knows not what the file has set")
	}
}

func TestNames(t *testing.T) {
	for path, want := range map[string]string{
		"podCIDRs": "pod-cidrs", "bpfRoot": "bpf-root", "ipam.restTime": "ipam-rest-time", "mtu": "mtu", "nodeIPs": "node-ips",
		"apiserver.tlsSANs": "apiserver-tls-sans", "nodeCIDRMaskSizes.ipv4": "node-cidr-mask-sizes-ipv4", "audit.maxSizeMB": "audit-max-size-mb",
	} {
		if got := FlagName(path); got != want {
			t.Errorf("FlagName(%s) = %s, want %s", path, got, want)
		}
		if got, want := set.EnvName(path), "TEST_"+strings.ToUpper(strings.ReplaceAll(want, "-", "_")); got != want {
			t.Errorf("EnvName(%s) = %s, want %s", path, got, want)
		}
	}
}

func TestHelp(t *testing.T) {
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	set.AddFlags(flags)
	help := flags.FlagUsages()
	for _, want := range []string{"--in-words words", "words (default a,b)", "--text text", "(default default)", "--on ", "(default 1m0s)"} {
		if !strings.Contains(help, want) {
			t.Errorf("no %q in\n%s", want, help)
		}
	}
	if n := strings.Count(help, "(default"); n != 3 {
		t.Errorf("%d defaults in\n%s", n, help)
	}
}
