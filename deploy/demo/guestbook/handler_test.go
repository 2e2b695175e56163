// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// memory keeps entries as long as it is not broken.
type memory struct {
	mu      sync.Mutex
	entries []entry
	broken  error
}

func (m *memory) Add(_ context.Context, e entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken == nil {
		m.entries = slices.Insert(m.entries, 0, e)
	}
	return m.broken
}

func (m *memory) List(context.Context) ([]entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]entry{}, m.entries...), m.broken
}

// texts are what is kept, without who and when.
func (m *memory) texts() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	texts := []string{}
	for _, e := range m.entries {
		texts = append(texts, e.Name+": "+e.Text)
	}
	return texts
}

func testHandler(t *testing.T, entries entryStore) *handler {
	t.Helper()
	self := replica{Pod: "pod-1", Node: "node1", IPs: []string{"192.0.2.1", "2001:db8::1"}}
	return newHandler(slog.New(slog.NewTextHandler(t.Output(), nil)), self, entries)
}

func ask(t *testing.T, h http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const formType = "application/x-www-form-urlencoded"

func TestPage(t *testing.T) {
	h := testHandler(t, &memory{})
	form := url.Values{"name": {`"Bobby" & co`}, "text": {"<script>alert(1)</script>\r\nand more"}}.Encode()
	w := ask(t, h, "POST", "/", form, "Content-Type", formType)
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/" {
		t.Errorf("POST /: %d to %q, want a redirect to /", w.Code, w.Header().Get("Location"))
	}
	w = ask(t, h, "GET", "/", "")
	page := w.Body.String()
	for _, want := range []string{
		"<dd>pod-1</dd>", "<dd>192.0.2.1, 2001:db8::1</dd>", "<dd>node1</dd>", "<dd>192.0.2.1:1234</dd>",
		"<p>&lt;script&gt;alert(1)&lt;/script&gt;\nand more</p>", "&#34;Bobby&#34; &amp; co", " UTC, taken by pod-1",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	for name, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if policy := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none';") {
		t.Errorf("Content-Security-Policy: %q", policy)
	}
}

func TestPageOfNobody(t *testing.T) {
	h := newHandler(slog.New(slog.DiscardHandler), replica{Pod: "x"}, &memory{})
	page := ask(t, h, "GET", "/", "").Body.String()
	if !strings.Contains(page, "Nobody has signed yet.") || strings.Contains(page, "on the node") {
		t.Error(page)
	}
}

// What a visitor did wrong is answered with what to change, on the page and as JSON, and
// nothing is kept.
func TestBadInput(t *testing.T) {
	long := strings.Repeat("ä", maxText+1)
	for _, tt := range []struct {
		name, person, text, want string
	}{
		{"empty", "Ada", "", "text is empty: write something"},
		{"blank", "Ada", " \r\n\t ", "text is empty: write something"},
		{"long text", "", long, "text has 501 characters: at most 500"},
		{"long name", long[:2*(maxName+1)], "x", "name has 41 characters: at most 40"},
		{"control character", "", "a\x00b", "text has the control character U+0000: leave it out"},
		{"lines in a name", "a\nb", "x", "name has the control character U+000A: leave it out"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kept := &memory{}
			h := testHandler(t, kept)
			w := ask(t, h, "POST", "/", url.Values{"name": {tt.person}, "text": {tt.text}}.Encode(), "Content-Type", formType)
			if w.Code != http.StatusBadRequest || !strings.Contains(html.UnescapeString(w.Body.String()), "Not kept: "+tt.want) {
				t.Errorf("form: %d, want 400 and %q in\n%s", w.Code, tt.want, w.Body)
			}
			body, err := json.Marshal(map[string]string{"name": tt.person, "text": tt.text})
			if err != nil {
				t.Fatal(err)
			}
			w = ask(t, h, "POST", "/api/entries", string(body))
			if want := `{"error":"` + tt.want + "\"}\n"; w.Code != http.StatusBadRequest || w.Body.String() != want {
				t.Errorf("JSON: %d %s, want 400 %s", w.Code, w.Body, want)
			}
			if diff := cmp.Diff([]string{}, kept.texts()); diff != "" {
				t.Errorf("kept: -want +got:\n%s", diff)
			}
		})
	}
}

func TestMalformedInput(t *testing.T) {
	h := testHandler(t, &memory{})
	for _, tt := range []struct {
		name, path, body string
		status           int
		want             string
	}{
		{"form not UTF-8", "/", "text=%ff%fe", 400, "Not kept: text is not valid UTF-8: send it in that encoding"},
		{"form broken", "/", "text=%zz", 400, "Not kept: the form is malformed: invalid URL escape"},
		{"form too large", "/", "text=" + strings.Repeat("x", maxBody), 413, "Not kept: http: request body too large"},
		{"JSON not UTF-8", "/api/entries", "{\"text\": \"\xff\"}", 400, `"the request is not valid UTF-8`},
		{"no JSON", "/api/entries", "hello", 400, `such as {\"name\": \"Ada\", \"text\": \"hello\"}`},
		{"JSON of something else", "/api/entries", "[]", 400, "the request is no entry"},
		{"JSON twice", "/api/entries", `{"text": "a"}{"text": "b"}`, 400, "the request is no entry"},
		{"JSON too large", "/api/entries", strings.Repeat(" ", maxBody+1), 413, "request body too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := ask(t, h, "POST", tt.path, tt.body, "Content-Type", formType)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
				t.Errorf("%d, want %d and %q in\n%s", w.Code, tt.status, tt.want, w.Body)
			}
		})
	}
}

// What was refused is in the form still, to be repaired.
func TestFormKeepsWhatWasRefused(t *testing.T) {
	h := testHandler(t, &memory{broken: errors.New("down")})
	w := ask(t, h, "POST", "/", "name=Ada&text=%3Chello%3E", "Content-Type", formType)
	page := w.Body.String()
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(page, `value="Ada"`) ||
		!strings.Contains(page, "&lt;hello&gt;</textarea>") || !strings.Contains(page, "Not kept: down") {
		t.Errorf("%d\n%s", w.Code, page)
	}
}

func TestAPI(t *testing.T) {
	kept := &memory{}
	h := testHandler(t, kept)
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/api/entries", "", 200, "[]\n"},
		{"POST", "/api/entries", `{"name": " Ada ", "text": "one"}`, 201, `{"name":"Ada","text":"one","time":"`},
		{"POST", "/api/entries", `{"text": "two\n<2>"}`, 201, `{"text":"two\n\u003c2\u003e","time":"`},
		{"GET", "/api/entries", "", 200, `[{"text":"two\n`},
		{"GET", "/api/whoami", "", 200, `{"pod":"pod-1","node":"node1","ips":["192.0.2.1","2001:db8::1"],"client":"192.0.2.1:1234"}` + "\n"},
		{"GET", "/healthz", "", 200, "ok\n"},
		{"GET", "/readyz", "", 200, "ok\n"},
		{"DELETE", "/api/entries", "", 405, "Method Not Allowed"},
		{"GET", "/nothing", "", 404, "not found"},
	} {
		w := ask(t, h, tt.method, tt.path, tt.body)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %s: %d %s, want %d %s", tt.method, tt.path, w.Code, w.Body, tt.status, tt.want)
		}
	}
	if diff := cmp.Diff([]string{": two\n<2>", "Ada: one"}, kept.texts()); diff != "" {
		t.Errorf("kept: -want +got:\n%s", diff)
	}
}

// Without Redis a replica is ready, since no other is better off, and says what is wrong.
func TestWithoutRedis(t *testing.T) {
	h := testHandler(t, &memory{broken: errors.New("no answer")})
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/", "", 200, "The entries cannot be read: no answer"},
		{"GET", "/api/entries", "", 503, `{"error":"no answer"}`},
		{"POST", "/api/entries", `{"text": "x"}`, 503, `{"error":"no answer"}`},
		{"GET", "/readyz", "", 200, "ok"},
		{"GET", "/healthz", "", 200, "ok"},
	} {
		w := ask(t, h, tt.method, tt.path, tt.body)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %s: %d, want %d and %q in\n%s", tt.method, tt.path, w.Code, tt.status, tt.want, w.Body)
		}
	}
}

// Another site's page cannot make its visitors write here; scripts and our own page can.
func TestOtherSitesCannotWrite(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header []string
		status int
	}{
		{"our page", []string{"Sec-Fetch-Site", "same-origin"}, http.StatusSeeOther},
		{"our page in an old browser", []string{"Origin", "http://example.com"}, http.StatusSeeOther},
		{"a script", nil, http.StatusSeeOther},
		{"another site", []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"another site in an old browser", []string{"Origin", "http://example.org"}, http.StatusForbidden},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := ask(t, testHandler(t, &memory{}), "POST", "/", "text=x", append(tt.header, "Content-Type", formType)...)
			if w.Code != tt.status {
				t.Errorf("%d, want %d: %s", w.Code, tt.status, w.Body)
			}
		})
	}
}

// FuzzDecode: what is taken can be shown and kept, and what is not, is the visitor's.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{"name": "Ada", "text": "hello"}`, `{"text": "\ud800"}`, "{\"text\": \"\xff\"}", `{"text": 1}`, "", "null"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		e, err := decode(strings.NewReader(body))
		if err != nil {
			if _, ok := errors.AsType[invalidError](err); !ok {
				t.Errorf("decode(%q) error = %v, which is not for the visitor", body, err)
			}
			return
		}
		again, err := newEntry(e.Name, e.Text)
		if err != nil || again != e {
			t.Errorf("decode(%q) = %+v, which is refused, or changed: %+v, %v", body, e, again, err)
		}
		if !utf8.ValidString(e.Name + e.Text) {
			t.Errorf("decode(%q) = %+v", body, e)
		}
	})
}
