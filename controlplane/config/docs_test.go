// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const document = "../../docs/kube-config.md"

// TestDocument holds the generated parts of the document to the code.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	got := string(b)
	for name, text := range map[string]string{
		"keys": keysTable(), "ports": portsTable(), "owned-keys": ownedKeysTable(ownedKubeletKeys), "owned-dataplane-keys": ownedKeysTable(ownedDataplaneKeys), "owned-flags": ownedFlagsTable(),
	} {
		re := regexp.MustCompile(`(?s)(<!-- begin ` + name + `:[^\n]*-->\n).*(<!-- end ` + name + ` -->)`)
		if !re.MatchString(got) {
			t.Errorf("%s has no part %s", document, name)
		}
		got = re.ReplaceAllString(got, "${1}"+strings.ReplaceAll(text, "$", "$$")+"${2}")
	}
	if *update {
		if err := os.WriteFile(document, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(b), got); diff != "" {
		t.Errorf("%s is not what the code says (-document +code), write it anew with -update:\n%s", document, diff)
	}
}

var defaultInUsage = regexp.MustCompile(` \(default: (.*)\)$`)

func keysTable() string {
	var b strings.Builder
	b.WriteString("| Key | Flag | Variable | Default | Meaning |\n|---|---|---|---|---|\n")
	for _, o := range options.Options {
		usage, def := o.Usage, o.Default(Default())
		if m := defaultInUsage.FindStringSubmatch(usage); m != nil {
			usage, def = strings.TrimSuffix(usage, m[0]), m[1]
		} else if def != "" {
			def = "`" + strings.TrimSuffix(def, "0m0s") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | `--%s` | `%s` | %s | %s |\n", o.Field, o.Flag(), options.EnvName(o.Field), def, usage)
	}
	return b.String()
}

func portsTable() string {
	var b strings.Builder
	b.WriteString("| Port | On | For | Set by |\n|---|---|---|---|\n")
	for _, p := range Ports(Default()) {
		set := ""
		if p.Field != "" {
			set = "`" + p.Field + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", p, p.Scope, p.Use, set)
	}
	return b.String()
}

func ownedKeysTable(owned map[string]string) string {
	byRemedy := map[string][]string{}
	for key, remedy := range owned {
		byRemedy[remedy] = append(byRemedy[remedy], "`"+key+"`")
	}
	var b strings.Builder
	b.WriteString("| Keys | Instead |\n|---|---|\n")
	rows := []string{}
	for remedy, keys := range byRemedy {
		slices.Sort(keys)
		rows = append(rows, fmt.Sprintf("| %s | %s |\n", strings.Join(keys, ", "), remedy))
	}
	slices.Sort(rows)
	return b.String() + strings.Join(rows, "")
}

func ownedFlagsTable() string {
	var b strings.Builder
	b.WriteString("| Component | Flags | Instead |\n|---|---|---|\n")
	for _, component := range slices.Sorted(maps.Keys(ownedFlags)) {
		for _, o := range ownedFlags[component] {
			fmt.Fprintf(&b, "| %s | `%s` | %s |\n", component, strings.Join(strings.Fields(o.names), "`, `"), o.remedy)
		}
	}
	return b.String()
}

// TestDocumentExamples loads the document's examples.
func TestDocumentExamples(t *testing.T) {
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(b), -1)
	if len(examples) < 3 {
		t.Fatalf("%d examples", len(examples))
	}
	for _, m := range examples {
		path := filepath.Join(t.TempDir(), "kube.yaml")
		if err := os.WriteFile(path, []byte(m[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(nil, []string{"WAGGLE_CONFIG=" + path}); err != nil {
			t.Errorf("%v in\n%s", err, m[1])
		}
	}
}

// TestDocumentNamesRegistryKeys: they are no options, so the table has them not.
func TestDocumentNamesRegistryKeys(t *testing.T) {
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range []reflect.Type{reflect.TypeFor[Registry](), reflect.TypeFor[Mirror]()} {
		for f := range of.Fields() {
			if key := f.Tag.Get("json"); !strings.Contains(string(b), "`"+key+"`") {
				t.Errorf("%s does not name %s of %s", document, key, of)
			}
		}
	}
}

// TestOptionOfEachField holds fields and options together, and their names apart.
func TestOptionOfEachField(t *testing.T) {
	fields := map[string]bool{"apiVersion": true, "kind": true} // a file's, not a setting
	names := map[string]string{configFlag: "the file", configEnv: "the file"}
	for _, o := range options.Options {
		fields[o.Field] = true
		for _, name := range []string{o.Flag(), options.EnvName(o.Field)} {
			if names[name] != "" {
				t.Errorf("%s is for %s and for %s", name, names[name], o.Field)
			}
			names[name] = o.Field
		}
		if newFlags().Lookup(o.Flag()) == nil {
			t.Errorf("no flag --%s", o.Flag())
		}
	}
	n := eachField(reflect.TypeFor[Config](), "", func(name string) {
		if !fields[name] {
			t.Errorf("no flag and no environment variable for %s", name)
		}
	})
	if n != len(fields) {
		t.Errorf("%d fields and %d options", n, len(fields))
	}
}

// eachField visits the fields that are no sections, and counts them.
func eachField(of reflect.Type, prefix string, visit func(string)) int {
	n := 0
	for f := range of.Fields() {
		name := prefix + f.Tag.Get("json")
		_, isText := reflect.PointerTo(f.Type).MethodByName("UnmarshalText")
		if f.Type.Kind() == reflect.Struct && !isText {
			n += eachField(f.Type, name+".", visit)
			continue
		}
		visit(name)
		n++
	}
	return n
}

// TestEnvironmentOfEachField sets each field by its variable to what its flag
// shows as the default, or to something where that is nothing.
func TestEnvironmentOfEachField(t *testing.T) {
	other := map[string]string{
		"nodeName": "n", "nodeIPs": "192.0.2.1,2001:db8::1", "apiserver.tlsSANs": "a.example", "dns.addresses": "10.96.0.10,fd00:10:96::a",
		"dns.upstreams": "192.0.2.53", "containerRuntime.registries": "[{host: docker.io}]", "kubelet.config": "{maxPods: 5}", "dataplane.config": "{mtu: 1400}",
		"kubelet.labels": "a=b", "kubelet.taints": "a:NoExecute", "components.etcd": "snapshot-count=5", "components.apiserver": "profiling=false",
		"components.controllerManager": "profiling=false", "components.scheduler": "profiling=false", "audit.policyFile": "/x", "audit.path": "/x", "snapshots.dir": "/x/y",
	}
	for _, o := range options.Options {
		text := o.Default(Default())
		if text == "" {
			text = other[o.Field]
		}
		if text == "" {
			t.Errorf("no value for %s", o.Field)
		}
		c := &Config{}
		src, errs := options.Apply(c, []string{options.EnvName(o.Field) + "=" + text}, nil)
		if len(errs) > 0 || src.FromFile(o.Field) {
			t.Errorf("%s=%s: %v", options.EnvName(o.Field), text, errs)
		}
		if v := reflect.ValueOf(o.Ptr(c)).Elem(); v.IsZero() && text != "false" {
			t.Errorf("%s=%s left the field empty", options.EnvName(o.Field), text)
		}
	}
}

// The sample is valid, and what is commented out are the defaults, all of them.
func TestSample(t *testing.T) {
	const path = "../../deploy/waggle-kube.yaml"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	setting := regexp.MustCompile(`(?m)^#((  )?[a-zA-Z]+:)`) // prose has one blank
	shown := setting.ReplaceAll(b, []byte("$1"))
	hostname := func() (string, error) { return "n", nil }
	read := func(data []byte) *Config {
		file := filepath.Join(t.TempDir(), "kube.yaml")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := load(file, false, nil, nil, hostname)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	none := strings.NewReplacer("null", "[]", "{}", "[]") // what is absent is empty
	want, got := none.Replace(read(b).String()), none.Replace(read(shown).String())
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the comments are not the defaults (-default +comment):\n%s", diff)
	}
	eachField(reflect.TypeFor[Config](), "", func(name string) {
		key := name[strings.LastIndexByte(name, '.')+1:]
		if !regexp.MustCompile(`(?m)^( *|.*[{,] *)` + key + `:`).Match(shown) {
			t.Errorf("%s does not show %s", path, name)
		}
	})
}
