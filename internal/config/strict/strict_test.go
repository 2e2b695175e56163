// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

type inner struct {
	Number int   `json:"number"`
	Maybe  *bool `json:"maybe"`
}

type outer struct {
	Text  string   `json:"text"`
	List  []inner  `json:"list"`
	Words []string `json:"words"`
}

func TestDecode(t *testing.T) {
	yes := true
	for name, row := range map[string]struct {
		text string
		want outer
		errs []string
	}{
		"nothing":          {"", outer{Text: "default"}, nil},
		"null is unset":    {"text: ~\nlist:\nwords: []", outer{Text: "default", Words: []string{}}, nil},
		"all":              {"{text: a, list: [{number: -1, maybe: true}, {}], words: [x]}", outer{"a", []inner{{-1, &yes}, {}}, []string{"x"}}, nil},
		"positions stay":   {"list: [{number: a}, {number: 2}]", outer{"default", []inner{{}, {Number: 2}}, nil}, []string{`list[0].number: Invalid value: "a": use a plain whole number`}},
		"keys of any kind": {"? [a]\n: 1\n~: 2", outer{Text: "default"}, []string{`(document): Invalid value: "[...]": a list, at line 1: write a plain word as a key`, "~: Forbidden: unknown key: use one of list, text, words"}},
		"alias":            {"{text: &a x, words: [*a]}", outer{"default", nil, []string{""}}, []string{"text: Forbidden: anchors and aliases are not supported: write the value out", "words[0]: Forbidden: anchors and aliases are not supported: write the value out"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := outer{Text: "default"}
			list, err := Decode([]byte(row.text), &got)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
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

type open struct {
	Texts map[string]string `json:"texts"`
	Any   map[string]any    `json:"any"`
}

// TestDecodeMaps is about keys and values that are not ours.
func TestDecodeMaps(t *testing.T) {
	for name, row := range map[string]struct {
		text string
		want open
		errs []string
	}{
		"texts":      {"texts: {a: b, '1': '2'}", open{Texts: map[string]string{"a": "b", "1": "2"}}, nil},
		"no text":    {"texts: {a.b: 5, c: ~, d: e}", open{Texts: map[string]string{"a.b": "", "d": "e"}}, []string{`texts[a.b]: Invalid value: "5": not text for YAML: put quotes around it: "5"`, "texts[c]: Required value: an empty value: write one, after a colon and a blank, or take the key out"}},
		"repeated":   {"texts: {a: b, a: c}", open{Texts: map[string]string{"a": "b"}}, []string{`texts[a]: Duplicate value: "a": the key is at lines 1 and 1: keep one`}},
		"no mapping": {"texts: [a]\nany: 5", open{}, []string{`texts: Invalid value: "[...]": a list, at line 1: write a mapping of keys to values`, `any: Invalid value: "5": a single value, at line 2: write a mapping of keys to values`}},
		"anything":   {"any: {a: {b: [1, -2, 1.5, 1e3, true, 'true', 2001-01-01, yes]}, c: {}, d: []}", open{Any: map[string]any{"a": map[string]any{"b": []any{int64(1), int64(-2), 1.5, int64(1000), true, "true", "2001-01-01", "yes"}}, "c": map[string]any{}, "d": []any{}}}, nil},
		"not anything": {"any: {a: [.nan, 010, 0x1f, !!binary aGk=, ~], b: {c: &x 1, d: *x, e: }}", open{Any: map[string]any{"a": []any{nil, nil, nil, nil, nil}, "b": map[string]any{"c": nil, "d": nil}}}, []string{
			`any.a[0]: Invalid value: ".nan": use a plain number, or quotes around it where text is meant`,
			`any.a[1]: Invalid value: "010": use a plain whole number, or quotes around it where text is meant`,
			`any.a[2]: Invalid value: "0x1f": use a plain whole number, or quotes around it where text is meant`,
			`any.a[3]: Invalid value: "aGk=": YAML's !!binary is not supported: put quotes around the text`,
			"any.a[4]: Required value: an empty list element: take it out",
			"any.b.c: Forbidden: anchors and aliases are not supported: write the value out",
			"any.b.d: Forbidden: anchors and aliases are not supported: write the value out",
			"any.b.e: Required value: an empty value: write one, after a colon and a blank, or take the key out",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var got open
			list, err := Decode([]byte(row.text), &got)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
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

func TestDecodeAt(t *testing.T) {
	var got []inner
	list, err := DecodeAt(field.NewPath("a", "b"), []byte("[{number: 1}, {numbr: 2}]"), &got)
	if err != nil || len(got) != 2 || got[0].Number != 1 {
		t.Errorf("got %v, %v", got, err)
	}
	if want := "a.b[1].numbr: Forbidden: unknown key: did you mean number?"; len(list) != 1 || list[0].Error() != want {
		t.Errorf("got %v, want %s", list, want)
	}
	list, err = DecodeAt(field.NewPath("a"), []byte("5"), &got)
	if err != nil || len(list) != 1 || list[0].Field != "a" {
		t.Errorf("got %v, %v", list, err)
	}
}

func TestKeys(t *testing.T) {
	for text, want := range map[string]string{
		"a: {b: 1, c: {d: [{e: 1}]}, f: ~}\ng:\nh: ''": "map[a:true a.b:true a.c:true a.c.d:true h:true]",
		"[a]":             "map[]",
		"":                "map[]",
		"a: [":            "map[]",
		"a: 1\n---\nb: 2": "map[]",
	} {
		if got := fmt.Sprint(Keys([]byte(text))); got != want {
			t.Errorf("keys of %q: %s, want %s", text, got, want)
		}
	}
}

func TestDecodeNoDocument(t *testing.T) {
	for text, want := range map[string]string{
		"a: [":                           "parse yaml: line 1: did not find expected node content",
		"a: 1\n---\nb: [":                "parse yaml: line 3: did not find expected node content",
		"a: 1\n---\n":                    "parse yaml: a second document begins at line 2: keep one",
		strings.Repeat("x", maxBytes+1):  "parse yaml: more than 16777216 bytes",
		strings.Repeat("[", 20000) + "a": "parse yaml: exceeded max depth of 10000",
	} {
		_, err := Decode([]byte(text), &outer{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %s", text, err, want)
		}
	}
}

func TestSuggest(t *testing.T) {
	known := map[string]int{"podCIDRs": 0, "mtu": 1, "maps": 2}
	for name, want := range map[string]string{
		"podcidr":                        "did you mean podCIDRs?",
		"MTU":                            "did you mean mtu?",
		"mpas":                           "did you mean maps?",
		"x":                              "use one of maps, mtu, podCIDRs",
		"":                               "use one of maps, mtu, podCIDRs",
		strings.Repeat("podCIDRs", 1000): "use one of maps, mtu, podCIDRs",
	} {
		if got := suggest(name, known); got != want {
			t.Errorf("suggest(%.20q) = %q, want %q", name, got, want)
		}
	}
}

func TestMerge(t *testing.T) {
	at := func(names ...string) *field.Error { return field.Required(field.NewPath(names[0], names[1:]...), "") }
	got := Merge(
		field.ErrorList{at("a"), at("b", "c")},
		field.ErrorList{at("a"), at("a", "x"), field.Required(field.NewPath("a").Index(1), ""), at("ab"), at("b"), at("b", "c")},
	)
	var fields []string
	for _, e := range got {
		fields = append(fields, e.Field)
	}
	if diff := cmp.Diff([]string{"a", "b.c", "ab", "b"}, fields); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := Merge(field.ErrorList{at(wholeDocument)}, field.ErrorList{at("a")}); len(got) != 1 {
		t.Errorf("got %v besides an error about the whole document", got)
	}
}

func TestErrors(t *testing.T) {
	if err := Err(nil); err != nil {
		t.Errorf("no mistakes are the error %v", err)
	}
	err := Err(field.ErrorList{field.Required(field.NewPath("a"), "x"), field.Required(field.NewPath("b"), "y")})
	if want := "2 errors:\n  a: Required value: x\n  b: Required value: y"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if single, ok := errors.AsType[*field.Error](err); !ok || single.Field != "a" {
		t.Errorf("errors.AsType finds %v", single)
	}
}
