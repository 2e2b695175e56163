// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	_ "embed" // for the page
	"errors"
	"html/template"
	"net/http"
)

//go:embed page.html
var pageSource string

var pageTemplate = template.Must(template.New("page").Parse(pageSource))

// pageData is what the page shows.
type pageData struct {
	Self    replica
	Client  string
	Entries []entry
	// Name and Text are what the form has already: what was refused can be repaired.
	Name, Text       string
	MaxName, MaxText int
	// Problem is what was wrong with the form, Failure what is wrong with Redis.
	Problem, Failure string
}

// page shows the entries. Where they cannot be read it says so, and is of use still.
func (h *handler) page(w http.ResponseWriter, r *http.Request) {
	h.render(w, r, http.StatusOK, pageData{})
}

// form keeps an entry, and shows the page anew: by a redirect, so that to reload it
// does not repeat the entry.
func (h *handler) form(w http.ResponseWriter, r *http.Request) {
	e, err := parse(r)
	if err == nil {
		_, err = h.keep(r.Context(), e)
	}
	if err != nil {
		h.render(w, r, h.status(err), pageData{Name: r.PostForm.Get("name"), Text: r.PostForm.Get("text"), Problem: err.Error()})
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// parse reads the form.
func parse(r *http.Request) (entry, error) {
	if err := r.ParseForm(); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return entry{}, err
		}
		return entry{}, invalidError("the form is malformed: " + err.Error())
	}
	return newEntry(r.PostForm.Get("name"), r.PostForm.Get("text"))
}

func (h *handler) render(w http.ResponseWriter, r *http.Request, status int, data pageData) {
	data.Self, data.Client, data.MaxName, data.MaxText = h.self, r.RemoteAddr, maxName, maxText
	var err error
	if data.Entries, err = h.entries.List(r.Context()); err != nil {
		h.log.Warn("cannot read entries", "err", err)
		data.Failure = err.Error()
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, data); err != nil {
		h.log.Error("cannot render the page", "err", err)
		http.Error(w, "the page cannot be shown: see the log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy",
		"default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	w.WriteHeader(status)
	if _, err := b.WriteTo(w); err != nil {
		h.log.Warn("cannot answer", "err", err)
	}
}
