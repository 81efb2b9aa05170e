package store

import (
	"crypto/sha256"
	"path"
	"strings"
)

// question is the sum of what a cell asks: its settings and its parent's without what says by which
// program and of which bytes. A cell of the same question and another key was planned by an older
// program, on another engine, or of data that has changed since: it is not to be mixed with the new
// one.
func question(q queryer, f *family, key string) (sum [sha256.Size]byte, err error) {
	var settings settingsText
	var named, parent string
	if err := q.QueryRow(`SELECT `+f.asks()+` FROM `+string(f.kind)+` c WHERE key=?`, key).Scan(&settings, &named, &parent); err != nil {
		return sum, err
	}
	if f.parent == "" {
		return questionSum(settings, named, sum)
	}
	up, err := f.parent.family()
	if err != nil {
		return sum, err
	}
	above, err := question(q, up, parent)
	if err != nil {
		return sum, err
	}
	return questionSum(settings, named, above)
}

// asks are the columns that questionSum is made of, and the parent's key.
func (f *family) asks() string {
	if f.parent == "" {
		return `c.settings, ` + f.named + `, ''`
	}
	return `c.settings, ` + f.named + `, c.` + string(f.parent)
}

func questionSum(settings settingsText, named string, above [sha256.Size]byte) (sum [sha256.Size]byte, err error) {
	text, err := encodeMap(asked(settings))
	return sha256.Sum256(append([]byte(plainLabel(named)+" "+text), above[:]...)), err
}

// asked is a copy of settings without fingerprints, method versions and engines.
func asked(settings map[string]any) map[string]any {
	out := map[string]any{}
	for name, v := range settings {
		switch sub, ok := v.(map[string]any); {
		case name == "fingerprint" || name == "version" || name == "engine":
		case ok:
			out[name] = asked(sub)
		default:
			if text, ok := v.(string); ok && strings.HasPrefix(text, "folder:") {
				v = "folder:" // followed by a sum of its content, or a path in older stores
			}
			out[name] = v
		}
	}
	return out
}

// plainLabel is a label that ends with a dataset without what tells folders of one name apart.
func plainLabel(label string) string {
	label = strings.TrimSuffix(label, " (partial)")
	if before, folder, ok := strings.Cut(label, "folder:"); ok {
		folder, _, _ = strings.Cut(folder, "#")
		return before + "folder:" + path.Base(folder)
	}
	return label
}
