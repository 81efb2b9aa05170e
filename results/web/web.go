package web

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"strings"

	"clipinspector/internal/printable"
	"clipinspector/results/plots"
)

//go:embed templates static
var embedded embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{"short": short}).ParseFS(embedded, "templates/*.html"))

// stylesheet is the style of all pages, in the colours and fonts of the figures.
func stylesheet() string { return plots.Tokens() + static("viewer.css") }

func static(name string) string {
	raw, err := embedded.ReadFile("static/" + name)
	if err != nil {
		panic(err) // it is built in
	}
	return string(raw)
}

// policy lets a page load what this server serves and nothing else: no script, style or picture
// that stands in the page's text.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'"

// Handler serves the viewer's pages on one port of this machine. It answers reading requests alone,
// and only those whose Host names this machine and port: a page of somebody else's, to which a name
// of his resolves to 127.0.0.1, gets nothing.
func Handler(src Source, port int) http.Handler {
	v := &viewer{src: src}
	mux := http.NewServeMux()
	for path, page := range map[string]func(*http.Request) (*page, error){"/{$}": v.index, "/suite": v.suite, "/model": v.model, "/compare": v.compare, "/audit": v.audit, "/pictures": v.pictures} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { v.serve(w, r, page) })
	}
	mux.HandleFunc("/plot.svg", v.plot)
	mux.HandleFunc("/status", v.status)
	for name, kind := range map[string]string{"viewer.css": "text/css; charset=utf-8", "viewer.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"} {
		text := static(name)
		if name == "viewer.css" {
			text = stylesheet()
		}
		mux.HandleFunc("/"+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			fmt.Fprint(w, text)
		})
	}
	hosts := []string{net.JoinHostPort("127.0.0.1", fmt.Sprint(port)), net.JoinHostPort("localhost", fmt.Sprint(port))}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case r.Host != hosts[0] && r.Host != hosts[1]:
			http.Error(w, "this viewer answers to "+strings.Join(hosts, " and ")+" alone", http.StatusForbidden)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "this viewer only reads", http.StatusMethodNotAllowed)
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// viewer answers requests.
type viewer struct {
	src   Source
	plots plotCache
}

// page is a filled template.
type page struct {
	Title    string
	Template string
	Data     any
	Crumbs   []crumb
	Live     string // address to ask whether there is something new; empty for never
	Version  string // what is shown
	File     bool   // whether it is a report in one file
	Style    template.CSS
	Script   template.JS
	Policy   string
}

type crumb struct{ Text, Href string }

// missing is the error of an address that names nothing.
type missing struct{ error }

func notFound(format string, args ...any) error { return missing{fmt.Errorf(format, args...)} }

func (v *viewer) serve(w http.ResponseWriter, r *http.Request, build func(*http.Request) (*page, error)) {
	p, err := build(r)
	status := http.StatusOK
	if err != nil {
		status = http.StatusInternalServerError
		if m := (missing{}); errors.As(err, &m) {
			status = http.StatusNotFound
		}
		p = &page{Title: "Nothing to show", Template: "error", Data: err.Error()}
	}
	text, err := p.render()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(text) // a browser that is gone has nobody to tell
}

// render fills the page's template. What strangers' text holds beside marks, such as what turns the
// direction of writing, is made visible.
func (p *page) render() ([]byte, error) {
	var main, whole bytes.Buffer
	if err := pages.ExecuteTemplate(&main, p.Template, p.Data); err != nil {
		return nil, err
	}
	err := pages.ExecuteTemplate(&whole, "layout", struct {
		*page
		Main template.HTML
	}{p, template.HTML(main.String())})
	return []byte(printable.Lines(whole.String())), err
}

// address is the address of a page with its parameters, given as name, value, name, value; empty
// values are left out.
func address(path string, params ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		if params[i+1] != "" {
			q.Add(params[i], params[i+1])
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// short is the beginning of a hash.
func short(hash string) string {
	if len(hash) > 12 {
		return hash[:12]
	}
	return hash
}
